//! Stopping in good order: what this node holds goes to its peers, or into a file.
//!
//! From the first call of [`Shard::drain`] on, the shard spends and gives nothing else, so what it
//! reports as left over is the truth for ever.

use std::collections::BTreeMap;

use fluxgate_types::ClusterMs;

use super::key::cell_of;
use super::transfer::Find;
use super::{Context, CounterId, Held, Reply, Sender, Shard};

/// A gift of a stopping node, with how much of the total is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gift {
    /// What to send.
    pub reply: Reply,
    /// The tokens that leave with it.
    pub tokens: u64,
}

impl Shard {
    /// Stops spending: requests are told `Unavailable`, asks get no more tokens.
    pub fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// Gives at most `most` counters' holdings of windows that are not over to a peer. Call again
    /// until nothing comes, and [`Shard::take_back`] what demonstrably did not arrive.
    ///
    /// A limit lowered since the counter was last looked at leaves less to give.
    pub fn drain(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        to: &Sender,
        most: usize,
    ) -> Vec<Gift> {
        assert!(self.draining, "a shard must stop spending before it gives all away");
        let context = &self.follow(context);
        let mut gifts = Vec::new();
        for (key, counters) in &mut self.keys {
            if gifts.len() == most {
                break;
            }
            // Of a key that is gone there is nothing to spend.
            let Some(limits) = find(key) else { continue };
            for limit in &mut counters.limits {
                let (tag, period_ms) = (limit.tag, limit.period_ms);
                let mut specs = limits.limits.iter();
                let of_it = specs.find(|s| s.tag == tag && s.limit.period_ms == period_ms);
                let Some(spec) = of_it else { continue };
                for cell in &mut limit.cells {
                    let over = ClusterMs((cell.window + 1) * period_ms) <= context.now;
                    if gifts.len() == most || over {
                        continue;
                    }
                    cell.follow(context, spec);
                    if !cell.keeps_up(context.life) {
                        continue;
                    }
                    let Some(tokens) = u64::try_from(cell.holding()).ok().filter(|t| *t > 0) else {
                        continue;
                    };
                    let Some(total) = cell.give(&context.life.lives, to, tokens) else { continue };
                    let counter = CounterId { key: *key, limit: tag, window: cell.window };
                    gifts.push(Gift { reply: cell.reply(counter, to, total), tokens });
                }
            }
        }
        gifts
    }

    /// A gift that its receiver refused, or never can have received.
    pub fn take_back(&mut self, to: &Sender, gift: &Gift) {
        if let Some(cell) = cell_of(&mut self.keys, &gift.reply.counter) {
            cell.take_back(to, gift.tokens);
        }
    }

    /// Every counter in memory with what is left in it, nothing included: the next life must know
    /// which ones this life has opened.
    pub fn left_over(&self, into: &mut BTreeMap<CounterId, Held>) {
        assert!(self.draining, "a shard must stop spending before its holdings are written down");
        for (key, counters) in &self.keys {
            for limit in &counters.limits {
                for cell in &limit.cells {
                    let counter = CounterId { key: *key, limit: limit.tag, window: cell.window };
                    let ends = limit.end_of(cell.window);
                    into.insert(counter, cell.left_over(ends));
                }
            }
        }
    }
}
