//! TLS of the three listeners, and of calls to the other nodes.
//!
//! Answers for: which callers are admitted, and a log line for those that are not (`acceptor`); changed
//! files are used without a restart (`reload`). Certificates are checked when a connection is made;
//! an open connection keeps the certificates that it was made with.

mod acceptor;
mod reload;

/// The name of HTTP/2 in ALPN (RFC 9113, section 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

pub(crate) use acceptor::{Accepted, Acceptor};
pub(crate) use fluxgate_node::config::material::Material;
pub(crate) use reload::{Listeners, run_reload};
