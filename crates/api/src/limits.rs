//! Limits as requests and answers have them.

use fluxgate_types::{Limit, LimitError, Mode, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::Period;
use crate::validate::ScopeSchema;

/// One limit of a key: a number of tokens per period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Distinguishes it from the key's other limits: `a-z`, `0-9`, `_` and `-`.
    #[schema(min_length = 1, max_length = 32, example = "requests")]
    pub name: String,
    /// Tokens per period.
    #[schema(minimum = 1, maximum = 1_000_000_000_u64, example = 100)]
    pub tokens: u64,
    /// Length of a period; whole seconds.
    #[schema(value_type = String, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "60s")]
    pub period: Period,
    /// It counts only requests that require one of these scopes; all requests when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ScopeSchema>, required = false, max_items = 3)]
    pub scopes: Vec<Scope>,
    /// What happens to a request when the limit is used up; `enforce` when absent.
    #[serde(default, skip_serializing_if = "LimitMode::is_default")]
    #[schema(required = false, inline)]
    pub mode: LimitMode,
}

/// What happens to a request when a limit is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// The request is denied.
    #[default]
    Enforce,
    /// The request is admitted; what would have been denied is counted.
    Shadow,
}

impl LimitMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl From<LimitMode> for Mode {
    fn from(mode: LimitMode) -> Self {
        match mode {
            LimitMode::Enforce => Self::Enforce,
            LimitMode::Shadow => Self::Shadow,
        }
    }
}

impl From<Mode> for LimitMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::Shadow => Self::Shadow,
        }
    }
}

impl LimitSpec {
    /// A limit that counts all requests and enforces.
    #[must_use]
    pub fn new(name: impl Into<String>, tokens: u64, period: Period) -> Self {
        Self { name: name.into(), tokens, period, scopes: Vec::new(), mode: LimitMode::default() }
    }

    /// The limit that this describes. Not checked.
    #[must_use]
    pub fn into_limit(self) -> Limit {
        Limit {
            scopes: self.scopes.into_iter().collect(),
            mode: self.mode.into(),
            ..Limit::new(self.name, self.tokens, self.period.ms)
        }
    }
}

/// One limit of a key, a plan or an owner; without tokens, the name of a limit of its plan that does
/// not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitEntry {
    /// Distinguishes it from the other limits: `a-z`, `0-9`, `_` and `-`.
    #[schema(min_length = 1, max_length = 32, example = "requests")]
    pub name: String,
    /// Tokens per period; null: the limit of this name of the plan does not apply.
    #[serde(deserialize_with = "nullable")]
    #[schema(minimum = 1, maximum = 1_000_000_000_u64, example = 100, required = true)]
    pub tokens: Option<u64>,
    /// Length of a period; whole seconds. Required with tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "60s")]
    pub period: Option<Period>,
    /// It counts only requests that require one of these scopes; all requests when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ScopeSchema>, required = false, max_items = 3)]
    pub scopes: Vec<Scope>,
    /// What happens to a request when the limit is used up; `enforce` when absent.
    #[serde(default, skip_serializing_if = "LimitMode::is_default")]
    #[schema(required = false, inline)]
    pub mode: LimitMode,
}

fn nullable<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(from)
}

impl LimitEntry {
    /// The limit of this name of the plan does not apply.
    #[must_use]
    pub fn removed(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tokens: None,
            period: None,
            scopes: Vec::new(),
            mode: LimitMode::default(),
        }
    }
}

impl From<LimitSpec> for LimitEntry {
    fn from(spec: LimitSpec) -> Self {
        Self {
            name: spec.name,
            tokens: Some(spec.tokens),
            period: Some(spec.period),
            scopes: spec.scopes,
            mode: spec.mode,
        }
    }
}

/// One limit in force, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveLimit {
    /// Its name.
    pub name: String,
    /// Tokens per period.
    pub tokens: u64,
    /// Length of a period.
    #[schema(value_type = String, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$", example = "60s")]
    pub period: Period,
    /// It counts only requests that require one of these scopes; all requests when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ScopeSchema>, required = false, max_items = 3)]
    pub scopes: Vec<Scope>,
    /// What happens to a request when the limit is used up; `enforce` when absent.
    #[serde(default, skip_serializing_if = "LimitMode::is_default")]
    #[schema(required = false, inline)]
    pub mode: LimitMode,
    /// `key` for the key's own; `plan:` and the name of the plan otherwise.
    #[schema(example = "plan:gold")]
    pub from: String,
}

impl EffectiveLimit {
    /// A limit that comes from there.
    #[must_use]
    pub fn new(limit: LimitSpec, from: String) -> Self {
        let LimitSpec { name, tokens, period, scopes, mode } = limit;
        Self { name, tokens, period, scopes, mode, from }
    }

    /// The limit alone.
    #[must_use]
    pub fn limit(&self) -> LimitSpec {
        LimitSpec {
            name: self.name.clone(),
            tokens: self.tokens,
            period: self.period,
            scopes: self.scopes.clone(),
            mode: self.mode,
        }
    }
}

impl From<&Limit> for LimitSpec {
    fn from(limit: &Limit) -> Self {
        Self {
            scopes: limit.scopes.iter().collect(),
            mode: limit.mode.into(),
            ..Self::new(limit.name.to_string(), limit.tokens, Period::from_ms(limit.period_ms))
        }
    }
}

impl TryFrom<LimitSpec> for Limit {
    type Error = LimitError;

    fn try_from(spec: LimitSpec) -> Result<Self, LimitError> {
        let limit = spec.into_limit();
        limit.check()?;
        Ok(limit)
    }
}
