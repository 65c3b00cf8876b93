//! What a process runs on: the clocks of its machine, its disk, and threads that may be held up.
//!
//! Answers for: the faults of a machine as a process notices them. A stand-in for the operating
//! system, `crates/store` and the clock of `crates/node`.

mod disk;
mod threads;

use fluxgate_engine::clock::ClockReading;
use fluxgate_types::BootNs;

use fluxgate_plan::Us;

pub use disk::{Disk, SavedTime};
pub use threads::{Moment, Threads};

/// A machine's clocks, wrong as they may be.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Drift of its boot clock, parts per million.
    pub drift_ppm: i64,
    /// Its boot clock at true time 0, nanoseconds.
    pub boot_ns: u64,
    /// What its wall clock is ahead of true time, milliseconds.
    pub wall_ms: i64,
    /// How long a sync takes.
    pub sync: Us,
    /// Its disk has no room before then.
    pub full_until: Us,
}

/// Wall-clock time at true time 0, milliseconds: 2024-01-20.
pub const EPOCH_MS: u64 = 1_705_747_200_000;

impl Machine {
    /// The boot clock.
    #[must_use]
    pub fn boot(&self, now: Us) -> BootNs {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000;
        let ns = i128::from(now) * 1_000 + drift + i128::from(self.boot_ns);
        BootNs(u64::try_from(ns).unwrap_or(0))
    }

    /// The wall clock, nanoseconds.
    #[must_use]
    pub fn wall_ns(&self, now: Us) -> u64 {
        let ms = i128::from(EPOCH_MS) + i128::from(self.wall_ms);
        u64::try_from(ms * 1_000_000 + i128::from(now) * 1_000).unwrap_or(0)
    }

    /// Both clocks.
    #[must_use]
    pub fn reading(&self, now: Us) -> ClockReading {
        ClockReading { boot: self.boot(now), wall_ns: self.wall_ns(now), apart_ns: 0 }
    }

    /// Whether its disk takes new entries and files. A reserve takes votes, and the first entry of a
    /// term.
    #[must_use]
    pub fn has_room(&self, now: Us) -> bool {
        self.full_until <= now
    }

    /// The true time at which the boot clock shows `due`, not before `now`.
    #[must_use]
    pub fn when(&self, due: BootNs, now: Us) -> Us {
        let left = i128::from(due.since(self.boot(now)));
        // A clock that runs fast by some parts per million gets there sooner.
        let us = left * 1_000 / (1_000_000 + i128::from(self.drift_ppm));
        now + u64::try_from(us).unwrap_or(0) + 1
    }
}
