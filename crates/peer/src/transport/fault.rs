//! Why a node does not serve the calls of another.

use fluxgate_types::NodeId;

/// The header of a refusal that says what it is for.
pub const REFUSED_FOR: &str = "x-fluxgate-refused";

/// What a node refuses the calls of another for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedFor {
    /// The cluster secret.
    #[error("it has another cluster secret")]
    Secret,
    /// The cluster's name.
    #[error("it belongs to another cluster")]
    Cluster,
    /// The id: another node listens there.
    #[error("another node listens at its address")]
    Node,
    /// The data directory of one of the two.
    #[error("the cluster knows one of the two with another data directory, or has removed it")]
    Directory,
}

impl RefusedFor {
    const ALL: [Self; 4] = [Self::Secret, Self::Cluster, Self::Node, Self::Directory];

    /// The word in the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Directory => "directory",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }
}

/// Why a node cannot be called, as the last call to it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It refuses this node.
    Refused(RefusedFor),
    /// TLS failed: a certificate was rejected or has expired, or it speaks none.
    Tls(String),
    /// No answer.
    Silent,
}

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not connected: the call was certainly not carried out.
    #[error("node {node} cannot be reached: {cause}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Why.
        cause: String,
    },
    /// No answer in time: it may have been carried out.
    #[error("node {node} did not answer in time")]
    Timeout {
        /// The node.
        node: NodeId,
    },
    /// The node refused the call before doing anything.
    #[error("node {node} refused the call: {}", refusal(*.status, *.why))]
    Refused {
        /// The node.
        node: NodeId,
        /// The HTTP status.
        status: u16,
        /// What it says it is for, where it says so.
        why: Option<RefusedFor>,
    },
    /// The connection broke, or the answer made no sense: it may have been carried out.
    #[error("node {node} gave no usable answer: {cause}")]
    Broken {
        /// The node.
        node: NodeId,
        /// Why.
        cause: String,
    },
}

fn refusal(status: u16, why: Option<RefusedFor>) -> String {
    why.map_or_else(|| format!("status {status}"), |why| why.to_string())
}
