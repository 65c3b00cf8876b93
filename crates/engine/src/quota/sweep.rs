//! Forgetting windows that are over, and keys that have not been used for a while.

use fluxgate_types::caps;

use super::order::USED_STEP_MS;
use super::{Context, Shard};

/// The counters and the history of a key that was not used for this long are dropped.
pub const IDLE_MS: u64 = 3_600_000;

impl Shard {
    /// Removes windows that are over, and keys that were not used for `idle_ms`: at most
    /// [`caps::SWEPT_PER_HOLD_MAX`] of them, in the order in which they are due. True if more may
    /// be due.
    pub fn sweep(&mut self, context: &Context<'_>, idle_ms: u64) -> bool {
        let now = self.follow(context).now;
        for _ in 0..caps::SWEPT_PER_HOLD_MAX {
            if let Some((key, tag)) = self.order.pop_over(now) {
                if let Some(counters) = self.keys.get_mut(&key) {
                    let of_it = counters.limits.iter_mut().filter(|limit| limit.tag == tag);
                    of_it.for_each(|limit| limit.forget_old(now, &mut self.order));
                    counters.shrink();
                }
                continue;
            }
            let Some((key, noted)) = self.order.pop_used_before(now.0.saturating_sub(idle_ms))
            else {
                return false;
            };
            let Some(counters) = self.keys.get(&key) else { continue };
            if counters.is_in_use() {
                self.order.note_used(&key, now);
            } else if counters.used - noted >= USED_STEP_MS {
                self.order.note_used(&key, counters.used);
            } else {
                self.keys.remove(&key);
                self.shrink();
            }
        }
        true
    }

    /// A map keeps its capacity when keys are removed; this frees it once three quarters are empty.
    fn shrink(&mut self) {
        let (used, size) = (self.keys.len(), self.keys.capacity());
        if size > caps::QUEUE_KEPT && used < size / 4 {
            self.keys.shrink_to(used * 2);
        }
    }
}
