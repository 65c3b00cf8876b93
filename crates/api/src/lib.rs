//! The HTTP contract as types: what may be asked, what is answered, and how it fails.
//!
//! Answers for: the JSON of every request and answer, the error codes with their status and
//! whether another try can help, the paths and header names, and the OpenAPI document, which is
//! generated from these types. The server and the client both read it, so they cannot disagree.
//! Must never serve, call or decide anything, and knows neither axum nor reqwest.
//!
//! Requests refuse unknown fields, so a misspelt one is an error and not a surprise. Answers are
//! read leniently, so an older client understands a newer server.
#![warn(missing_docs)]

pub mod bulk;
pub mod cluster;
pub mod error;
pub mod keys;
pub mod openapi;
pub mod paths;
pub mod text;
pub mod usage;
pub mod validate;

pub use error::{ErrorBody, ErrorCode};
pub use text::{Period, Shown, Text, Time};
