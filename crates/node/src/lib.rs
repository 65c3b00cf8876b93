//! The drivers of a node: everything between its listeners and the engine.
//!
//! Answers for: configuration, state that the parts of a node share, metrics and telemetry, and the
//! tasks that read clocks, draw randomness and call other nodes, and hand all of it to the engine as
//! arguments. Must never name sled or openraft or serve HTTP (`server`), and decides nothing that
//! the engine could decide.

mod agreement;
mod calls;
pub mod clock;
pub mod config;
pub mod counters;
mod error;
mod gossip;
pub mod health;
pub mod heard;
pub mod last_uses;
pub mod leader;
pub mod lifecycle;
pub mod member;
pub mod members;
pub mod metrics;
pub mod node;
pub mod own_start;
pub mod peer;
pub mod proposal;
pub mod published;
pub mod random;
pub mod reason;
mod starts;
pub mod state;
mod strangers;
pub mod telemetry;
pub mod time;
pub mod warnings;
pub mod writes;

pub use config::{Config, Layers, Problems, Secret, TlsFiles, Tokens};
pub use error::NodeError;
pub use node::recover_addresses;
