//! The pure core of Fluxgate: it makes every decision and does no I/O.
//!
//! The parts, in the order in which a node uses them:
//!
//! 1. [`join::Join`] decides whether the data directory may take part in consensus, before the node
//!    answers any call of it.
//! 2. The Raft adapter (`crates/raft`) feeds every committed entry to [`state::Registry::apply`],
//!    one at a time, and returns the outcomes. Other threads read [`state::Shared`].
//! 3. [`member::Member`] decides what this node does as a member of the cluster: when it requests a
//!    lease and what an answer permits, what a leader grants and what else it must do, where a write
//!    goes and when it may be acknowledged. Its driver carries out the [`member::Effect`]s that its
//!    steps return.
//! 4. A validate request looks its key up in the shared table, then takes one step in its
//!    [`quota::Shard`]: admitted, denied, or waiting. Transfer requests to peers leave as effects;
//!    the replies come back through `handle_*`, and time comes in through `handle_timeout`.
//! 5. [`stop`] orders what a node does when it stops: handoffs, saved files, announcements.
//!
//! Time, randomness and peers are arguments; decisions are values. The same inputs give the same
//! outputs on every machine: the simulator and the property tests depend on that.
#![warn(missing_docs)]

pub mod agreement;
pub mod clock;
pub mod fault;
pub mod join;
pub mod lease;
pub mod member;
pub mod quota;
pub mod share_map;
pub mod state;
pub mod stop;
mod varint;
