//! The order in which keys were created.

use std::sync::Arc;

use fluxgate_types::KeyId;

/// One place in the order of creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) seq: u32,
    pub(super) id: KeyId,
}

/// Places in one piece of the order: a change copies the piece that it concerns, if a reader uses it.
pub(super) const ORDER_PIECE: usize = 4_096;

/// Keys in order of creation. An erased key leaves its place empty, so that a list can continue
/// on any node; empty places are swept once they are as many as the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    // Ascending. A place is empty if its record does not exist or has another place.
    pieces: Vec<Arc<Vec<Place>>>,
    // Places, empty ones included.
    count: usize,
    pub(super) empty: usize,
    pub(super) next_seq: u32,
}

impl Order {
    /// Without places; the next key gets the same one as in this order.
    pub(super) fn emptied(&self) -> Self {
        Self { next_seq: self.next_seq, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.count - self.empty
    }

    pub(super) fn push(&mut self, place: Place) {
        self.count += 1;
        match self.pieces.last_mut().filter(|piece| piece.len() < ORDER_PIECE) {
            Some(piece) => Arc::make_mut(piece).push(place),
            None => self.pieces.push(Arc::new(vec![place])),
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// The places below this one, newest first.
    pub(super) fn before(&self, seq: usize) -> impl Iterator<Item = &Place> {
        let begins = |piece: &Arc<Vec<Place>>| piece.first().map_or(0, |place| place.seq);
        let end = self.pieces.partition_point(|piece| (begins(piece) as usize) < seq);
        let newest_first = self.pieces[..end].iter().rev().flat_map(|piece| piece.iter().rev());
        newest_first.skip_while(move |place| place.seq as usize >= seq)
    }
}
