//! The basic types of Fluxgate and every bound that it keeps.
//!
//! Answers for: what a key, a scope, a limit, a time and a node *are*, and which values of them are
//! valid. Must never read a clock, do I/O or generate randomness: callers pass these in.
#![warn(missing_docs)]

pub mod caps;
pub mod cost;
pub mod credential;
pub mod id;
pub mod limit;
pub mod scope;
pub mod subject;
pub mod time;
pub mod window;

pub use cost::Cost;
pub use credential::{Credential, CredentialError, Digest, Secret};
pub use id::{BootId, DirId, KEY_ID_PREFIX, KeyId, LogIndex, NodeId};
pub use limit::{Limit, LimitError, Mode};
pub use scope::{Scope, Scopes};
pub use subject::{Subject, SubjectKind, SubjectSeed};
pub use time::{BootNs, ClusterMs, DurationError, format_duration_ms, parse_duration_ms};
pub use window::Window;
