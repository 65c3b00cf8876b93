//! The server: a node of the cluster with its listeners, drivers and configuration.
//!
//! Answers for everything between the sockets and the engine: it reads clocks, draws randomness,
//! sends and receives, and hands all of it to the engine as arguments. Must never name sled or
//! openraft, and decides nothing that the engine could decide.

mod agreement;
mod clock;
pub mod config;
mod counters;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod http;
mod leader;
mod lease;
mod members;
mod metrics;
mod node;
mod peer;
mod reason;
mod state;
pub mod telemetry;
mod time;
mod tls;
mod warnings;
mod writes;

pub use config::{Config, Layers, Problems, Secret, TlsFiles, Tokens};
pub use fluxgate_raft::CONSENSUS_THREAD;
pub use node::{Addresses, Node, NodeError, recover_addresses};
#[cfg(feature = "sim")]
pub use node::{Answer, Listener, Simulated, Surroundings};
