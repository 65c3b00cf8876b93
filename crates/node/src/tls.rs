//! TLS of the three listeners, and of calls to the other nodes.
//!
//! Answers for: which files make a certificate (`material`), who is let in and what stands in the
//! log of those who are not (`acceptor`), and that files which change are taken without a restart
//! (`reload`). Certificates are checked whenever a connection is made; one that lasts keeps the
//! certificates that it began with.

mod acceptor;
mod material;
mod reload;

pub(crate) use acceptor::{Accepted, Acceptor};
pub(crate) use material::Material;
pub(crate) use reload::{Listeners, peer_calls, run_reload};
