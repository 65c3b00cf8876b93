//! Receives a snapshot, piece by piece.
//!
//! Answers for: pieces are written in order, one at a time, where blocking is allowed. A disk that
//! stalls delays the snapshot and nothing more.

use std::io;
use std::sync::Arc;

use fluxgate_peer::process;
use fluxgate_store::{IncomingSnapshot, SnapshotError, SnapshotStore};
use fluxgate_wire::raft::SnapshotPieceV1;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Largest snapshot file that is accepted, bytes.
const SNAPSHOT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// A snapshot that is being received.
#[derive(Debug)]
struct Incoming {
    stream: u64,
    file: IncomingSnapshot,
}

/// The result of a piece.
#[derive(Debug)]
pub(super) enum Taken {
    /// The offset that comes next.
    Next(u64),
    /// It was the last one.
    Whole(IncomingSnapshot),
}

/// Holds the snapshot that is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    store: SnapshotStore,
    slot: Arc<Mutex<Option<Incoming>>>,
}

impl Receiving {
    pub(super) fn new(store: SnapshotStore) -> Self {
        Self { store, slot: Arc::default() }
    }

    pub(super) async fn take(&self, piece: SnapshotPieceV1) -> io::Result<Taken> {
        // The lock moves into the work: if the caller leaves, the next piece waits for this one to
        // end.
        let slot = Arc::clone(&self.slot).lock_owned().await;
        let store = self.store.clone();
        let taken = process::on_disk(move || write(slot, &store, &piece)).await?;
        taken.map_err(io::Error::other)
    }
}

/// Writes a piece after the earlier ones. Blocks.
fn write(
    mut slot: OwnedMutexGuard<Option<Incoming>>,
    store: &SnapshotStore,
    piece: &SnapshotPieceV1,
) -> Result<Taken, SnapshotError> {
    let begun = slot.as_ref().is_some_and(|incoming| incoming.stream == piece.stream);
    if piece.offset == 0 || !begun {
        if piece.offset != 0 {
            return Ok(Taken::Next(0));
        }
        let file = store.receive(SNAPSHOT_BYTES_MAX)?;
        *slot = Some(Incoming { stream: piece.stream, file });
    }
    // Taken out of its slot meanwhile: after a failure the snapshot starts over from its first
    // piece.
    let Some(mut incoming) = slot.take() else {
        return Ok(Taken::Next(0));
    };
    // A repeated piece, or one that overtook a lost piece, is not written: the answer is the offset
    // to continue from.
    if piece.offset == incoming.file.received() {
        incoming.file.write_at(piece.offset, &piece.bytes)?;
        if piece.last {
            return Ok(Taken::Whole(incoming.file));
        }
    }
    let next = incoming.file.received();
    *slot = Some(incoming);
    Ok(Taken::Next(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Shaped as _;

    fn piece(offset: u64, bytes: &[u8], last: bool) -> SnapshotPieceV1 {
        let meta = crate::types::SnapshotMeta::default().to_shape();
        let vote = crate::types::Vote::new(1, 1).to_shape();
        SnapshotPieceV1 { vote, meta, stream: 7, offset, bytes: bytes.to_vec(), last }
    }

    fn receiving() -> (tempfile::TempDir, Receiving) {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open_at(&dir.path().join("snap")).unwrap();
        (dir, Receiving::new(store))
    }

    #[tokio::test]
    async fn pieces_follow_one_another_whatever_is_lost_or_repeated() {
        let (_dir, receiving) = receiving();
        let next = async |piece| match receiving.take(piece).await.unwrap() {
            Taken::Next(next) => next,
            Taken::Whole(file) => panic!("not yet: {file:?}"),
        };
        assert_eq!(next(piece(5, b"late", false)).await, 0);
        assert_eq!(next(piece(0, b"first", false)).await, 5);
        assert_eq!(next(piece(9, b"ahead", false)).await, 5);
        // The caller leaves in the middle; the piece is written entirely or not at all.
        drop(receiving.take(piece(5, b"second", false)));
        assert_eq!(next(piece(5, b"second", false)).await, 11);
        assert_eq!(next(piece(5, b"second", false)).await, 11);
        let whole = receiving.take(piece(11, b"third", true)).await.unwrap();
        assert!(matches!(whole, Taken::Whole(file) if file.received() == 16));
    }

    /// On a disk that takes five seconds per piece, other work continues.
    #[cfg(feature = "sim")]
    #[tokio::test(start_paused = true)]
    async fn heartbeats_continue_while_a_piece_is_written_to_a_slow_disk() {
        use std::sync::atomic::AtomicU64;
        use std::time::Duration;

        use fluxgate_peer::process::{Clocks, Process};

        let (_dir, receiving) = receiving();
        let disk = Arc::new(AtomicU64::new(5_000));
        let process = Process::new(Arc::new(Clocks::new(1, 0, 0)), disk, 1);
        let begun = tokio::time::Instant::now();
        let mut beats = 0;
        let taking = process.run(async { receiving.take(piece(0, b"first", false)).await });
        tokio::pin!(taking);
        let taken = loop {
            tokio::select! {
                taken = &mut taking => break taken,
                () = tokio::time::sleep(Duration::from_millis(100)) => beats += 1,
            }
        };
        assert!(matches!(taken.unwrap(), Taken::Next(5)));
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert!(beats > 40, "{beats}");
    }
}
