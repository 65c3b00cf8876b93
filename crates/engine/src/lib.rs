//! The pure middle of Fluxgate: everything that decides, and nothing that touches the world.
//!
//! Who calls what, in which order:
//!
//! 1. The Raft adapter feeds every committed entry to [`registry::Registry::apply`], one at a
//!    time, and hands out the replies. What others may read lives in [`registry::Shared`].
//! 2. The lease driver sends a request, gives the answer to [`lease::Holder`], sets
//!    [`cluster_time::ClusterClock`] by it, and tells the holder what has been applied. On the
//!    leader [`lease::Granter`] says what to answer, and when a write may be acknowledged.
//! 3. A validate looks its key up in the shared table, then takes one step in its
//!    [`counters::Shard`]: admitted, denied, or waiting. Asks to peers leave as effects; their
//!    answers come back through `handle_*`; time comes back through `handle_timeout`.
//!
//! Time, randomness and peers are arguments, decisions are values. Same inputs, same outputs,
//! on every machine: the simulator and the property tests rest on that.

pub mod agreement;
pub mod cluster_time;
pub mod counters;
pub mod id_map;
pub mod keeper;
pub mod lease;
pub mod mutation;
pub mod registry;
pub mod share;
pub mod time_choice;
