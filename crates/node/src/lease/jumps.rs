//! Ends a lease whose length cannot be told any more: this machine's clocks stood still, or jumped.

use std::sync::PoisonError;

use fluxgate_engine::cluster_time::signed_difference;
use fluxgate_types::BootNs;

use crate::clock::{boot_now, wall_ns};
use crate::core::Core;

/// Smallest jump of a clock that makes a lease void, milliseconds.
const JUMP_MS_MIN: u64 = 20;

/// The leader's time may have run on while this machine's clocks stood still (a virtual machine
/// that was paused by its host): then the lease was longer than this node believed, and what it
/// holds is void. The grant at hand carries what it must have applied.
pub(super) fn drop_after_a_stop(
    core: &Core,
    received: BootNs,
    estimate_ns: u64,
    round_trip_ns: u64,
) {
    if !core.clock.is_synced() {
        return;
    }
    let ahead = signed_difference(estimate_ns, core.clock.at_ns(received));
    let bound = i64::try_from(jump_ns(core) + round_trip_ns).unwrap_or(i64::MAX);
    if ahead > bound {
        tracing::warn!(
            ahead_ms = ahead / 1_000_000,
            "cluster time ran on while this machine's clock did not: the lease was dropped"
        );
        drop_lease(core);
    }
}

fn drop_lease(core: &Core) {
    let mut holder = core.holder.lock().unwrap_or_else(PoisonError::into_inner);
    holder.handle_clock_jump();
    core.publish_lease(&holder);
}

/// A clock that jumps further than this between two renewals makes a lease void: the margin that
/// granters and holders leave for drift, nanoseconds.
fn jump_ns(core: &Core) -> u64 {
    let terms = core.terms_in_force();
    (terms.granter_ms() - terms.holder_ms()).max(JUMP_MS_MIN) * 1_000_000
}

/// Compares this machine's wall clock with its boot clock from one renewal to the next.
#[derive(Debug, Default)]
pub(super) struct JumpWatch {
    last: Option<(BootNs, u64)>,
}

impl JumpWatch {
    /// Drops the lease where one clock jumped against the other since the last look; true if so. The
    /// host may have stopped this machine, and set its wall clock afterwards.
    pub(super) fn look(&mut self, core: &Core) -> bool {
        let (boot, wall) = (boot_now(), wall_ns());
        let Some((boot_before, wall_before)) = self.last.replace((boot, wall)) else {
            return false;
        };
        let jump = signed_difference(wall, wall_before.saturating_add(boot.since(boot_before)));
        let jumped = jump.unsigned_abs() > jump_ns(core);
        if jumped {
            tracing::warn!(
                jump_ms = jump / 1_000_000,
                "this machine's wall clock jumped: the lease is dropped until it is renewed"
            );
            drop_lease(core);
        }
        jumped
    }
}
