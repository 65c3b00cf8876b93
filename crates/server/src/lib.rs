//! The listeners of a node: for gateways, over HTTP and gRPC, for administrators, with the console,
//! and for the other nodes.
//!
//! Answers for: input is checked and bounded here, and responses are made here. Handlers read a
//! request, call the node, and shape the response; the node decides. Only the binary and its tests
//! may use this crate.

mod admin;
mod console;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
mod grpc;
mod listen;
mod node;
mod peer;
mod shared;
#[cfg(feature = "sim")]
mod simulated;

#[cfg(feature = "sim")]
pub use fluxgate_node::node::Surroundings;
pub use fluxgate_node::{
    Config, Layers, NodeError, Problems, Secret, TlsFiles, Tokens, recover_addresses, telemetry,
};
pub use fluxgate_raft::CONSENSUS_THREAD;
pub use node::{Addresses, Node};
#[cfg(feature = "sim")]
pub use simulated::{Answer, Listener, Simulated};
