//! The network: delays, loss, repetition, and links that are cut.

use std::collections::BTreeMap;

use fluxgate_types::NodeId;

use crate::rng::Rng;
use crate::seed::{MS, Us};

/// Links between nodes, each direction by itself.
#[derive(Clone, Debug, Default)]
pub struct Net {
    // Until when a direction is cut.
    cut: BTreeMap<(NodeId, NodeId), Us>,
    // Until when a direction is slow, and how slow.
    lopsided: BTreeMap<(NodeId, NodeId), (Us, Us)>,
    lossy: (Us, u64),
    slow: (Us, Us),
    /// How many of a thousand messages arrive twice.
    pub twice_permille: u64,
}

impl Net {
    /// Cuts one direction until then.
    pub fn cut(&mut self, from: NodeId, to: NodeId, until: Us) {
        let slot = self.cut.entry((from, to)).or_default();
        *slot = (*slot).max(until);
    }

    /// Delays messages in one direction by this until then.
    pub fn lopside(&mut self, from: NodeId, to: NodeId, until: Us, by: Us) {
        self.lopsided.insert((from, to), (until, by));
    }

    /// Loses this many of a thousand messages until then.
    pub fn lose(&mut self, until: Us, permille: u64) {
        self.lossy = (until, permille);
    }

    /// Delays messages by up to this until then.
    pub fn delay(&mut self, until: Us, most: Us) {
        self.slow = (until, most);
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        let twice_permille = self.twice_permille;
        *self = Self { twice_permille, ..Self::default() };
    }

    /// When a message that leaves now arrives: no time if it is lost, two if it is repeated.
    pub fn route(&self, now: Us, from: NodeId, to: NodeId, rng: &mut Rng) -> Vec<Us> {
        if self.cut.get(&(from, to)).is_some_and(|until| now < *until) {
            return Vec::new();
        }
        if now < self.lossy.0 && rng.permille(self.lossy.1) {
            return Vec::new();
        }
        let delay = |rng: &mut Rng| {
            let usual = 100 + rng.below(200);
            let tail = if rng.permille(5) { rng.below(20 * MS) } else { 0 };
            let slow = if now < self.slow.0 { rng.below(self.slow.1 + 1) } else { 0 };
            let one_way = self.lopsided.get(&(from, to)).filter(|(until, _)| now < *until);
            now + usual + tail + slow + one_way.map_or(0, |(_, by)| *by)
        };
        let mut at = vec![delay(rng)];
        if self.twice_permille > 0 && rng.permille(self.twice_permille) {
            at.push(delay(rng));
        }
        at
    }
}
