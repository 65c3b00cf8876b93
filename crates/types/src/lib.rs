//! The nouns of Fluxgate and every bound that it keeps.
//!
//! Answers for: what a key, a scope, a limit, a time and a node *are*, and which
//! values of them exist at all. Must never read a clock, do I/O or make randomness:
//! whoever needs these passes them in.
#![warn(missing_docs)]

pub mod caps;
pub mod credential;
pub mod id;
pub mod limit;
pub mod scope;
pub mod time;

pub use credential::{Credential, CredentialError, Digest, Secret};
pub use id::{BootId, DirId, KEY_ID_PREFIX, KeyId, LogIndex, NodeId};
pub use limit::{Limit, LimitError};
pub use scope::Scope;
pub use time::{BootNs, ClusterMs, DurationError, format_duration_ms, parse_duration_ms};
