//! Taking connections: bounded, guarded against malformed requests, and encrypted where configured.

pub(crate) mod accept;
mod request_line;
pub(crate) mod tls;
