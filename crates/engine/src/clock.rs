//! Cluster time: the clock that windows are cut by, and what time it is where nodes disagree.

mod cluster_time;
pub mod sync;

pub use cluster_time::{ClusterClock, SLEW_PPM_MAX, signed_difference};
