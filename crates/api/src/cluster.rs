//! The cluster as one node sees it, and the changes that an operator can request.
//!
//! Answers for: the shapes of the cluster calls and of the two health checks. A view belongs to one
//! node: it can lag, and says by how much.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::Time;

/// The role of a node in the cluster, as the answering node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders the writes and grants the leases.
    Leader,
    /// Votes, and answers requests like any other node.
    Follower,
    /// Is a candidate in an election.
    Candidate,
    /// Receives the log and does not vote (yet).
    Learner,
    /// A member that this node has not heard from lately.
    Unreachable,
}

impl Role {
    /// The name as it appears in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// The cluster's name.
    pub cluster: String,
    /// The answering node.
    pub node_id: u64,
    /// The leader that this node follows; null while there is none.
    #[schema(required = true)]
    pub leader: Option<u64>,
    /// The term of the leader.
    pub term: u64,
    /// The last log index stored on a majority.
    pub committed: u64,
    /// The last log index that this node has applied.
    pub applied: u64,
    /// This node's estimate of cluster time.
    #[schema(value_type = String, format = DateTime)]
    pub cluster_time: Time,
    /// This node's wall clock minus cluster time, milliseconds.
    pub clock_offset_ms: i64,
    /// This node's version.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// How the tokens of each window are shared among the nodes.
    pub share_map: ShareMapView,
    /// The map that takes effect next; null when no change is pending.
    #[schema(required = true)]
    pub pending_share_map: Option<ShareMapView>,
    /// Every member.
    pub nodes: Vec<NodeView>,
    /// The lease duration of the cluster, milliseconds.
    #[serde(default)]
    pub lease_ms: u64,
    /// The cluster's bound for clock errors, milliseconds.
    #[serde(default)]
    pub clock_error_max_ms: u64,
    /// Expiry of the certificates of this node's listeners; absent if none uses TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub certificates: Vec<CertificateView>,
    /// Problems that an operator should know of, in words.
    pub warnings: Vec<String>,
}

/// The certificate of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// `gateway`, `grpc`, `admin` or `peer`.
    pub listener: String,
    /// When the certificate expires. Callers reject it from then on.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Time,
}

/// A share map: each node's share of every window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareMapView {
    /// When it takes effect, in cluster time.
    #[schema(value_type = String, format = DateTime)]
    pub from: Time,
    /// The nodes with a share.
    pub nodes: Vec<NodeWeight>,
}

/// One node's share of every window: its weight divided by the sum of all weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeWeight {
    /// The node's id.
    pub node: u64,
    /// The node's weight.
    pub weight: u64,
}

/// One member. Values that the answering node does not know are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// The node's id.
    pub id: u64,
    /// The address at which other nodes reach it.
    #[schema(example = "127.0.0.1:7301")]
    pub peer: String,
    /// The node's role.
    pub role: Role,
    /// The node's current term.
    #[schema(required = true)]
    pub term: Option<u64>,
    /// The last log index that the node has applied.
    #[schema(required = true)]
    pub applied: Option<u64>,
    /// Log entries between the last committed one and `applied`.
    #[schema(required = true)]
    pub lag: Option<u64>,
    /// Remaining duration of the node's lease, milliseconds; 0 if it holds none.
    #[schema(required = true)]
    pub lease_remaining_ms: Option<u64>,
    /// Whether the node would answer validate requests.
    #[schema(required = true)]
    pub ready: Option<bool>,
    /// Whether the answering node reached it recently.
    pub reachable: bool,
    /// The node's problem. For the answering node: why it answers no validate requests, as in
    /// `/readyz`. For another node: why it cannot be called, if more is known than that it does not
    /// answer.
    #[serde(default)]
    #[schema(required = true)]
    pub trouble: Option<String>,
    /// Whether calls from the answering node to this one are encrypted; null for the answering node
    /// itself.
    #[serde(default)]
    #[schema(required = true)]
    pub peer_tls: Option<bool>,
    /// The node's wall clock minus cluster time, milliseconds.
    #[schema(required = true)]
    pub clock_offset_ms: Option<i64>,
    /// The node's version.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Whether the node can write new log entries.
    #[schema(required = true)]
    pub writes: Option<WriteState>,
    /// Free space on the disk of the node's data directory, bytes.
    #[schema(required = true)]
    pub free_bytes: Option<u64>,
    /// The lease duration in the node's own configuration, milliseconds: should equal the
    /// cluster's.
    #[schema(required = true)]
    pub configured_lease_ms: Option<u64>,
    /// Number of starts on the node's data directory, including the current one.
    #[schema(required = true)]
    pub start: Option<u64>,
}

/// Whether a node can write new log entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteState {
    /// It can write.
    Ok,
    /// Its disk is full.
    DiskFull,
    /// Its disk does not confirm writes.
    Stalled,
}

impl WriteState {
    /// The name as it appears in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::DiskFull => "disk_full",
            Self::Stalled => "stalled",
        }
    }
}

/// Options of removing a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveNode {
    /// Remove the node even if the remaining voters that are up would not be a majority: the
    /// cluster then stops until enough of them are back.
    #[serde(default)]
    pub force: bool,
}

/// Moves cluster time forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTime {
    /// The new cluster time; if absent, the time of the members' wall clocks. Time never moves
    /// back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Time>,
}

/// Adds a node to the cluster, or moves a member to a new address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNode {
    /// The node's id, as in its configuration.
    #[schema(minimum = 1)]
    pub id: u64,
    /// The address at which other nodes reach it.
    #[schema(example = "127.0.0.1:7304")]
    pub peer: String,
}

/// Hands leadership to another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// The new leader; if absent, the follower that lags least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Answers a change of the cluster: the members and the leader after the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterChange {
    /// Ids of all members.
    pub nodes: Vec<u64>,
    /// The leader; null while there is none.
    #[schema(required = true)]
    pub leader: Option<u64>,
}

/// Answers a health check that found no problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a failed check has another status and an error body.
    pub status: HealthStatus,
    /// The answering node.
    pub node_id: u64,
    /// Problems of a node that still answers, such as a full disk; `/readyz` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The status of a healthy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// The process runs and, for `/readyz`, would answer validate requests.
    Ok,
}

impl Health {
    /// The answer of a healthy node without warnings.
    #[must_use]
    pub const fn ok(node_id: u64) -> Self {
        Self { status: HealthStatus::Ok, node_id, warnings: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_answer_is_a_status_and_a_node() {
        let text = serde_json::to_string(&Health::ok(2)).unwrap();
        assert_eq!(text, r#"{"status":"ok","node_id":2}"#);
    }

    #[test]
    fn every_request_rejects_unknown_fields() {
        assert!(serde_json::from_str::<AddNode>(r#"{"id":4,"peer":"a:1","voter":true}"#).is_err());
        assert!(serde_json::from_str::<HandOver>(r#"{"node":2}"#).is_err());
        assert_eq!(serde_json::from_str::<HandOver>("{}").unwrap().to, None);
    }
}
