//! Cluster time: the clock that windows follow, and the choice of a time when nodes disagree.

mod cluster_time;
mod jumps;
pub mod sync;

pub use cluster_time::{ClusterClock, SLEW_PPM_MAX, signed_difference};
pub use jumps::{ClockReading, JumpWatch};
