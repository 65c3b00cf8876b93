//! Stopping in good order: what this node holds goes to its peers, or into a file.
//!
//! From the first call of [`Shard::drain`] on, the shard spends and gives nothing else, so what it
//! reports as left over is the truth for ever.

use std::collections::BTreeMap;

use fluxgate_types::ClusterMs;

use super::gossip::Cursor;
use super::key::{cell_of, cells_of};
use super::transfer::Find;
use super::{CarriedBalance, Context, CounterId, Sender, Shard, TransferReply};

/// A gift of a stopping node, with how much of the total is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// What to send.
    pub reply: TransferReply,
    /// The tokens that leave with it.
    pub tokens: u64,
}

impl Shard {
    /// Stops spending: requests are told `Unavailable`, asks get no more tokens.
    pub fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// Gives holdings of windows that are not over to a peer. Looks at most at `most` counters behind
    /// the cursor; true where more are left. Call again until none are, and [`Shard::take_back`] what
    /// demonstrably did not arrive.
    ///
    /// A limit lowered since the counter was last looked at leaves less to give.
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
            let Some((end, key, tag)) = cursor.next(&self.order, context.now) else { return false };
            // Of a key that is gone there is nothing to spend.
            let Some(limits) = find(&key) else { continue };
            for (period_ms, cell) in cells_of(&mut self.keys, &key, tag, end) {
                let mut specs = limits.limits.iter();
                let of_it = specs.find(|s| s.tag == tag && s.limit.period_ms == period_ms);
                let Some(spec) = of_it.filter(|_| end > context.now) else { continue };
                cell.follow(context, spec);
                if !cell.keeps_up(context.incarnation) {
                    continue;
                }
                let Some(tokens) = u64::try_from(cell.balance()).ok().filter(|t| *t > 0) else {
                    continue;
                };
                let Some(total) = cell.give(&context.incarnation.incarnations, to, tokens) else {
                    continue;
                };
                let counter = CounterId { key, limit: tag, window: cell.window };
                into.push(Handoff { reply: cell.reply(counter, to, total), tokens });
            }
        }
        true
    }

    /// A gift that its receiver refused, or never can have received.
    pub fn take_back(&mut self, to: &Sender, gift: &Handoff) {
        if let Some(cell) = cell_of(&mut self.keys, &gift.reply.counter) {
            cell.take_back(to, gift.tokens);
        }
    }

    /// Counters in memory with what is left in them, nothing included: the next life must know
    /// which ones this life has opened. Looks at most at `most` counters behind the cursor; true
    /// where more are left.
    pub fn carryover(
        &mut self,
        cursor: &mut Cursor,
        most: usize,
        into: &mut BTreeMap<CounterId, CarriedBalance>,
    ) -> bool {
        assert!(self.draining, "a shard must stop spending before its holdings are written down");
        for _ in 0..most {
            // Windows that are over too: a clock may be behind.
            let Some((end, key, tag)) = cursor.next(&self.order, ClusterMs(0)) else {
                return false;
            };
            for (_, cell) in cells_of(&mut self.keys, &key, tag, end) {
                let counter = CounterId { key, limit: tag, window: cell.window };
                into.insert(counter, cell.carryover(end));
            }
        }
        true
    }
}
