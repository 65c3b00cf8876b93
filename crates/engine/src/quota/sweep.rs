//! Forgetting windows that are over, and subjects that have not been used for a while.

use fluxgate_types::{Subject, caps};

use super::{Context, Shard};

/// The counters and the history of a subject that was not used for this long are dropped.
pub const IDLE_MS: u64 = 3_600_000;

impl Shard {
    /// Removes windows that are over, and subjects that were not used for `idle_ms`: at most
    /// [`caps::SWEPT_PER_HOLD_MAX`] of them, in the order in which they are due. True if more may
    /// be due.
    pub fn sweep(&mut self, context: &Context<'_>, idle_ms: u64) -> bool {
        let now = self.follow(context).now;
        for _ in 0..caps::SWEPT_PER_HOLD_MAX {
            let order = &mut self.order;
            if let Some((subject, tag)) = order.pop_over(now) {
                if let Some(counters) = self.subjects.get_mut(&subject) {
                    let of_it = counters.limits.iter_mut().filter(|limit| limit.tag == tag);
                    of_it.for_each(|limit| limit.forget_old(now, order));
                    counters.shrink();
                    if counters.is_left_over() {
                        self.subjects.remove(&subject);
                    } else {
                        counters.note_unopened(order);
                    }
                }
                continue;
            }
            let Some((subject, noted)) = order.pop_used_before(now.0.saturating_sub(idle_ms))
            else {
                return false;
            };
            let Some(counters) = self.subjects.get_mut(&subject) else { continue };
            counters.ordered = false;
            if !counters.is_queue_empty() {
                counters.ordered = true;
                order.note_used(&subject, now);
            } else if counters.used() > noted {
                counters.note_unopened(order);
            } else if !counters.has_window() {
                self.subjects.remove(&subject);
            }
        }
        true
    }

    /// The record of a subject was erased: drops its counters and its history, at the end of its last
    /// window if one is open.
    ///
    /// The history is only for display, and no caller can ask for it any more. The windows stay as long
    /// as those of any other subject: peers may still report, or ask for tokens.
    pub fn forget(&mut self, subject: &Subject) {
        let Some(counters) = self.subjects.get_mut(subject) else { return };
        counters.erased = true;
        if counters.is_left_over() {
            self.subjects.remove(subject);
        }
    }
}
