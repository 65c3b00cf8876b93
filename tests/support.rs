//! Shared by all black-box tests: clusters of real nodes, an HTTP client that hides nothing,
//! conditions with deadlines, load, and checks of what a client saw.

pub(crate) mod binary;
pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod exact;
pub(crate) mod http;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod ports;
pub(crate) mod settings;
pub(crate) mod wait;

pub(crate) use http::{Answer, Conn, Request};
pub(crate) use keys::Key;
pub(crate) use wait::{wait_for, wait_until};
