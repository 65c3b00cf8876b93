//! Reads both clocks of this machine close together.

use fluxgate_engine::clock::ClockReading;

use crate::clock::{boot_now, wall_ns};

/// Attempts to read two clocks close together.
const READINGS: u32 = 4;
/// Readings this close are good enough, nanoseconds.
const CLOSE_NS: u64 = 1_000_000;

pub(super) fn read() -> ClockReading {
    let once = || {
        let (boot, wall_ns) = (boot_now(), wall_ns());
        ClockReading { boot, wall_ns, apart_ns: boot_now().since(boot) }
    };
    (1..READINGS).fold(once(), |best, _| {
        let next = if best.apart_ns < CLOSE_NS { best } else { once() };
        if next.apart_ns < best.apart_ns { next } else { best }
    })
}
