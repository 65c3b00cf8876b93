//! The HTTP contract as types: requests, answers and errors.
//!
//! Answers for: the JSON of every request and answer, the error codes with their status and
//! retryability, the paths and header names, and the OpenAPI document, which is generated from
//! these types. The server and the client both use it, so they cannot disagree. Must never serve,
//! call or decide anything, and must not depend on axum or reqwest.
//!
//! Requests reject unknown fields, so that a misspelt field is an error. Answers are read
//! leniently, so that an older client understands a newer server.
#![warn(missing_docs)]

pub mod bulk;
pub mod cluster;
pub mod error;
pub mod keys;
pub mod limits;
pub mod openapi;
pub mod paths;
pub mod records;
pub mod text;
pub mod usage;
pub mod validate;
pub mod verdict;

pub use error::{ErrorBody, ErrorCode};
pub use text::{Period, Shown, Text, Time};
pub use verdict::Verdict;
