//! The plan of one seed: sizes, paces, traffic and faults.
//!
//! Swarm testing (Groce et al., ISSTA 2012): each seed leaves some kinds of faults out, so that no
//! kind hides another.

mod focused;

use fluxgate_engine::lease::LeaseTerms;
use fluxgate_engine::quota::WaitPolicy;
use fluxgate_types::{BootId, NodeId};

use crate::rng::Rng;

/// Microseconds of true time.
pub type Us = u64;
/// A second of it.
pub const SECOND: Us = 1_000_000;
/// A millisecond of it.
pub const MS: Us = 1_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The process dies; unsynced writes are lost.
    Crash,
    /// Every process dies at once.
    CrashAll,
    /// The process stops running and continues later.
    Pause,
    /// An orderly stop and a start.
    Restart,
    /// All nodes stopped in order, then started.
    RestartAll,
    /// One node cannot talk to some others, both ways.
    Cut,
    /// One direction of one link is cut.
    OneWay,
    /// Messages are lost for a while.
    Loss,
    /// Messages are slow for a while.
    Slow,
    /// Messages from one node are slow for a while, or those to it: its estimate of the time is wrong
    /// by half of that.
    Lopsided,
    /// Syncs of one disk are slow for a while.
    SlowDisk,
    /// A wall clock jumps.
    WallJump,
    /// The leadership is handed to another node.
    HandOver,
    /// A disk has no room for new entries and files for a while.
    FullDisk,
    /// A wall clock leaps ahead by up to three years.
    WallLeap,
    /// A machine is stopped for longer than a lease, and its boot clock is stopped meanwhile; its
    /// wall clock may, too. What it is sent is lost.
    StandStill,
    /// A node gets an older copy of its directory back, and later the right one.
    PutBack,
    /// A node loses its disk, and is started on an empty one; later it is removed and added again.
    LostDisk,
    /// A healthy node is removed, and added again with an empty directory.
    Replace,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Restart,
        Self::RestartAll,
        Self::Cut,
        Self::OneWay,
        Self::Loss,
        Self::Slow,
        Self::Lopsided,
        Self::SlowDisk,
        Self::WallJump,
        Self::HandOver,
        Self::FullDisk,
        Self::WallLeap,
        Self::StandStill,
        Self::PutBack,
        Self::LostDisk,
        Self::Replace,
    ];
    /// The kinds that are drawn first: newer ones are drawn after everything else, so that seeds from
    /// before them keep their plans.
    const DRAWN_FIRST: usize = 13;
    /// The kinds that are drawn before the newest: those change directories and members.
    const DRAWN_BEFORE_MEMBERS: usize = 16;

    /// The name in summaries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashAll => "crash_all",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::RestartAll => "restart_all",
            Self::Cut => "cut",
            Self::OneWay => "one_way",
            Self::Loss => "loss",
            Self::Slow => "slow",
            Self::Lopsided => "lopsided",
            Self::SlowDisk => "slow_disk",
            Self::WallJump => "wall_jump",
            Self::HandOver => "hand_over",
            Self::FullDisk => "full_disk",
            Self::WallLeap => "wall_leap",
            Self::StandStill => "stand_still",
            Self::PutBack => "put_back",
            Self::LostDisk => "lost_disk",
            Self::Replace => "replace",
        }
    }
}

/// How a key's requests fall on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anywhere.
    Even,
    /// Always at one node.
    Sticky,
    /// Four of five at one node.
    Skewed,
    /// Anywhere, all at the beginning of a stretch.
    Burst,
}

/// Everything about a run that its seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: u64,
    /// Length of the part with faults.
    pub span: Us,
    /// The longest lease of any node's file, and the clock bound.
    pub terms: LeaseTerms,
    /// Files differ: a start of a node has this lease or half of it, milliseconds.
    pub mixed_terms: bool,
    /// Between heartbeats.
    pub heartbeat: Us,
    /// Between gossips.
    pub gossip: Us,
    /// How long requests and transfer requests wait. Gossip is due before a request gives up: it
    /// reports tokens whose reply was lost.
    pub waits: WaitPolicy,
    /// Between looks at what waits.
    pub tick: Us,
    /// Between looks of the leader at the share map.
    pub leader_look: Us,
    /// Default limits: tokens and period in milliseconds.
    pub limits: Vec<(u64, u64)>,
    /// Keys at one time.
    pub keys: usize,
    /// Demand in percent of the first limit.
    pub demand_percent: u64,
    /// Largest cost.
    pub cost_max: u64,
    /// Mean time between changes to keys.
    pub writes: Us,
    /// Mean time between faults.
    pub faults: Us,
    /// The kinds that occur.
    pub kinds: Vec<FaultKind>,
    /// Largest drift of a clock, parts per million.
    pub drift_ppm: u64,
    /// Largest error of a wall clock at the start, milliseconds.
    pub wall_error_ms: u64,
    /// How many of a thousand messages arrive twice.
    pub twice_permille: u64,
    /// How many of a thousand steps of the counters get a part of their context from a while ago.
    pub torn_permille: u64,
    /// How many of a thousand changes are proposed late: their thread is held up.
    pub late_permille: u64,
    /// The nodes start within this time of each other.
    pub starts: Us,
    /// Mean time between changes of limits, beside the other changes; 0: there are none.
    pub limit_changes: Us,
    /// How many of a thousand faults are followed by a long calm.
    pub calm_permille: u64,
    /// Requests are charged to a pool of all keys too.
    pub pooled: bool,
}

