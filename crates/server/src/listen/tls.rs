//! TLS of the three listeners, and of calls to the other nodes.
//!
//! Answers for: who is let in and what stands in the
//! log of those who are not (`acceptor`), and that files which change are taken without a restart
//! (`reload`). Certificates are checked whenever a connection is made; one that lasts keeps the
//! certificates that it began with.

mod acceptor;
mod reload;

pub(crate) use acceptor::{Accepted, Acceptor};
pub(crate) use fluxgate_node::config::material::Material;
pub(crate) use reload::{Listeners, run_reload};
