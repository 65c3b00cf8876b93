//! Accepts connections: bounded, guarded against malformed requests, and encrypted if configured.

pub(crate) mod accept;
mod request_line;
pub(crate) mod tls;
