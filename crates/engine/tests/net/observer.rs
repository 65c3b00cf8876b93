//! What an observer knows who sees every node: what was spent, and what no node can spend any more.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CounterId, Decision, Entitlement, Verdict};
use fluxgate_types::NodeId;

use super::{Message, Net};

impl Net {
    pub(super) fn settle(&mut self, decision: Decision, cost: u64) {
        self.last = Some(decision);
        match decision.verdict {
            Verdict::Admitted => {
                self.tally.admitted += cost;
                let now = self.now_ms();
                for spec in self.limits.specs.iter() {
                    *self.spent.entry((spec.tag, now / spec.limit.period_ms)).or_default() += cost;
                }
            }
            Verdict::Limited => {
                self.tally.limited += cost;
                let spec = &self.limits.specs[decision.limit_at];
                let window = self.now_ms() / spec.limit.period_ms;
                let spent = self.spent.get(&(spec.tag, window)).copied().unwrap_or(0);
                let burned = self.burned(spec.tag, window);
                if spent + burned + cost <= spec.limit.tokens {
                    self.tally.unproven_denials += 1;
                }
            }
            Verdict::Degraded => self.tally.degraded += cost,
            Verdict::Unavailable => self.tally.unavailable += cost,
        }
    }

    /// Tokens that no living node can spend any more: counted by an omniscient observer.
    fn burned(&self, tag: u32, window: u64) -> u64 {
        let spec = self.limits.specs.iter().find(|s| s.tag == tag).unwrap();
        let mut left = 0u64;
        for node in self.nodes.values().filter(|n| n.alive) {
            let counter = CounterId { subject: self.key, limit: tag, window };
            left += node.shard.held(&counter).unwrap_or_else(|| {
                let salt = fluxgate_engine::share_map::salt(&self.key, tag, window);
                if node.incarnation.entitlement == Some(Entitlement::All) {
                    self.view.share_maps[0].share(node.incarnation.me, spec.limit.tokens, salt)
                } else {
                    0
                }
            });
        }
        let spent = self.spent.get(&(tag, window)).copied().unwrap_or(0);
        let flying = self.in_flight(&CounterId { subject: self.key, limit: tag, window });
        spec.limit.tokens.saturating_sub(spent + left + flying)
    }

    /// Tokens of one counter that may still arrive: given by a running incarnation to a running one,
    /// in a message on its way, and not received yet.
    fn in_flight(&self, counter: &CounterId) -> u64 {
        let mut totals: BTreeMap<(NodeId, NodeId), u64> = BTreeMap::new();
        for packet in self.events.values() {
            let Message::Replies(replies) = &packet.message else { continue };
            let incarnations = |node: NodeId, boot| {
                self.nodes
                    .get(&node)
                    .is_some_and(|n| n.alive && n.incarnation.incarnations.of(node) == Some(boot))
            };
            if !incarnations(packet.to, packet.to_boot)
                || !incarnations(packet.from.node, packet.from.boot)
            {
                continue;
            }
            for reply in replies.iter().filter(|reply| reply.counter == *counter) {
                let total = totals.entry((packet.from.node, packet.to)).or_default();
                *total = (*total).max(reply.given);
            }
        }
        let missing = |((from, to), total): ((NodeId, NodeId), u64)| {
            total.saturating_sub(self.nodes[&to].shard.received(counter, from))
        };
        totals.into_iter().map(missing).sum()
    }
}
