//! The HTTP interface: gateway and admin listeners.
//!
//! Handlers read, ask the core, and shape the answer; what is decided is decided elsewhere. Every
//! refusal is our two-field body, made in `respond`.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod authorize;
mod batch;
pub(crate) mod body;
mod bulk;
pub(crate) mod cluster;
mod console;
pub(crate) mod gateway;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod path;
mod pipe;
pub(crate) mod refused;
mod request_line;
pub(crate) mod respond;
pub(crate) mod server;
pub(crate) mod transfer;
pub(crate) mod usage;
pub(crate) mod validate;
mod words;
