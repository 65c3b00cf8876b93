//! What to gossip: counter reports that changed, and all reports again to a peer that missed some.

use std::sync::atomic::Ordering;

use fluxgate_engine::quota::{CounterGossip, Cursor};
use fluxgate_types::{BootId, NodeId, caps};

use super::{Counters, SHARDS};
use crate::state::NodeState;

/// Shards that are repeated before the task yields.
const SHARDS_AT_ONCE: usize = 16;

/// Reports that are taken from one shard per lock, at most.
const MOST_AT_ONCE: usize = 256;

/// How far one peer was sent the reports that it missed.
#[derive(Debug, Default)]
pub struct Telling {
    boot: Option<BootId>,
    ready: bool,
    missed: bool,
    // The next shard, and the position in it.
    at: Option<(usize, Cursor)>,
}

impl Telling {
    /// Starts over if the peer's process restarted.
    pub fn look_at(&mut self, boot: Option<BootId>) {
        if self.boot != boot {
            self.boot = boot;
            self.begin();
        }
    }

    /// Records the outcome of a message. The reports in a message that was not delivered may be
    /// lost, and a node that was not ready may not have known the keys.
    pub fn note(&mut self, delivered: bool, ready: bool) {
        let again = delivered && (self.missed || (ready && !self.ready));
        (self.missed, self.ready) = (!delivered, ready);
        if again || self.missed {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.at = Some((0, Cursor::default()));
    }
}

impl NodeState {
    /// Reports that changed, at most one message: first an equal part for each shard, then the rest
    /// for shards that have more.
    pub fn take_gossip(&self) -> Vec<CounterGossip> {
        let mut told = Vec::new();
        let first = self.counters.first_told.fetch_add(1, Ordering::Relaxed);
        for part in [caps::PEER_ITEMS_MAX.div_ceil(SHARDS), caps::PEER_ITEMS_MAX] {
            for at in (first..first + SHARDS).map(|at| at % SHARDS) {
                let most = part.min(caps::PEER_ITEMS_MAX - told.len()).min(MOST_AT_ONCE);
                if most > 0 && Counters::locked(self.counters.at(at), |shard| shard.has_gossip()) {
                    told.extend(self.on_shard(at, |shard, on| shard.take_gossip(on.context, most)));
                }
            }
        }
        told
    }

    /// Reports that a peer missed, at most `most`.
    pub async fn repeat_gossip(
        &self,
        peer: NodeId,
        telling: &mut Telling,
        most: usize,
    ) -> Vec<CounterGossip> {
        telling.look_at(self.incarnation().incarnations.of(peer));
        let mut told = Vec::new();
        if telling.missed || telling.boot.is_none() {
            return told;
        }
        while let Some((at, mut cursor)) = telling.at {
            if told.len() >= most {
                break;
            }
            let count = (most - told.len()).min(caps::ITEMS_PER_HOLD_MAX);
            let more = self.on_shard(at, |shard, on| {
                shard.repeat_gossip(on.context, on.find, &mut cursor, count, &mut told)
            });
            telling.at = match at + 1 {
                _ if more => Some((at, cursor)),
                next if next < SHARDS => Some((next, Cursor::default())),
                _ => None,
            };
            if more || at % SHARDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_all_again_once_it_is_back() {
        let mut telling = Telling::default();
        telling.look_at(None);
        assert!(telling.at.is_none());
        for (name, boot, came) in [
            ("its process began", Some(BootId(1)), (true, false)),
            ("it knows the keys by now", Some(BootId(1)), (true, true)),
            ("its process began again", Some(BootId(2)), (true, true)),
        ] {
            telling.look_at(boot);
            telling.note(came.0, came.1);
            assert!(telling.at.take().is_some(), "{name}");
        }
        telling.note(true, true);
        assert!(telling.at.is_none(), "nothing was missed");
        telling.note(false, true);
        telling.at = None;
        telling.note(true, true);
        assert!(telling.at.is_some(), "it could not be reached");
    }
}
