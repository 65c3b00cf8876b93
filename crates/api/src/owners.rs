//! Owners: the limits of all keys of an owner together, and whether they are enabled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::keys::LimitSpec;
use crate::text::{Time, given};

/// Sets the record of an owner: it replaces what the record said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetOwner {
    /// What all keys of the owner may use together, beside the limits that each has; none when absent.
    #[serde(default)]
    #[schema(required = false, max_items = 8)]
    pub limits: Vec<LimitSpec>,
    /// Whether the keys of the owner are accepted; true when absent.
    #[serde(default = "enabled")]
    #[schema(required = false, default = true)]
    pub enabled: bool,
    /// Metadata: names and values of the caller's choice; at most 16.
    #[serde(default)]
    #[schema(required = false)]
    pub metadata: BTreeMap<String, String>,
}

fn enabled() -> bool {
    true
}

/// Changes the record of an owner. An absent field is left unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeOwner {
    /// New limits that replace all existing ones.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 8)]
    pub limits: Option<Vec<LimitSpec>>,
    /// Enables or disables the keys of the owner.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// New metadata that replaces all existing entries.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// The record of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerRecord {
    /// The owner.
    #[schema(example = "user_42")]
    pub owner: String,
    /// What all keys of the owner may use together.
    pub limits: Vec<LimitSpec>,
    /// Whether the keys of the owner are accepted.
    pub enabled: bool,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
    /// When the record was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When the record was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Time,
    /// Increases with every change. Sent in `ETag`; `If-Match` is compared with it.
    pub revision: u64,
}

/// Answers a write: the record after the change, and the nodes that have applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerAnswer {
    /// The record after the change.
    #[serde(flatten)]
    pub record: OwnerRecord,
    /// Ids of the nodes that had applied the change when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Answers that a record was deleted, and on which nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedOwner {
    /// The owner whose record was deleted.
    #[schema(example = "user_42")]
    pub deleted: String,
    /// Ids of the nodes that had applied the deletion when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Options of the list of owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OwnersQuery {
    /// Records per page; 50 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^c-([0-9a-f]{2}){1,400}$")]
    pub cursor: Option<String>,
}

/// One page of the owners that have a record, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerList {
    /// The records.
    pub owners: Vec<OwnerRecord>,
    /// Begins the next page; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
