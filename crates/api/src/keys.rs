//! Keys: what an administrator asks for, and the record that answers.
//!
//! Answers for: the shapes of create, list, update, rotate and revoke, and that a key in the
//! clear exists in one answer only. Whether a value is permitted is decided by the engine.

use std::collections::BTreeMap;
use std::fmt;

use fluxgate_types::{KeyId, Limit, LimitError, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::text::{Period, Shown, Text, Time, given, present};
use crate::validate::ScopeSchema;

/// One limit of a key: so many tokens in each period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Tells it from the key's other limits: `a-z`, `0-9`, `_` and `-`.
    #[schema(min_length = 1, max_length = 32, example = "requests")]
    pub name: String,
    /// Tokens in one period.
    #[schema(minimum = 1, maximum = 1_000_000_000_u64, example = 100)]
    pub tokens: u64,
    /// Length of a window, whole seconds.
    #[schema(value_type = String, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "60s")]
    pub period: Period,
}

impl From<&Limit> for LimitSpec {
    fn from(limit: &Limit) -> Self {
        Self {
            name: limit.name.to_string(),
            tokens: limit.tokens,
            period: Period::from_ms(limit.period_ms),
        }
    }
}

impl TryFrom<LimitSpec> for Limit {
    type Error = LimitError;

    fn try_from(spec: LimitSpec) -> Result<Self, LimitError> {
        let limit = Self {
            name: spec.name.into_boxed_str(),
            tokens: spec.tokens,
            period_ms: spec.period.ms,
        };
        limit.check()?;
        Ok(limit)
    }
}

/// Whether a key is accepted at this moment, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// Accepted.
    Active,
    /// Switched off; can be switched on.
    Disabled,
    /// Past its `expires_at`.
    Expired,
    /// Revoked for good.
    Revoked,
}

impl KeyStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Revoked];

    /// The name, as on the wire.
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

/// Asks for a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What the key is for, in words.
    #[schema(min_length = 1, max_length = 100, example = "Production Sync")]
    pub name: String,
    /// What it may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// Whom it belongs to. An admin key can only make keys of its own owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100, example = "user_42")]
    pub owner: Option<String>,
    /// Its limits; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 8)]
    pub limits: Option<Vec<LimitSpec>>,
    /// When it stops being accepted; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// Notes of the caller's own; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Changes a key. A field that is absent stays as it is; `null` clears it, where it can be
/// cleared.
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
    /// A new owner, or nobody.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 100)]
    pub owner: Option<Option<String>>,
    /// New limits, or the configured default.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<LimitSpec>>, max_items = 8)]
    pub limits: Option<Option<Vec<LimitSpec>>>,
    /// Switches the key on or off.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// A new expiry, or none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Time>>,
    /// New notes in place of all old ones, or none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub metadata: Option<Option<BTreeMap<String, String>>>,
}

/// Gives a key a new secret under the same id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old secret stays valid; `0s` when absent, 30 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "24h")]
    pub grace: Option<Period>,
    /// Ends an earlier secret now that is still valid by the grace of the rotation before. Without it
    /// such a rotation is refused: it would break what was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    pub end_previous: Option<bool>,
}

/// All that is known of a key, except the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecord {
    /// Its id.
    #[schema(value_type = String, example = "key_Qm2xK9dA3f01")]
    pub id: Text<KeyId>,
    /// What it is for, in words.
    pub name: String,
    /// The first characters of the key, safe to show.
    #[schema(example = "fx_live_Qm2xK9dA3f01")]
    pub prefix: String,
    /// What it may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// Whom it belongs to.
    #[schema(required = true)]
    pub owner: Option<String>,
    /// Its limits.
    pub limits: Vec<LimitSpec>,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Whether it is accepted.
    pub status: KeyStatus,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// Who made it: `operator`, or the id of an admin key.
    pub created_by: String,
    /// When it stops being accepted.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Time>,
    /// When this node's cluster last saw it admitted, roughly.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_used_at: Option<Time>,
    /// Until when the secret before this one is accepted; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub previous_valid_until: Option<Time>,
    /// Notes of the caller's own.
    pub metadata: BTreeMap<String, String>,
    /// Counts up with every change; stands in `ETag`, and `If-Match` compares with it.
    pub revision: u64,
}

/// Answers a write: the record as it is after it, and where it already counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteAnswer {
    /// The record.
    #[serde(flatten)]
    pub record: KeyRecord,
    /// Ids of the nodes that had applied the change when this was answered. A node that is not
    /// named holds no lease, and accepts nothing until it has caught up.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for them, milliseconds.
    pub waited_ms: u64,
    /// What follows from the change and may not be expected, in words; absent where there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub notes: Vec<String>,
}

/// How a key is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteKey {
    /// Forget the record of a key that is revoked or expired, instead of revoking it. Needs the operator
    /// token.
    #[serde(default)]
    #[param(required = false)]
    pub erase: bool,
}

/// Answers that a record was erased, and where it is gone already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErasedKey {
    /// The id that it had.
    #[schema(value_type = String, example = "key_Qm2xK9dA3f01")]
    pub erased: Text<KeyId>,
    /// Ids of the nodes that had applied it when this was answered.
    pub applied_on: Vec<u64>,
    /// How long the answer waited for them, milliseconds.
    pub waited_ms: u64,
}

/// Answers `DELETE` of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "it is an answer, made once and written")]
pub enum DeletedKey {
    /// With `erase`.
    Erased(ErasedKey),
    /// Without: the record, revoked.
    Revoked(WriteAnswer),
}

/// Answers create and rotate: the record and, this once, the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key. It is stored nowhere and cannot be shown again.
    #[schema(value_type = String)]
    pub key: Shown,
    /// The record, and where the change counts.
    #[serde(flatten)]
    pub written: WriteAnswer,
}

/// One page of keys, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The records.
    pub keys: Vec<KeyRecord>,
    /// Where the next page begins; null on the last one.
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
    /// Only keys whose name or prefix contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub search: Option<String>,
    /// Only keys of this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub status: Option<KeyStatus>,
    /// Records on one page; 50 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^c-[0-9a-f]{1,16}$")]
    pub cursor: Option<String>,
    /// Says that page after page will be taken, to keep: the audit trail has a line of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub export: bool,
}

#[cfg(test)]
mod tests;
