//! Accepts connections: bounded, guarded against malformed requests, and encrypted if configured.

pub(crate) mod accept;
pub(crate) mod answers;
pub(crate) mod body;
pub(crate) mod guarded;
mod http1;
pub(crate) mod http2;
pub(crate) mod preface;
mod request_line;
pub(crate) mod tls;
mod unread;