/// Distinguishes the random numbers of [`Plan::pooled`] from those of the rest of a plan.
const POOLED: u64 = 0x706f_6f6c;

/// The name of a limit of a plan, by its place among the limits.
#[must_use]
pub fn limit_name(place: usize) -> Box<str> {
    format!("l{place}").into()
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Two paces. The fine one is the default configuration. The coarse one is ten times slower
        // in everything but the messages, so that long stretches of time are cheap.
        let fine = rng.permille(300);
        let lease_ms = if fine { rng.pick(&[1_000, 3_000]) } else { rng.pick(&[20_000, 30_000]) };
        let scale = lease_ms * MS / 3_000;
        let periods: &[u64] =
            if fine { &[1_000, 10_000, 60_000] } else { &[60_000, 120_000, 600_000] };
        let limit = |rng: &mut Rng| (rng.pick(&[1, 2, 5, 10, 30, 100, 300]), rng.pick(periods));
        let mut limits = vec![limit(&mut rng)];
        if rng.permille(300) {
            let second = limit(&mut rng);
            if second.1 != limits[0].1 {
                limits.push(second);
            }
        }
        let (older, newest) = FaultKind::ALL.split_at(FaultKind::DRAWN_BEFORE_MEMBERS);
        let (first, later) = older.split_at(FaultKind::DRAWN_FIRST);
        let mut kinds: Vec<FaultKind> =
            first.iter().copied().filter(|_| rng.permille(400)).collect();
        if kinds.is_empty() && rng.permille(800) {
            kinds.push(FaultKind::Crash);
        }
        let span = if fine { 300 * SECOND } else { 2 * 3_600 * SECOND };
        let cost_max = if rng.permille(300) { (limits[0].0 / 3).max(1) } else { 1 };
        let mut plan = Self {
            seed,
            nodes: rng.pick(&[1, 3, 3, 3, 3, 3, 5]),
            span,
            terms: LeaseTerms { lease_ms, clock_error_ms_max: lease_ms / 3 },
            mixed_terms: false,
            heartbeat: 100 * scale,
            gossip: rng.pick(&[100, 300]) * scale,
            waits: WaitPolicy {
                transfer_wait_ms: 50,
                transfer_timeout_ms: if fine { 250 } else { 1_000 },
            },
            tick: if fine { MS } else { 4 * MS },
            leader_look: 200 * scale,
            keys: usize::try_from(rng.between(1, 4)).unwrap_or(1),
            demand_percent: rng.pick(&[50, 100, 150, 300]),
            cost_max,
            writes: rng.pick(&[5, 20, 60]) * SECOND * if fine { 1 } else { 10 },
            faults: rng.pick(&[2, 8, 40]) * scale * 1_000,
            kinds,
            drift_ppm: rng.pick(&[0, 100, 9_000]),
            wall_error_ms: rng.pick(&[0, 500, 3_600_000]),
            twice_permille: rng.pick(&[0, 0, 50]),
            // What follows is drawn last: seeds from before it keep their plans.
            torn_permille: rng.pick(&[0, 0, 30, 200]),
            late_permille: 0,
            starts: rng.pick(&[50, 50, 50, 2_000]) * MS,
            calm_permille: 200,
            limit_changes: 0,
            // Of a stream of its own, for the same reason.
            pooled: Rng::new(seed ^ POOLED).permille(300),
            limits,
        }
        .with_terms(rng.permille(300) && lease_ms >= 3_000);
        plan.kinds.extend(later.iter().copied().filter(|_| rng.permille(400)));
        if rng.permille(300) {
            plan.limits.truncate(1);
            let first = plan.limits[0].1;
            let more: Vec<u64> = periods.iter().copied().filter(|ms| *ms != first).collect();
            let count = usize::try_from(rng.between(1, more.len() as u64)).unwrap_or(1);
            plan.limits.extend(more.into_iter().take(count).map(|ms| (limit(&mut rng).0, ms)));
        }
        plan.limit_changes = rng.pick(&[0, 0, 0, 300 * scale]);
        plan.late_permille = plan.torn_permille;
        // A single node has no other node to ask.
        let has_others = plan.nodes > 1;
        plan.kinds.extend(newest.iter().copied().filter(|_| rng.permille(400) && has_others));
        plan
    }

    /// The same plan where the files of nodes differ, or do not.
    #[must_use]
    pub fn with_terms(self, mixed_terms: bool) -> Self {
        Self { mixed_terms, ..self }
    }

    /// How long a client waits for a change, milliseconds: longer than the lease of a node that holds
    /// it up.
    #[must_use]
    pub fn write_timeout_ms(&self) -> u64 {
        (10 * self.terms.lease_ms / 3).max(10_000)
    }

    /// The terms of a node's file at one of its starts: files may differ from node to node, and
    /// change from start to start.
    #[must_use]
    pub fn file(&self, node: NodeId, boot: BootId) -> LeaseTerms {
        let short = self.mixed_terms && (node.0 + boot.0).is_multiple_of(2);
        let lease_ms = if short { self.terms.lease_ms / 2 } else { self.terms.lease_ms };
        LeaseTerms { lease_ms, ..self.terms }
    }
}
