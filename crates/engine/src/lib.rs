//! The pure middle of Fluxgate: everything that decides, and nothing that touches the world.
//!
//! Who calls what, in which order:
//!
//! 1. The Raft adapter feeds every committed entry to [`state::Registry::apply`], one at a
//!    time, and hands out the replies. What others may read lives in [`state::Shared`].
//! 2. The lease driver sends a request, gives the answer to [`lease::LeaseHolder`], sets
//!    [`clock::ClusterClock`] by it, and reports to the holder what has been applied. On the
//!    leader [`lease::Granter`] says what to answer, and when a write may be acknowledged.
//! 3. A validate looks its key up in the shared table, then takes one step in its
//!    [`quota::Shard`]: admitted, denied, or waiting. Transfer requests to peers leave as effects;
//!    their answers come back through `handle_*`; time comes back through `handle_timeout`.
//!
//! Time, randomness and peers are arguments, decisions are values. Same inputs, same outputs,
//! on every machine: the simulator and the property tests rest on that.
#![warn(missing_docs)]

pub mod agreement;
pub mod clock;
pub mod fault;
pub mod id_map;
pub mod lease;
pub mod quota;
pub mod share_map;
pub mod state;
