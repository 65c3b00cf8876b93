//! What a seed decides: sizes, paces, traffic, faults, and the network between nodes.
//!
//! Both simulators run plans of this crate. Must never read a clock or draw randomness of its own:
//! everything comes from the seed.

mod net;
mod rng;
mod seed;

pub use net::Net;
pub use rng::Rng;
pub use seed::{FaultKind, MS, Plan, SECOND, Shape, Us, limit_name};
