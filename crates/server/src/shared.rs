//! What the handlers of several listeners share.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod error;
pub(crate) mod path;
pub(crate) mod pipe;
pub(crate) mod respond;
pub(crate) mod words;
