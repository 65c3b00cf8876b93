//! What an orderly stop does with the counters: handoffs, and what is left for the next incarnation.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CarriedBalance, CounterId, Cursor, Handoff, Sender, Shard};
use fluxgate_types::caps;

use super::{Counters, SHARDS};

/// Up to which counter a drain has come.
#[derive(Debug, Default)]
pub struct DrainPosition {
    shard: usize,
    cursor: Cursor,
}

impl Counters {
    pub fn begin_drain(&self) {
        self.shards.iter().for_each(|shard| Self::locked(shard, Shard::begin_drain));
    }

    pub fn take_back(&self, from: &Sender, handoff: &Handoff) {
        let shard = self.shard(&handoff.reply.counter.subject);
        Self::locked(shard, |shard| shard.take_back(from, handoff));
    }

    pub fn carryover(&self) -> BTreeMap<CounterId, CarriedBalance> {
        let mut left = BTreeMap::new();
        for shard in &self.shards {
            let mut cursor = Cursor::default();
            while Self::locked(shard, |shard| {
                shard.carryover(&mut cursor, caps::ITEMS_PER_HOLD_MAX, &mut left)
            }) {}
        }
        left
    }

    /// Up to one message of handoffs for a peer, from the counters after `from`, which advances;
    /// empty when none remain.
    pub fn drain(&self, to: &Sender, from: &mut DrainPosition) -> Vec<Handoff> {
        let mut handoffs = Vec::new();
        while from.shard < SHARDS && handoffs.len() < caps::PEER_ITEMS_MAX {
            let most = (caps::PEER_ITEMS_MAX - handoffs.len()).min(caps::ITEMS_PER_HOLD_MAX);
            let DrainPosition { shard: place, cursor } = from;
            let more = self.on_shard(*place, |shard, on| {
                shard.drain(on.context, on.find, to, cursor, most, &mut handoffs)
            });
            if !more {
                *from = DrainPosition { shard: *place + 1, cursor: Cursor::default() };
            }
        }
        handoffs
    }
}
