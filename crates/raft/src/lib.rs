//! Consensus: openraft over our store and our state machine, and the only crate that names it.
//!
//! Answers for: a committed command is applied on every node in the same order and survives
//! while a majority of the disks do; proposals travel in batches; membership, leadership and
//! snapshots. Must never decide what a command means (`engine`), touch sled (`store`), or know
//! HTTP routes (`node` hands the bytes of peer calls to [`RaftHandle::handle`]).

mod batcher;
#[cfg(test)]
mod conformance;
mod contacts;
mod disk;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handle;
mod log;
mod machine;
mod network;
mod progress;
#[cfg(feature = "sim")]
mod runtime;
mod shapes;
mod snapshots;
mod types;

#[cfg(feature = "sim")]
pub use handle::SimulatedDisk;
pub use handle::{
    CONSENSUS_THREAD, ClusterOptions, HandleError, MembershipError, NodeStatus, RaftHandle, Role,
    StartError, Status, WriteHealth,
};
pub use progress::Leadership;
