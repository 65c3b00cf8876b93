//! An orderly stop: this node hands its balances to its peers or writes them to a file.
//!
//! From [`Shard::begin_drain`] on, the shard spends nothing and gives only handoffs, so the
//! remaining balance it reports is final.

use std::collections::BTreeMap;

use fluxgate_types::ClusterMs;

use super::gossip::Cursor;
use super::subject_map::{cell_of, cells_of};
use super::transfer::Find;
use super::{CarriedBalance, Context, CounterId, Sender, Shard, TransferReply};

/// A handoff of a stopping node, with the new part of the total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// What to send.
    pub reply: TransferReply,
    /// The tokens that leave with it.
    pub tokens: u64,
}

impl Shard {
    /// Stops spending: requests get `Unavailable`, transfer requests get no more tokens.
    pub fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// Hands the balances of windows that are not over to a peer, and the last reports of those
    /// without a balance. Visits at most `most` counters after the cursor; true if more are left. Call until none are left, and [`Shard::take_back`]
    /// what demonstrably did not arrive.
    ///
    /// If a limit was lowered since the counter was last used, there is less to give.
    pub fn drain(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        to: &Sender,
        cursor: &mut Cursor,
        most: usize,
        into: &mut Vec<Handoff>,
    ) -> bool {
        assert!(self.draining, "a shard must stop spending before it gives all away");
        let context = &self.follow(context);
        for _ in 0..most {
            let Some((end, subject, tag)) = cursor.next(&self.order, context.now) else {
                return false;
            };
            // Nothing can be spent from an erased subject.
            let Some(limits) = find(&subject) else { continue };
            for (period_ms, cell) in cells_of(&mut self.subjects, &subject, tag, end) {
                let mut specs = limits.specs.iter();
                let of_it = specs.find(|s| s.tag == tag && s.limit.period_ms == period_ms);
                let Some(spec) = of_it.filter(|_| end > context.now) else { continue };
                cell.follow(context, &subject, spec);
                if !cell.keeps_up(context.incarnation) {
                    continue;
                }
                let tokens = u64::try_from(cell.balance()).unwrap_or(0);
                // What was spent since the last gossip is reported too, without tokens: while this
                // node is away, no other can prove a denial without it.
                if tokens == 0 && !cell.dirty {
                    continue;
                }
                let Some(total) = cell.give(&context.incarnation.incarnations, to, tokens) else {
                    continue;
                };
                let counter = CounterId { subject, limit: tag, window: cell.window() };
                into.push(Handoff { reply: cell.reply(counter, to, total), tokens });
            }
        }
        true
    }

    /// Takes back a handoff that its receiver rejected or cannot have received.
    pub fn take_back(&mut self, to: &Sender, handoff: &Handoff) {
        if let Some(cell) = cell_of(&mut self.subjects, &handoff.reply.counter) {
            cell.take_back(to, handoff.tokens);
        }
    }

    /// Lists the counters in memory with their balances, empty ones included: the next incarnation
    /// must know which counters this one has opened. Visits at most `most` counters after the
    /// cursor; true if more are left.
    pub fn carryover(
        &mut self,
        cursor: &mut Cursor,
        most: usize,
        into: &mut BTreeMap<CounterId, CarriedBalance>,
    ) -> bool {
        assert!(self.draining, "a shard must stop spending before its balances are saved");
        for _ in 0..most {
            // Include windows that are over: a clock may be behind.
            let Some((end, subject, tag)) = cursor.next(&self.order, ClusterMs(0)) else {
                return false;
            };
            for (_, cell) in cells_of(&mut self.subjects, &subject, tag, end) {
                let counter = CounterId { subject, limit: tag, window: cell.window() };
                into.insert(counter, cell.carryover(end));
            }
        }
        true
    }
}
