//! Drops the lease when this machine's clocks stopped or jumped, as the engine decides.

use std::sync::PoisonError;

use fluxgate_engine::clock::{ClockReading, JumpWatch};
use fluxgate_types::BootNs;

use crate::clock::{boot_now, wall_ns};
use crate::state::NodeState;

/// Attempts to read two clocks close together.
const READINGS: u32 = 4;
/// Readings this close are good enough, nanoseconds.
const CLOSE_NS: u64 = 1_000_000;

/// Reads both clocks close together.
fn read() -> ClockReading {
    let once = || {
        let (boot, wall_ns) = (boot_now(), wall_ns());
        ClockReading { boot, wall_ns, apart_ns: boot_now().since(boot) }
    };
    (1..READINGS).fold(once(), |best, _| {
        let next = if best.apart_ns < CLOSE_NS { best } else { once() };
        if next.apart_ns < best.apart_ns { next } else { best }
    })
}

fn drop_lease(state: &NodeState) {
    let mut holder = state.holder.lock().unwrap_or_else(PoisonError::into_inner);
    holder.handle_clock_jump();
    state.publish_lease(&holder);
}

/// Watches the clocks from one renewal to the next.
#[derive(Debug, Default)]
pub(super) struct JumpDriver(JumpWatch);

impl JumpDriver {
    /// Drops the lease if one clock jumped against the other since the last call, and returns
    /// whether it did.
    pub(super) fn look(&mut self, state: &NodeState) -> bool {
        let jump = self.0.compare_clocks(read(), &state.terms_in_force());
        if let Some(jump) = jump {
            tracing::warn!(
                jump_ms = jump / 1_000_000,
                "this machine's wall clock jumped: the lease is dropped until it is renewed"
            );
            drop_lease(state);
        }
        jump.is_some()
    }

    /// Drops the lease if the leader's time ran on while this machine's clocks stood still. The
    /// grant at hand names the entry that this node must have applied.
    pub(super) fn look_at_leader(
        &mut self,
        state: &NodeState,
        received: BootNs,
        estimate_ns: u64,
        round_trip_ns: u64,
    ) {
        let (own_ns, terms) = (state.clock.at_ns(received), state.terms_in_force());
        let ahead = self.0.compare_leader(own_ns, estimate_ns, round_trip_ns, &terms);
        if let Some(ahead) = ahead.filter(|_| state.clock.is_synced()) {
            tracing::warn!(
                ahead_ms = ahead / 1_000_000,
                "cluster time ran on while this machine's clock did not: the lease was dropped"
            );
            drop_lease(state);
        }
    }
}
