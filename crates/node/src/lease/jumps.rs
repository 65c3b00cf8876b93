//! Ends a lease whose remaining time is unknown because this machine's clocks stopped or jumped.

use std::sync::PoisonError;

use fluxgate_engine::clock::signed_difference;
use fluxgate_types::BootNs;

use crate::clock::{boot_now, wall_ns};
use crate::state::NodeState;

/// Smallest jump of a clock that voids a lease, milliseconds.
const JUMP_MS_MIN: u64 = 20;
/// An error of cluster time up to this is slewed away, not stepped, nanoseconds.
const STEERED_NS: u64 = 20_000_000;
/// Attempts to read two clocks close together.
const READINGS: u32 = 4;
/// Readings this close are good enough, nanoseconds.
const CLOSE_NS: u64 = 1_000_000;

/// Drops the lease if the leader's time ran on while this machine's clocks stood still (its host
/// paused the virtual machine): the lease was longer than this node assumed, and its balances are
/// void. The grant at hand names the entry that this node must have applied.
pub(super) fn drop_after_a_stop(
    state: &NodeState,
    jumps: &mut JumpWatch,
    received: BootNs,
    estimate_ns: u64,
    round_trip_ns: u64,
) {
    let before_ns = std::mem::replace(&mut jumps.round_trip_ns, round_trip_ns);
    if !state.clock.is_synced() {
        return;
    }
    let ahead = signed_difference(estimate_ns, state.clock.at_ns(received));
    // Both estimates are off by part of their round trips, and small errors are slewed away.
    let error_ns = round_trip_ns + before_ns + STEERED_NS;
    let bound = i64::try_from(jump_ns(state) + error_ns).unwrap_or(i64::MAX);
    if ahead > bound {
        tracing::warn!(
            ahead_ms = ahead / 1_000_000,
            "cluster time ran on while this machine's clock did not: the lease was dropped"
        );
        drop_lease(state);
    }
}

fn drop_lease(state: &NodeState) {
    let mut holder = state.holder.lock().unwrap_or_else(PoisonError::into_inner);
    holder.handle_clock_jump();
    state.publish_lease(&holder);
}

/// A clock that jumps further than this between two renewals voids a lease: the margin that
/// granters and lease holders leave for drift, nanoseconds.
fn jump_ns(state: &NodeState) -> u64 {
    let terms = state.terms_in_force();
    (terms.granter_ms() - terms.holder_ms()).max(JUMP_MS_MIN) * 1_000_000
}

/// Compares this machine's wall clock with its boot clock from one renewal to the next.
#[derive(Debug, Default)]
pub(super) struct JumpWatch {
    last: Option<Reading>,
    // Of the previous renewal.
    round_trip_ns: u64,
}

/// Both clocks at nearly the same moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    boot: BootNs,
    wall: u64,
    // Time that may lie between the two readings, nanoseconds: the thread may be delayed.
    apart_ns: u64,
}

impl Reading {
    fn now() -> Self {
        let read = || {
            let (boot, wall) = (boot_now(), wall_ns());
            Self { boot, wall, apart_ns: boot_now().since(boot) }
        };
        (1..READINGS).fold(read(), |best, _| {
            let next = if best.apart_ns < CLOSE_NS { best } else { read() };
            if next.apart_ns < best.apart_ns { next } else { best }
        })
    }
}

impl JumpWatch {
    /// Drops the lease if one clock jumped against the other since the last call, and returns
    /// whether it did. The host may have paused this machine and set its wall clock afterwards.
    pub(super) fn look(&mut self, state: &NodeState) -> bool {
        let now = Reading::now();
        let Some(before) = self.last.replace(now) else { return false };
        let expected = before.wall.saturating_add(now.boot.since(before.boot));
        let jump = signed_difference(now.wall, expected);
        let jumped = jump.unsigned_abs() > jump_ns(state) + before.apart_ns + now.apart_ns;
        if jumped {
            tracing::warn!(
                jump_ms = jump / 1_000_000,
                "this machine's wall clock jumped: the lease is dropped until it is renewed"
            );
            drop_lease(state);
        }
        jumped
    }
}
