//! Why a node does not start, or cannot go on.

use std::net::SocketAddr;

use fluxgate_raft::StartError;
use fluxgate_store::OpenError;
use fluxgate_types::{BootId, NodeId};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({what}): {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory is not as it should be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Consensus did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Certificates make no sense.
    #[error("TLS: {0}")]
    Tls(String),
    /// The HTTP client could not be built.
    #[error("cannot call other nodes: {0}")]
    Transport(String),
    /// Consensus stopped while the node ran.
    #[error("consensus stopped: {0}")]
    Fatal(String),
    /// The cluster knows this node with another data directory.
    #[error(
        "node {0} is known to the cluster with another data directory: `fluxgate cluster remove-node {0}`, then start it with an empty directory and add it again"
    )]
    OtherDirectory(NodeId),
    /// The data directory is an older copy, or a copy of it has started since.
    #[error(
        "the data directory is older than what the cluster knows: it does not remember start {newest} of node {node}, which is registered. It was put back from a copy, or a copy of it runs elsewhere. Starting it again does not help: `fluxgate cluster remove-node {node}`, then start it with an empty directory and add it again"
    )]
    OlderDirectory {
        /// The node.
        node: NodeId,
        /// The newest start that the cluster knows.
        newest: BootId,
    },
    /// There is no data directory whose addresses could be recovered.
    #[error("there is no data directory at `{}`: nothing to recover", path.display())]
    NothingToRecover {
        /// Where it was looked for.
        path: std::path::PathBuf,
    },
    /// The note of recovered addresses was not written.
    #[error("the addresses were not noted: {source}")]
    Note {
        /// Why.
        source: std::io::Error,
    },
    /// A copy of this data directory runs.
    #[error(
        "another process runs node {node} at {address} on a copy of this data directory: stop one of them. Nothing was changed"
    )]
    Copy {
        /// The node.
        node: NodeId,
        /// Where the other one answers.
        address: String,
    },
}

impl NodeError {
    /// Whether it is for want of room on the disk.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Open(error) | Self::Start(StartError::Open(error)) => error.is_no_room(),
            Self::Listen { .. }
            | Self::Start(_)
            | Self::Tls(_)
            | Self::Transport(_)
            | Self::Fatal(_)
            | Self::OtherDirectory(_)
            | Self::OlderDirectory { .. }
            | Self::NothingToRecover { .. }
            | Self::Note { .. }
            | Self::Copy { .. } => false,
        }
    }

    /// Whether another start can make more of it: consensus stopped, or the disk was full.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Fatal(_)) || self.is_no_room()
    }
}
