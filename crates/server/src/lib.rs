//! The listeners of a node, and what they serve: gateways, administrators, the console, gRPC, and
//! the other nodes.
//!
//! Answers for: what a caller sends is checked, bounded and understood here, and each answer is
//! shaped here. Handlers read, ask the node, and shape the answer; what is decided is decided below.
//! Must never be used by anything but the binary and what tests it.

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
