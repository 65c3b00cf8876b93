//! The reads besides keys and cluster: usage, audit trail, whoami.
//!
//! Answers for: the shapes of these three answers.

use std::collections::BTreeMap;

use fluxgate_types::{KeyId, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::text::{Text, Time};
use crate::validate::ScopeSchema;

/// How much of a key's limits is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The key's id.
    #[schema(value_type = String)]
    pub key_id: Text<KeyId>,
    /// One entry per limit.
    pub limits: Vec<LimitUsage>,
    /// When a request of the key was last admitted, approximately.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_used_at: Option<Time>,
}

/// One limit of a key: its current window, and earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitUsage {
    /// The limit's name.
    pub name: String,
    /// Tokens per window.
    pub limit: u64,
    /// Tokens spent in the current window, summed over the nodes that answered.
    pub spent: u64,
    /// Tokens left in the current window.
    pub remaining: u64,
    /// When the current window ends, Unix seconds.
    pub reset: u64,
    /// Tokens spent by each node.
    pub per_node: Vec<NodeSpent>,
    /// The last windows, oldest first, at most 60.
    #[schema(max_items = 60)]
    pub series: Vec<WindowSpent>,
}

/// Tokens that one node spent in the current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSpent {
    /// The node's id.
    pub node: u64,
    /// Tokens that it spent.
    pub spent: u64,
}

/// Tokens spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowSpent {
    /// When the window began, Unix seconds.
    pub window_start: u64,
    /// Tokens that all nodes spent in it.
    pub spent: u64,
}

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Number of the entry in the audit trail; increases.
    pub seq: u64,
    /// When it happened, in cluster time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// The action, such as `key.create`.
    #[schema(example = "key.create")]
    pub action: String,
    /// The key concerned; null if none.
    #[schema(value_type = Option<String>, required = true)]
    pub key_id: Option<Text<KeyId>>,
    /// The actor: `operator`, `system`, or the id of an admin key.
    pub actor: String,
    /// The client's address; null if unknown.
    #[schema(required = true)]
    pub from: Option<String>,
    /// The changes by field; never a secret.
    pub details: BTreeMap<String, String>,
}

/// One page of audit entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries of this page.
    pub entries: Vec<AuditEntry>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Which audit entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries about this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "key_Qm2xK9dA3f01")]
    pub key_id: Option<Text<KeyId>>,
    /// Only this action, such as `key.create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 32)]
    pub action: Option<String>,
    /// Only entries of this actor: `operator`, `system`, or the id of an admin key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 32)]
    pub actor: Option<String>,
    /// Entries per page; 50 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^c-[0-9a-f]{1,16}$")]
    pub cursor: Option<String>,
}

/// The kind of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// The operator token: every right over all keys and the cluster.
    Operator,
    /// An API key.
    Key,
}

/// The credential that a call presented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The operator token or an API key.
    pub kind: CredentialKind,
    /// The key's id; null for the operator token.
    #[schema(value_type = Option<String>, required = true)]
    pub key_id: Option<Text<KeyId>>,
    /// The key's name; null for the operator token.
    #[schema(required = true)]
    pub name: Option<String>,
    /// What the credential may do; the operator token counts as `admin`.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// The owner whose keys it manages; null for all owners.
    #[schema(required = true)]
    pub owner: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_has_five_fields() {
        let operator = Whoami {
            kind: CredentialKind::Operator,
            key_id: None,
            name: None,
            scope: Scope::Admin,
            owner: None,
        };
        let text = r#"{"kind":"operator","key_id":null,"name":null,"scope":"admin","owner":null}"#;
        assert_eq!(serde_json::to_string(&operator).unwrap(), text);
        assert_eq!(serde_json::from_str::<Whoami>(text).unwrap(), operator);
    }

    #[test]
    fn audit_entries_round_trip() {
        let text = concat!(
            r#"{"seq":7,"at":"2024-01-20T11:20:00Z","action":"key.update","#,
            r#""key_id":"key_Qm2xK9dA3f01","actor":"operator","from":"10.0.0.7","#,
            r#""details":{"scope":"read"}}"#
        );
        let entry: AuditEntry = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
    }
}
