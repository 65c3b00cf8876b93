//! Why a node does not start, or cannot continue.

use std::net::SocketAddr;

use fluxgate_engine::join::JoinError;
use fluxgate_raft::StartError;
use fluxgate_store::OpenError;
use fluxgate_types::{BootId, NodeId};

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot listen on {address} ({what}): {source}")]
    Listen { address: SocketAddr, what: &'static str, source: std::io::Error },
    /// The data directory is damaged, in use or not this node's.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificates or keys are invalid.
    #[error("TLS: {0}")]
    Tls(String),
    #[error("cannot call other nodes: {0}")]
    Transport(String),
    #[error("consensus stopped: {0}")]
    Fatal(String),
    /// The cluster knows this node with another data directory.
    #[error(
        "node {0} is known to the cluster with another data directory: `fluxgate cluster remove-node {0}`, then start it with an empty directory and add it again"
    )]
    OtherDirectory(NodeId),
    /// The data directory is an older copy, or a copy of it has been started since.
    #[error(
        "the data directory is older than what the cluster knows: it has no record of start {newest} of node {node}, which the cluster has registered. It was restored from a copy, or a copy of it runs elsewhere. Another start does not help: `fluxgate cluster remove-node {node}`, then start it with an empty directory and add it again"
    )]
    OlderDirectory {
        node: NodeId,
        /// The newest start that the cluster knows.
        newest: BootId,
    },
    /// There is no data directory whose addresses could be recovered.
    #[error("there is no data directory at `{}`: nothing to recover", path.display())]
    NothingToRecover { path: std::path::PathBuf },
    /// The recovered addresses were not written to disk.
    #[error("the addresses were not written: {source}")]
    Note { source: std::io::Error },
    /// Another process runs on a copy of this data directory.
    #[error(
        "another process runs node {node} at {address} on a copy of this data directory: stop one of them. Nothing was changed"
    )]
    Copy {
        node: NodeId,
        /// Where the other process answers.
        address: String,
    },
}

impl NodeError {
    /// Whether the disk has no room.
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

    /// Whether another start may succeed, because consensus stopped or the disk was full.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Fatal(_)) || self.is_no_room()
    }
}

impl From<JoinError> for NodeError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::OtherDirectory { node } => Self::OtherDirectory(node),
            JoinError::OlderDirectory { node, newest } => Self::OlderDirectory { node, newest },
            JoinError::Copy { node, address } => Self::Copy { node, address },
        }
    }
}
