//! The pure core of Fluxgate: it makes every decision and does no I/O.
//!
//! The callers, in the order in which a request meets them:
//!
//! 1. The Raft adapter feeds every committed entry to [`state::Registry::apply`], one at a
//!    time, and returns the replies. Other threads read [`state::Shared`].
//! 2. [`member::Member`] decides what this node does as a member of the cluster: when it asks for a
//!    lease and what an answer permits, what a leader grants and owes, where a write goes and when
//!    it may be acknowledged. Its drivers carry out what its steps ask for ([`member::Effect`]).
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
pub mod member;
pub mod quota;
pub mod share_map;
pub mod state;
pub mod stop;
