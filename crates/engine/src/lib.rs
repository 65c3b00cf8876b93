//! The pure core of Fluxgate: it makes every decision and does no I/O.
//!
//! The callers, in the order of a request's life:
//!
//! 1. The Raft adapter feeds every committed entry to [`state::Registry::apply`], one at a
//!    time, and returns the replies. Other threads read [`state::Shared`].
//! 2. The lease driver sends a lease request, passes the answer to [`lease::LeaseHolder`], sets
//!    [`clock::ClusterClock`] by it, and reports to the lease holder what has been applied. On the
//!    leader, [`lease::Granter`] decides what to answer and when a write may be acknowledged.
//! 3. A validate request looks its key up in the shared table, then takes one step in its
//!    [`quota::Shard`]: admitted, denied, or waiting. Transfer requests to peers leave as effects;
//!    the replies come back through `handle_*`, and time comes in through `handle_timeout`.
//!
//! Time, randomness and peers are arguments; decisions are values. The same inputs give the same
//! outputs on every machine: the simulator and the property tests depend on that.
#![warn(missing_docs)]

pub mod agreement;
pub mod clock;
pub mod fault;
pub mod id_map;
pub mod join;
pub mod lease;
pub mod quota;
pub mod share_map;
pub mod state;
