//! The clocks of this machine, and cluster time on top of them.
//!
//! The only file of the node that reads a clock for decisions. CLOCK_BOOTTIME advances while the
//! machine is suspended, which `Instant` does not: a lease must not outlive a suspend.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fluxgate_engine::clock::{ClusterClock, signed_difference};
use fluxgate_engine::join::Times;
use fluxgate_store::ClockNote;
use fluxgate_types::{BootNs, ClusterMs};
use rustix::time::{ClockId, clock_gettime};

/// Converts a duration to nanoseconds, the unit of the boot clock.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub struct Clock {
    cluster: ArcSwap<ClusterClock>,
    // The wall clock as an earlier start recorded it, milliseconds; 0 without a record.
    noted_wall_ms: u64,
    // An earlier start saved cluster time: it continues from there, not from the wall clock.
    is_carried: bool,
}

/// How far a wall clock may be set back since an earlier start recorded it, milliseconds.
const SET_BACK_MS: u64 = 60_000;

/// When this program was built, milliseconds since the Unix epoch: no correct clock shows an
/// earlier time. 0 in a simulation.
fn built_ms() -> u64 {
    #[cfg(feature = "sim")]
    if fluxgate_peer::process::current().is_some() {
        return 0;
    }
    let seconds: u64 = env!("FLUXGATE_BUILT_S").parse().unwrap_or(0);
    seconds.saturating_mul(1_000)
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

pub fn boot_now() -> BootNs {
    #[cfg(feature = "sim")]
    if let Some(process) = fluxgate_peer::process::current() {
        return BootNs(process.clocks().boot_ns());
    }
    BootNs(read_ns(ClockId::Boottime))
}

/// Wall clock, nanoseconds since the Unix epoch. Only the leader's slewing relies on it.
pub fn wall_ns() -> u64 {
    #[cfg(feature = "sim")]
    if let Some(process) = fluxgate_peer::process::current() {
        return process.clocks().wall_ns();
    }
    read_ns(ClockId::Realtime)
}

/// Identifies the kernel boot that the boot clock counts from; empty if the system does not say.
fn machine() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

impl Clock {
    /// Continues cluster time from the record of an earlier start or, without one, from the wall clock.
    pub fn new(noted: Option<&ClockNote>) -> Self {
        let (boot, wall_ms) = (boot_now(), wall_ns() / 1_000_000);
        let carried_on = |note: &ClockNote| {
            let same = !note.machine.is_empty() && note.machine == machine();
            let boots = same.then_some((BootNs(note.boot_ns), boot));
            ClusterClock::carried_on(ClusterMs(note.cluster_ms), boots, (note.wall_ms, wall_ms))
        };
        let guess = noted.map_or(ClusterMs(wall_ms), carried_on);
        let noted_wall_ms = noted.map_or(0, |note| note.wall_ms);
        Self {
            cluster: ArcSwap::from_pointee(ClusterClock::new(boot, guess)),
            noted_wall_ms,
            is_carried: noted.is_some(),
        }
    }

    /// Whether an earlier start of this node saved cluster time.
    pub fn is_carried(&self) -> bool {
        self.is_carried
    }

    /// What this node knows of the current time, with the last stamp in its log.
    pub fn times(&self, stamp: ClusterMs) -> Times {
        let now_ns = self.now_ns();
        let synced = self.is_synced();
        Times {
            synced_ns: synced.then_some(now_ns),
            stamp_ns: stamp.0.saturating_mul(1_000_000),
            carried_ns: (self.is_carried && !synced).then_some(now_ns),
            wall_ns: wall_ns(),
            plausible: self.is_plausible(),
        }
    }

    /// The lower bound of cluster time that this node knows, whatever the wall clock says,
    /// nanoseconds.
    pub fn lower_bound_ns(&self, stamp: ClusterMs) -> u64 {
        let stamp_ns = stamp.0.saturating_mul(1_000_000);
        if self.is_carried { stamp_ns.max(self.now_ns()) } else { stamp_ns }
    }

    /// The current checkpoint of cluster time.
    pub fn note(&self) -> ClockNote {
        let boot = boot_now();
        ClockNote {
            cluster_ms: self.at(boot).0,
            wall_ms: wall_ns() / 1_000_000,
            boot_ns: boot.0,
            machine: machine(),
        }
    }

    /// Whether this machine's wall clock can be right: not before this program was built, and not
    /// well before what an earlier start recorded.
    pub fn is_plausible(&self) -> bool {
        let wall_ms = wall_ns() / 1_000_000;
        wall_ms >= built_ms() && wall_ms.saturating_add(SET_BACK_MS) >= self.noted_wall_ms
    }

    fn read(&self) -> ClusterClock {
        **self.cluster.load()
    }

    /// Cluster time at a moment of the boot clock.
    pub fn at(&self, boot: BootNs) -> ClusterMs {
        self.read().now(boot)
    }

    /// Cluster time at a moment of the boot clock, nanoseconds.
    pub fn at_ns(&self, boot: BootNs) -> u64 {
        self.read().now_ns(boot)
    }

    pub fn now(&self) -> ClusterMs {
        self.at(boot_now())
    }

    pub fn now_ns(&self) -> u64 {
        self.read().now_ns(boot_now())
    }

    pub fn is_synced(&self) -> bool {
        self.read().is_synced()
    }

    /// Cluster time as this node knows it.
    pub fn cluster(&self) -> ClusterClock {
        self.read()
    }

    /// Replaces cluster time by what the member says, if that has changed.
    pub(crate) fn publish(&self, clock: ClusterClock) {
        if self.read() != clock {
            self.cluster.store(Arc::new(clock));
        }
    }

    /// How far this machine's wall clock is ahead of cluster time, milliseconds.
    pub fn offset_ms(&self) -> i64 {
        signed_difference(wall_ns(), self.now_ns()) / 1_000_000
    }
}
