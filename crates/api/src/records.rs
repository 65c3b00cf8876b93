//! Records with a name: owners, plans and pools.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::keys::{LimitEntry, LimitSpec};
use crate::text::{Time, given, present};

/// Sets the record of an owner: it replaces what the record said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetOwner {
    /// What all keys of the owner may use together, beside the limits that each has; none when absent.
    /// Beside a plan they count by name: the owner's own, otherwise the plan's.
    #[serde(default)]
    #[schema(required = false, max_items = 16)]
    pub limits: Vec<LimitEntry>,
    /// The plan whose limits all keys of the owner have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, example = "gold")]
    pub plan: Option<String>,
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
    #[schema(nullable = false, max_items = 16)]
    pub limits: Option<Vec<LimitEntry>>,
    /// A new plan, or null for none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub plan: Option<Option<String>>,
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
    /// The owner's own limits: what all of its keys may use together.
    pub limits: Vec<LimitEntry>,
    /// The plan whose limits all keys of the owner have together; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub plan: Option<String>,
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

/// Sets a plan: it replaces what the plan said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// Limits of each key, and of each owner, that names the plan. A key also has the limits of the plan
    /// `default` that have other names.
    #[serde(default)]
    #[schema(required = false, max_items = 16)]
    pub limits: Vec<LimitEntry>,
    /// Pools that requests of the plan's keys are charged to as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 2)]
    pub pools: Option<Vec<String>>,
    /// Names of the metadata of keys that applications may read.
    #[serde(default)]
    #[schema(required = false, max_items = 16)]
    pub exposes: Vec<String>,
    /// Metadata: names and values of the caller's choice; at most 16.
    #[serde(default)]
    #[schema(required = false)]
    pub metadata: BTreeMap<String, String>,
}

/// Changes a plan. An absent field is left unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePlan {
    /// New limits that replace all existing ones.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 16)]
    pub limits: Option<Vec<LimitEntry>>,
    /// New pools, or null for none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 2)]
    pub pools: Option<Option<Vec<String>>>,
    /// New names of metadata that replace all existing ones.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 16)]
    pub exposes: Option<Vec<String>>,
    /// New metadata that replaces all existing entries.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanRecord {
    /// The plan.
    #[schema(example = "gold")]
    pub plan: String,
    /// Limits of each key, and of each owner, that names the plan.
    pub limits: Vec<LimitEntry>,
    /// Pools that requests of the plan's keys are charged to; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub pools: Option<Vec<String>>,
    /// Names of the metadata of keys that applications may read.
    pub exposes: Vec<String>,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
    /// How many keys name the plan.
    pub keys: usize,
    /// How many owners name the plan.
    pub owners: usize,
    /// When the plan was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When the plan was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Time,
    /// Increases with every change. Sent in `ETag`; `If-Match` is compared with it.
    pub revision: u64,
}

/// Sets a pool: it replaces what the pool said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    /// What all requests that are charged to the pool may use together.
    #[schema(min_items = 1, max_items = 8)]
    pub limits: Vec<LimitSpec>,
    /// Metadata: names and values of the caller's choice; at most 16.
    #[serde(default)]
    #[schema(required = false)]
    pub metadata: BTreeMap<String, String>,
}

/// Changes a pool. An absent field is left unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePool {
    /// New limits that replace all existing ones.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 8)]
    pub limits: Option<Vec<LimitSpec>>,
    /// New metadata that replaces all existing entries.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolRecord {
    /// The pool.
    #[schema(example = "search-backend")]
    pub pool: String,
    /// What all requests that are charged to the pool may use together.
    pub limits: Vec<LimitSpec>,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
    /// How many keys name the pool themselves.
    pub keys: usize,
    /// How many plans name the pool.
    pub plans: usize,
    /// When the pool was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When the pool was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Time,
    /// Increases with every change. Sent in `ETag`; `If-Match` is compared with it.
    pub revision: u64,
}

/// Answers a write of an owner's record: the record after the change, and the nodes that have applied it.
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

/// Answers a write of a plan: the record after the change, and the nodes that have applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// The record after the change.
    #[serde(flatten)]
    pub record: PlanRecord,
    /// Ids of the nodes that had applied the change when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Answers a write of a pool: the record after the change, and the nodes that have applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolAnswer {
    /// The record after the change.
    #[serde(flatten)]
    pub record: PoolRecord,
    /// Ids of the nodes that had applied the change when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Answers that a record was deleted, and on which nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedRecord {
    /// The name of the deleted record.
    #[schema(example = "user_42")]
    pub deleted: String,
    /// Ids of the nodes that had applied the deletion when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Options of a list of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordsQuery {
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

/// One page of the plans, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanList {
    /// The plans.
    pub plans: Vec<PlanRecord>,
    /// Begins the next page; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// One page of the pools, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    /// The pools.
    pub pools: Vec<PoolRecord>,
    /// Begins the next page; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
