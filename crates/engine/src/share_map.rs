//! Which node has which share of every budget: the share map, and which nodes it lists.

mod map;
mod planner;

pub use map::{ShareMap, outranks, rendezvous, salt};
pub use planner::ShareMapPlanner;
