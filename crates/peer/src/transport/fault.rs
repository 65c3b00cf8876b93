//! Why a node does not serve another node's calls.

use fluxgate_types::NodeId;

/// The response header that gives the reason for a rejection.
pub const REFUSED_FOR: &str = "x-fluxgate-refused";

/// Why a node rejects another node's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedFor {
    /// The cluster secrets differ.
    #[error("it has another cluster secret")]
    Secret,
    /// The cluster names differ.
    #[error("it belongs to another cluster")]
    Cluster,
    /// The ids differ: another node listens there.
    #[error("another node listens at its address")]
    Node,
    /// The data directory of one of the two differs.
    #[error("the cluster knows one of the two with another data directory, or has removed it")]
    Directory,
}

impl RefusedFor {
    const ALL: [Self; 4] = [Self::Secret, Self::Cluster, Self::Node, Self::Directory];

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

/// Why a node cannot be called, as the last call to it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It rejects this node.
    Refused(RefusedFor),
    /// TLS failed: a certificate was rejected or has expired, or the node speaks no TLS.
    Tls(String),
    Silent,
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not connected: the call was certainly not carried out.
    #[error("node {node} cannot be reached: {cause}")]
    Unreachable { node: NodeId, cause: String },
    /// No answer in time: it may have been carried out.
    #[error("node {node} did not answer in time")]
    Timeout { node: NodeId },
    /// The node rejected the call before doing anything.
    #[error("node {node} refused the call: {}", refusal(*.status, *.why))]
    Refused {
        node: NodeId,
        status: u16,
        /// The reason for the rejection, if the node gave one.
        why: Option<RefusedFor>,
    },
    /// The connection broke, or the answer was invalid: it may have been carried out.
    #[error("node {node} gave no usable answer: {cause}")]
    Broken { node: NodeId, cause: String },
}

fn refusal(status: u16, why: Option<RefusedFor>) -> String {
    why.map_or_else(|| format!("status {status}"), |why| why.to_string())
}
