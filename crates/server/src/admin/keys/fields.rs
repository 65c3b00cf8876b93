//! What a field of a key may hold. Every refusal names the field.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::paths::header as names;
use fluxgate_engine::state::command::Actor;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, Limit, LimitError, caps};

use crate::shared::auth::Principal;
use crate::shared::error::ApiError;

pub(super) fn bad(message: impl Into<String>) -> ApiError {
    Bad(message.into()).into()
}

/// Why a field cannot be taken.
pub(crate) struct Bad(String);

impl From<Bad> for ApiError {
    fn from(bad: Bad) -> Self {
        Self::new(ErrorCode::InvalidRequest, bad.0)
    }
}

impl From<Bad> for String {
    fn from(bad: Bad) -> Self {
        bad.0
    }
}

pub(super) fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such key")
}

/// A text of 1 to `chars_max` characters without control characters.
pub(crate) fn text(field: &str, value: &str, chars_max: usize) -> Result<Box<str>, Bad> {
    let count = value.chars().count();
    // Overrides of the reading direction print nothing and make names read as others.
    // So do letters without a width, and other ends of a line.
    let hidden = |c: char| {
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}')
    };
    let printable = !value.chars().any(|c| c.is_control() || hidden(c));
    if count == 0 || count > chars_max || !printable || value.trim().is_empty() {
        return Err(Bad(format!("{field}: must be 1 to {chars_max} printable characters")));
    }
    Ok(value.into())
}

pub(crate) fn limits(specs: Vec<LimitSpec>) -> Result<Vec<Limit>, Bad> {
    let convert = |spec: LimitSpec| Limit {
        name: spec.name.into(),
        tokens: spec.tokens,
        period_ms: spec.period.ms,
    };
    let limits: Vec<Limit> = specs.into_iter().map(convert).collect();
    Limit::check_all(&limits).map_err(|error| {
        // Who sets 0 wants to shut the key, and who sets more than the most wants no limit.
        let hint = match &error {
            LimitError::Tokens(name) => {
                let tokens = limits.iter().find(|limit| limit.name == *name).map(|l| l.tokens);
                if tokens == Some(0) {
                    "; to refuse every request, set `enabled` to false"
                } else {
                    ""
                }
            }
            LimitError::Count if limits.is_empty() => "; for those of the cluster, leave it out",
            LimitError::Name
            | LimitError::NamedTwice(_)
            | LimitError::Period(_)
            | LimitError::Count => "",
        };
        Bad(format!("limits: {error}{hint}"))
    })?;
    Ok(limits)
}

pub(crate) type Pairs = Vec<(Box<str>, Box<str>)>;

pub(crate) fn metadata(pairs: &BTreeMap<String, String>) -> Result<Pairs, Bad> {
    let fits = |text: &str, most: usize| {
        text.chars().count() <= most && !text.chars().any(char::is_control)
    };
    let sound = pairs.iter().all(|(name, value)| {
        !name.is_empty()
            && fits(name, caps::METADATA_NAME_CHARS_MAX)
            && fits(value, caps::METADATA_VALUE_CHARS_MAX)
    });
    if pairs.len() > caps::METADATA_ENTRIES_MAX || !sound {
        return Err(Bad(format!(
            "metadata: at most {} entries, names of 1 to {} and values of up to {} printable characters",
            caps::METADATA_ENTRIES_MAX,
            caps::METADATA_NAME_CHARS_MAX,
            caps::METADATA_VALUE_CHARS_MAX
        )));
    }
    Ok(pairs.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect())
}

pub(crate) fn future(state: &NodeState, at: ClusterMs) -> Result<ClusterMs, Bad> {
    if at <= state.now() {
        return Err(Bad("expires_at: must be in the future".into()));
    }
    if at.0 > caps::EXPIRES_AT_MS_MAX {
        return Err(Bad("expires_at: must be before the year 10000".into()));
    }
    Ok(at)
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = only(headers, names::IDEMPOTENCY_KEY)? else { return Ok(None) };
    let key = value.to_str().map_err(|_| bad("Idempotency-Key: must be visible ASCII"))?;
    if key.is_empty() || key.len() > caps::IDEMPOTENCY_KEY_CHARS_MAX {
        let most = caps::IDEMPOTENCY_KEY_CHARS_MAX;
        return Err(bad(format!("Idempotency-Key: must have 1 to {most} characters")));
    }
    Ok(Some(key.to_owned()))
}

/// An administrator's own idempotency key: one's keys say nothing to another.
pub(super) fn own(who: &Principal, action: &str, key: &str) -> Box<str> {
    let who = match who.actor() {
        Actor::Operator | Actor::System => "operator".to_owned(),
        Actor::Key(id) => id.to_string(),
    };
    format!("{action}/{who}/{key}").into()
}

/// The value of a header that may come once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad(format!("{name}: given more than once")));
    }
    Ok(first)
}

/// The revision of `If-Match`, if there is one.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = only(headers, header::IF_MATCH.as_str())? else { return Ok(None) };
    if value == "*" {
        // Any revision will do; that there is one has been seen.
        return Ok(None);
    }
    let text = value.to_str().map(str::trim).unwrap_or_default();
    if text.starts_with("W/") {
        // A weak tag never matches here (RFC 9110, section 13.1.1).
        let message = "If-Match: a weak tag matches no revision";
        return Err(ApiError::new(ErrorCode::PreconditionFailed, message));
    }
    let revision = text.trim_matches('"').parse().ok();
    revision.map(Some).ok_or_else(|| bad("If-Match: must be a record's revision, such as \"3\""))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0u8; N];
    fluxgate_node::state::fill_random(&mut bytes).map_err(|_| {
        ApiError::new(ErrorCode::Unavailable, "the operating system gives no randomness")
    })?;
    Ok(bytes)
}

/// Whether an admin key may give this owner to a key.
pub(super) fn may_own(who: &Principal, owner: Option<&str>) -> Result<(), ApiError> {
    if who.manages_owner(owner) {
        return Ok(());
    }
    let message = "An admin key manages the keys of its own owner only";
    Err(ApiError::new(ErrorCode::InsufficientScope, message))
}
