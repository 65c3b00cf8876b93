//! What the handlers of several listeners share.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod client_addr;
pub(crate) mod error;
pub(crate) mod flavour;
pub(crate) mod gateway_token;
pub(crate) mod health;
pub(crate) mod path;
pub(crate) mod pipe;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod respond;
pub(crate) mod words;
