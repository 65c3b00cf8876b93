//! Keys: the requests of an administrator, and the records in the answers.
//!
//! Answers for: the shapes of create, list, update, rotate and revoke, and that a key in the clear
//! appears in one answer only. The engine decides whether a value is permitted.

use std::collections::BTreeMap;
use std::fmt;

use fluxgate_types::{KeyId, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use crate::limits::{EffectiveLimit, LimitEntry, LimitMode, LimitSpec};
use crate::text::{Period, Shown, Text, Time, given, present};
use crate::validate::ScopeSchema;

/// Whether a key is currently accepted, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// Accepted.
    Active,
    /// Disabled; can be enabled again.
    Disabled,
    /// Past its `expires_at`.
    Expired,
    /// Permanently revoked.
    Revoked,
}

impl KeyStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Revoked];

    /// The name as it appears in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Requests a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What the key is for, in words.
    #[schema(min_length = 1, max_length = 100, example = "Production Sync")]
    pub name: String,
    /// What the key may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// The owner of the key. An admin key can only create keys of its own owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100, example = "user_42")]
    pub owner: Option<String>,
    /// Limits of the key; those of its plan when absent. Beside a plan they count by name: the key's
    /// own, otherwise the plan's, otherwise those of the plan `default`. Without a plan the list is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 16)]
    pub limits: Option<Vec<LimitEntry>>,
    /// The plan of the key; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, example = "gold")]
    pub plan: Option<String>,
    /// Pools that the key's requests are charged to as well; those of its plan when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 2)]
    pub pools: Option<Vec<String>>,
    /// When the key expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// Metadata: names and values of the caller's choice; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Changes a key. An absent field is left unchanged; `null` clears a field that can be cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateKey {
    /// A new name.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// A new scope.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ScopeSchema, required = false)]
    pub scope: Option<Scope>,
    /// A new owner, or null for none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 100)]
    pub owner: Option<Option<String>>,
    /// New limits, or null for those of its plan.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<LimitEntry>>, max_items = 16)]
    pub limits: Option<Option<Vec<LimitEntry>>>,
    /// A new plan, or null for `default`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub plan: Option<Option<String>>,
    /// New pools, or null for those of its plan.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 2)]
    pub pools: Option<Option<Vec<String>>>,
    /// Enables or disables the key.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// A new expiry, or null for none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Time>>,
    /// New metadata that replaces all existing entries, or null for none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub metadata: Option<Option<BTreeMap<String, String>>>,
}

/// Gives a key a new secret under the same id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old secret stays valid; `0s` when absent, at most 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "24h")]
    pub grace: Option<Period>,
    /// Ends an earlier secret immediately if the grace period of the previous rotation still keeps
    /// it valid. Without this, such a rotation is rejected, because it would break that promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    pub end_previous: Option<bool>,
}

/// Everything known about a key, except the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecord {
    /// The key's id.
    #[schema(value_type = String, example = "key_Qm2xK9dA3f01")]
    pub id: Text<KeyId>,
    /// What the key is for, in words.
    pub name: String,
    /// The start of the key, safe to show.
    #[schema(example = "fx_live_Qm2xK9dA3f01")]
    pub prefix: String,
    /// What the key may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// The owner of the key.
    #[schema(required = true)]
    pub owner: Option<String>,
    /// The limits in force for the key: its own and those of its plan.
    pub limits: Vec<LimitSpec>,
    /// The plan of the key; absent if it is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub plan: Option<String>,
    /// Pools that the key's requests are charged to; absent if they are those of its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub pools: Option<Vec<String>>,
    /// With `include=effective`: each limit in force, and where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub effective: Option<Vec<EffectiveLimit>>,
    /// Whether the key is enabled.
    pub enabled: bool,
    /// Whether the key is currently accepted.
    pub status: KeyStatus,
    /// When the key was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// Creator of the key: `operator`, or the id of an admin key.
    pub created_by: String,
    /// When the key expires.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Time>,
    /// When the cluster last admitted a request of the key, approximately.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_used_at: Option<Time>,
    /// When the previous secret stops being accepted; absent if it is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub previous_valid_until: Option<Time>,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
    /// Increases with every change. Sent in `ETag`; `If-Match` is compared with it.
    pub revision: u64,
}

/// Answers a write: the record after the change, and the nodes that have applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteAnswer {
    /// The record after the change.
    #[serde(flatten)]
    pub record: KeyRecord,
    /// Ids of the nodes that had applied the change when this was answered. Any other node holds no
    /// lease, and admits nothing until it has caught up.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
    /// Possibly unexpected consequences of the change, in words; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub notes: Vec<String>,
}

/// Options of reading a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadKey {
    /// What to add to the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub include: Option<Included>,
}

/// What can be added to the record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Included {
    /// Each limit in force, and where it comes from.
    Effective,
}

/// Options of deleting a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteKey {
    /// Erase the record of a revoked or expired key instead of revoking the key. Needs the operator
    /// token.
    #[serde(default)]
    #[param(required = false)]
    pub erase: bool,
}

/// Answers that a record was erased, and on which nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErasedKey {
    /// The id of the erased key.
    #[schema(value_type = String, example = "key_Qm2xK9dA3f01")]
    pub erased: Text<KeyId>,
    /// Ids of the nodes that had applied the erasure when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for these nodes, milliseconds.
    pub waited_ms: u64,
}

/// Answers `DELETE` of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "an answer is built once and serialized")]
pub enum DeletedKey {
    /// With `erase`: the record was erased.
    Erased(ErasedKey),
    /// Without `erase`: the revoked key's record.
    Revoked(WriteAnswer),
}

/// Answers create and rotate: the record and, only this once, the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key. It is stored nowhere and cannot be shown again.
    #[schema(value_type = String)]
    pub key: Shown,
    /// The record, and the nodes that have applied the change.
    #[serde(flatten)]
    pub written: WriteAnswer,
}

/// One page of keys, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The records of this page.
    pub keys: Vec<KeyRecord>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only keys of this owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub owner: Option<String>,
    /// Only keys whose name or prefix contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub search: Option<String>,
    /// Only keys with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub status: Option<KeyStatus>,
    /// Records per page; 50 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^c-[0-9a-f]{1,16}$")]
    pub cursor: Option<String>,
    /// States that the caller exports all pages, which is recorded in the audit trail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub export: bool,
}

#[cfg(test)]
mod tests;
