//! Whole clusters by seed: real nodes on virtual time, judged by what their clients saw.
//!
//! Real: everything from the router of each listener down: handlers, drivers, the engine, openraft,
//! the log's writer, snapshots. Simulated: sockets (requests and answers of HTTP travel as values
//! over a simulated network), the database under the log (in memory, with syncs that take time and
//! are lost in a crash), clocks and randomness. The small files beside the log and the snapshots
//! are real files and count as durable once written; `crates/store` tests power cuts under those.
//!
//! Same seed, same trace: one thread, tokio's paused clock, and every source of chance seeded.

pub mod checks;
pub mod network;
pub mod observations;
pub mod plan;
pub mod world;

use std::collections::VecDeque;

use observations::Counts;
use plan::Plan;

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant's name, as in `docs/protocol.md`.
    pub invariant: &'static str,
    /// Virtual microseconds.
    pub at: u64,
    /// A description.
    pub what: String,
}

/// The result of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Simulated microseconds.
    pub span: u64,
    /// Equal for equal runs.
    pub trace: u64,
    /// Counts, for the summary.
    pub counts: Counts,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// The last lines, if they were kept.
    pub log: VecDeque<String>,
}

/// Runs one seed to its end on this thread.
///
/// # Errors
/// If the host does not provide what a run needs (a directory, a runtime): nothing was judged.
pub fn run(seed: u64, log: bool) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()?;
    let outcome = runtime.block_on(world::run(Plan::of(seed), log));
    // Dropping the runtime drops everything that the nodes held.
    drop(runtime);
    outcome
}
