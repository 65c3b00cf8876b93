//! Whole clusters by seed: the real engine under faults, judged by the invariants of
//! `docs/protocol.md`.
//!
//! What is real: everything in `engine` (counters, the member with leases, barrier and cluster time,
//! share maps, the registry). What is simulated: the driver around it ([`node`], a pump), what it runs
//! on ([`machine`]), and Raft ([`raft`], a small one with durable votes, pre-vote, log matching,
//! ReadIndex and changes of members by one node at a time, without snapshots). The real openraft,
//! store and HTTP are tested by `proof/cluster`, and with real processes by `proof/chaos` and
//! `tests/`.
//!
//! Same seed, same trace: time, chance and order come from the seed and nothing else. A failure
//! names the invariant, the moment and the command that replays it.

pub mod book;
mod calls;
pub mod invariants;
pub mod machine;
pub mod messages;
pub mod mutation;
pub mod node;
pub mod raft;
pub mod step;
pub mod world;

use book::Counts;
use fluxgate_plan::Plan;
use invariants::Violation;
use world::{Broken, World};

/// The outcome of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Simulated microseconds.
    pub span: u64,
    /// A digest of the run: equal for equal runs.
    pub trace: u64,
    /// Counts of what happened.
    pub counts: Counts,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// The last lines before it, where they were kept.
    pub log: Vec<String>,
}

/// Runs one seed, and keeps this many lines of its trace.
#[must_use]
pub fn run(seed: u64, broken: Broken, lines: usize) -> Outcome {
    run_plan(Plan::of(seed), broken, lines)
}

/// Runs one plan, and keeps this many lines of its trace.
#[must_use]
pub fn run_plan(plan: Plan, broken: Broken, lines: usize) -> Outcome {
    let seed = plan.seed;
    let mut world = World::new(plan, broken, lines);
    let violation = world.run().err();
    Outcome {
        seed,
        span: world.now,
        trace: world.trace,
        log: world.log_lines(),
        counts: world.book.counts.clone(),
        violation,
    }
}
