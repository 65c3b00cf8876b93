//! The cluster as one node sees it, and the changes that an operator can ask for.
//!
//! Answers for: the shapes of the cluster calls and of the two health checks. A view is one
//! node's own: it can be behind, and says by how much.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::Time;

/// What a node is in the cluster, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders the writes and grants the leases.
    Leader,
    /// Votes, and answers like any other.
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Receives the log and does not vote (yet).
    Learner,
    /// A member that this node has not heard from lately.
    Unreachable,
}

impl Role {
    /// The name, as on the wire.
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
    /// The node that answers.
    pub node_id: u64,
    /// The leader that it follows; null while there is none.
    #[schema(required = true)]
    pub leader: Option<u64>,
    /// The term of the leader.
    pub term: u64,
    /// The last log index that is on a majority.
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
    /// How each window's tokens are shared among the nodes.
    pub share_map: ShareMapView,
    /// The map that will count next; null when no change is under way.
    #[schema(required = true)]
    pub pending_share_map: Option<ShareMapView>,
    /// Every member.
    pub nodes: Vec<NodeView>,
    /// The lease that the cluster runs by, milliseconds.
    #[serde(default)]
    pub lease_ms: u64,
    /// The bound of the clock error that the cluster runs by, milliseconds.
    #[serde(default)]
    pub clock_error_max_ms: u64,
    /// When the certificates of this node's listeners end; absent where none has TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub certificates: Vec<CertificateView>,
    /// What an operator should know, in words.
    pub warnings: Vec<String>,
}

/// The certificate of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// `gateway`, `grpc`, `admin` or `peer`.
    pub listener: String,
    /// Callers refuse it from then on.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Time,
}

/// A share map: who may spend which part of every window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareMapView {
    /// From when on it counts, in cluster time.
    #[schema(value_type = String, format = DateTime)]
    pub from: Time,
    /// The nodes that have a share.
    pub nodes: Vec<NodeWeight>,
}

/// One node's part of every window: its weight over the sum of all weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeWeight {
    /// The node's id.
    pub node: u64,
    /// Its weight.
    pub weight: u64,
}

/// One member. What the answering node does not know of another is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// The node's id.
    pub id: u64,
    /// Where its peers reach it.
    #[schema(example = "127.0.0.1:7301")]
    pub peer: String,
    /// What it is.
    pub role: Role,
    /// The term that it is in.
    #[schema(required = true)]
    pub term: Option<u64>,
    /// The last log index that it has applied.
    #[schema(required = true)]
    pub applied: Option<u64>,
    /// Log entries between the last committed one and `applied`.
    #[schema(required = true)]
    pub lag: Option<u64>,
    /// How long its lease still runs, milliseconds; 0: it has none.
    #[schema(required = true)]
    pub lease_remaining_ms: Option<u64>,
    /// Whether it would answer validates.
    #[schema(required = true)]
    pub ready: Option<bool>,
    /// Whether the answering node reached it lately.
    pub reachable: bool,
    /// What is wrong: of the answering node why it answers no validates, as `/readyz` says it; of
    /// another one why it cannot be called, where more is known than that it does not answer.
    #[serde(default)]
    #[schema(required = true)]
    pub trouble: Option<String>,
    /// Whether calls of the answering node to it are encrypted; null for that node itself.
    #[serde(default)]
    #[schema(required = true)]
    pub peer_tls: Option<bool>,
    /// Its wall clock minus cluster time, milliseconds.
    #[schema(required = true)]
    pub clock_offset_ms: Option<i64>,
    /// Its version.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Whether it can write new log entries.
    #[schema(required = true)]
    pub writes: Option<WriteState>,
    /// Bytes that are free on the disk of its data directory.
    #[schema(required = true)]
    pub free_bytes: Option<u64>,
    /// The lease of its own configuration, milliseconds: should be the cluster's.
    #[schema(required = true)]
    pub configured_lease_ms: Option<u64>,
    /// How often it has started on its data directory, this start included.
    #[schema(required = true)]
    pub start: Option<u64>,
}

/// Whether a node can write new log entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteState {
    /// It can.
    Ok,
    /// Its disk has no room.
    DiskFull,
    /// Its disk does not confirm writes.
    Stalled,
}

impl WriteState {
    /// The name, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::DiskFull => "disk_full",
            Self::Stalled => "stalled",
        }
    }
}

/// How a node is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveNode {
    /// Also where the remaining voters that are up would be no majority: the cluster then stops until
    /// enough of them are back.
    #[serde(default)]
    pub force: bool,
}

/// Sets cluster time forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTime {
    /// To this moment; to what the wall clocks of the members say when absent. Never back.
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
    /// Where its peers reach it.
    #[schema(example = "127.0.0.1:7304")]
    pub peer: String,
}

/// Hands leadership over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// To which node; to the one that is least behind when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Answers a change of the cluster: who belongs to it and leads it, after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterChange {
    /// Ids of all members.
    pub nodes: Vec<u64>,
    /// The leader; null while there is none.
    #[schema(required = true)]
    pub leader: Option<u64>,
}

/// Answers a health check that found no fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a fault has another status and the body of an error.
    pub status: HealthStatus,
    /// The node that answers.
    pub node_id: u64,
    /// What is wrong with this node although it answers, such as a full disk; `/readyz` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The one word of a good health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// The process runs and, for `/readyz`, would answer validates.
    Ok,
}

impl Health {
    /// The body of a good health.
    #[must_use]
    pub const fn ok(node_id: u64) -> Self {
        Self { status: HealthStatus::Ok, node_id, warnings: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_one_word_and_a_node() {
        let text = serde_json::to_string(&Health::ok(2)).unwrap();
        assert_eq!(text, r#"{"status":"ok","node_id":2}"#);
    }

    #[test]
    fn unknown_fields_are_refused_in_every_request() {
        assert!(serde_json::from_str::<AddNode>(r#"{"id":4,"peer":"a:1","voter":true}"#).is_err());
        assert!(serde_json::from_str::<HandOver>(r#"{"node":2}"#).is_err());
        assert_eq!(serde_json::from_str::<HandOver>("{}").unwrap().to, None);
    }
}
