//! What to gossip: counter reports that changed, and all reports again to a peer that missed some.

use std::sync::atomic::Ordering;

use fluxgate_engine::quota::{CounterGossip, Repeats};
use fluxgate_types::{NodeId, caps};

use super::{Counters, SHARDS};

/// Reports that each shard may send before any sends more.
const FIRST_PART: usize = caps::PEER_ITEMS_MAX / SHARDS;
const _: () = assert!(FIRST_PART > 0, "every shard has a part of each message");

/// Shards that are repeated before the task yields.
const SHARDS_AT_ONCE: usize = 16;

impl Counters {
    /// Reports that changed, at most one message: first an equal part for each shard, then the rest
    /// for shards that have more.
    pub fn take_gossip(&self) -> Vec<CounterGossip> {
        let mut reports = Vec::new();
        let first = self.first_reported.fetch_add(1, Ordering::Relaxed);
        for part in [FIRST_PART, caps::PEER_ITEMS_MAX] {
            for at in (first..first + SHARDS).map(|at| at % SHARDS) {
                let most =
                    part.min(caps::PEER_ITEMS_MAX - reports.len()).min(caps::ITEMS_PER_HOLD_MAX);
                if most > 0 && Self::locked(self.at(at), |shard| shard.has_gossip()) {
                    reports
                        .extend(self.on_shard(at, |shard, on| shard.take_gossip(on.context, most)));
                }
            }
        }
        reports
    }

    /// Reports that a peer missed, at most `most`.
    pub async fn repeat_gossip(
        &self,
        peer: NodeId,
        repeats: &mut Repeats,
        most: usize,
    ) -> Vec<CounterGossip> {
        repeats.note_incarnation(self.parts.published.incarnation().incarnations.of(peer));
        let mut reports = Vec::new();
        while let Some((shard_at, mut cursor)) = repeats.next().filter(|_| reports.len() < most) {
            let count = (most - reports.len()).min(caps::ITEMS_PER_HOLD_MAX);
            let more = self.on_shard(shard_at, |shard, on| {
                shard.repeat_gossip(on.context, on.find, &mut cursor, count, &mut reports)
            });
            repeats.advance(shard_at, cursor, more, SHARDS);
            if more || shard_at % SHARDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        reports
    }
}
