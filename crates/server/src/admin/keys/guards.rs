//! The headers that guard a change: `If-Match` and `Idempotency-Key`.

use axum::http::{HeaderMap, HeaderValue, header};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths::header as names;
use fluxgate_engine::state::command::Actor;
use fluxgate_types::caps;

use super::fields::invalid;
use crate::shared::auth::Principal;
use crate::shared::error::ApiError;

/// The conditions of a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    /// The change applies only at this revision.
    pub(crate) if_revision: Option<u64>,
    /// The change applies at most once with this idempotency key.
    pub(crate) idempotency_key: Option<String>,
}

impl Guards {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self { if_revision: if_match(headers)?, idempotency_key: idempotency_key(headers)? })
    }
}

/// The value of `Idempotency-Key`; `None` without the header.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = single(headers, names::IDEMPOTENCY_KEY)? else { return Ok(None) };
    let key = value.to_str().map_err(|_| invalid("Idempotency-Key: must be visible ASCII"))?;
    if key.is_empty() || key.len() > caps::IDEMPOTENCY_KEY_CHARS_MAX {
        let most = caps::IDEMPOTENCY_KEY_CHARS_MAX;
        return Err(invalid(format!("Idempotency-Key: must have 1 to {most} characters")));
    }
    Ok(Some(key.to_owned()))
}

/// An idempotency key that no other administrator and no other action shares.
pub(super) fn scoped_idempotency_key(principal: &Principal, action: &str, key: &str) -> Box<str> {
    let name = match principal.actor() {
        Actor::Operator | Actor::System => "operator".to_owned(),
        Actor::Key(id) => id.to_string(),
    };
    format!("{action}/{name}/{key}").into()
}

/// The revision in `If-Match`; `None` if any revision will do.
pub(in crate::admin) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = single(headers, header::IF_MATCH.as_str())? else { return Ok(None) };
    if value == "*" {
        // Requires only that the record exists, which the caller of this function checks.
        return Ok(None);
    }
    let text = value.to_str().map(str::trim).unwrap_or_default();
    if text.starts_with("W/") {
        // A weak tag never matches here (RFC 9110, section 13.1.1).
        let message = "If-Match: a weak tag matches no revision";
        return Err(ApiError::new(ErrorCode::PreconditionFailed, message));
    }
    let revision = text.trim_matches('"').parse().ok();
    let message = "If-Match: must be a record's revision, such as \"3\"";
    revision.map(Some).ok_or_else(|| invalid(message))
}

/// The value of a header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(invalid(format!("{name}: given more than once")));
    }
    Ok(first)
}
