//! TLS of the three listeners, and of calls to the other nodes.
//!
//! Answers for: which callers are admitted, and a log line for those that are not (`acceptor`); changed
//! files are used without a restart (`reload`). Certificates are checked when a connection is made;
//! an open connection keeps the certificates that it was made with.

mod acceptor;
mod reload;

pub(crate) use acceptor::{Accepted, Acceptor};
pub(crate) use fluxgate_node::config::material::Material;
pub(crate) use reload::{Listeners, run_reload};
