//! What a field of a key may contain. Every error names the field.

use std::collections::BTreeMap;

use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{LimitEntry, LimitMode, LimitSpec};
use fluxgate_types::{ClusterMs, Limit, LimitError, caps};

use crate::shared::auth::Principal;
use crate::shared::error::ApiError;

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    InvalidField(message.into()).into()
}

/// Why a field is not valid.
pub(crate) struct InvalidField(String);

impl InvalidField {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

impl From<InvalidField> for ApiError {
    fn from(InvalidField(message): InvalidField) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<InvalidField> for String {
    fn from(InvalidField(message): InvalidField) -> Self {
        message
    }
}

/// A text of 1 to `chars_max` characters without control characters.
pub(crate) fn text(field: &str, value: &str, chars_max: usize) -> Result<Box<str>, InvalidField> {
    let count = value.chars().count();
    // Direction overrides, characters without width and unusual line ends are invisible, and make a
    // name look like another one.
    let hidden = |c: char| {
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}')
    };
    let printable = !value.chars().any(|c| c.is_control() || hidden(c));
    if count == 0 || count > chars_max || !printable || value.trim().is_empty() {
        return Err(InvalidField(format!(
            "{field}: must be 1 to {chars_max} printable characters"
        )));
    }
    Ok(value.into())
}

/// Own limits, and the names of limits of a plan that do not apply.
pub(crate) type Own = (Vec<Limit>, Box<[Box<str>]>);

/// The own limits of something that may have a plan beside them: if it has one, or removes limits of
/// one, there may be none.
pub(crate) fn limits_beside(entries: Vec<LimitEntry>, has_plan: bool) -> Result<Own, InvalidField> {
    let (mut specs, mut removes) = (Vec::new(), Vec::<Box<str>>::new());
    for entry in entries {
        let LimitEntry { name, tokens, period, scopes, mode } = entry;
        match (tokens, period) {
            (Some(tokens), Some(period)) => {
                specs.push(LimitSpec { name, tokens, period, scopes, mode });
            }
            (Some(_), None) => {
                return Err(InvalidField(format!("limits: `{name}` needs a period")));
            }
            (None, None) if scopes.is_empty() && mode == LimitMode::Enforce => {
                removes.push(name.into());
            }
            (None, _) => {
                return Err(InvalidField(format!(
                    "limits: `{name}` has no tokens, which takes it away: then it has nothing else"
                )));
            }
        }
    }
    let named_twice = |name: &str| {
        specs.iter().any(|spec| *spec.name == *name)
            || removes.iter().filter(|other| ***other == *name).count() > 1
    };
    if let Some(name) = removes.iter().find(|name| named_twice(name)) {
        return Err(InvalidField(format!("limits: limit `{name}` appears twice")));
    }
    if removes.len() > caps::LIMITS_PER_KEY_MAX {
        return Err(InvalidField(format!(
            "limits: at most {} can be taken away",
            caps::LIMITS_PER_KEY_MAX
        )));
    }
    if let Some(name) =
        removes.iter().find(|name| Limit::new((*name).clone(), 1, 1_000).check().is_err())
    {
        return Err(InvalidField(format!("limits: `{name}` is no name of a limit")));
    }
    let may_be_empty = has_plan || !removes.is_empty();
    let own = if may_be_empty { limits_or_none(specs)? } else { limits(specs)? };
    Ok((own, removes.into()))
}

/// How limits are shown: those that it has, and those of its plan that do not apply.
pub(crate) fn limit_entries(limits: &[Limit], removes: &[Box<str>]) -> Vec<LimitEntry> {
    let own = limits.iter().map(|limit| LimitEntry::from(LimitSpec::from(limit)));
    own.chain(removes.iter().map(|name| LimitEntry::removed(&**name))).collect()
}

/// Whether a path with this segment means another path (RFC 3986, section 5.2.4).
pub(crate) fn is_dots(name: &str) -> bool {
    matches!(name, "." | "..")
}

/// The name of a plan or a pool.
pub(crate) fn record_name(field: &str, name: &str) -> Result<Box<str>, InvalidField> {
    let is_plain =
        |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-' | b'.');
    let most = caps::RECORD_NAME_CHARS_MAX;
    // Clients take such a path for another one.
    if is_dots(name) || name.is_empty() || name.len() > most || !name.bytes().all(is_plain) {
        return Err(InvalidField(format!(
            "{field}: must be 1 to {most} characters of a-z, 0-9, `_`, `-` and `.`, and not only dots"
        )));
    }
    Ok(name.into())
}

/// The names of pools.
pub(crate) fn pools(names: &[String]) -> Result<Box<[Box<str>]>, InvalidField> {
    if names.len() > caps::POOLS_PER_KEY_MAX {
        return Err(InvalidField(format!("pools: at most {}", caps::POOLS_PER_KEY_MAX)));
    }
    names.iter().map(|name| record_name("pools", name)).collect()
}

/// The limits of a key.
pub(crate) fn limits(specs: Vec<LimitSpec>) -> Result<Vec<Limit>, InvalidField> {
    let limits: Vec<Limit> = specs.into_iter().map(LimitSpec::into_limit).collect();
    Limit::check_all(&limits).map_err(|error| {
        // A caller that sets 0 wants to disable the key; an empty list means the cluster's limits.
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
        InvalidField(format!("limits: {error}{hint}"))
    })?;
    Ok(limits)
}

/// The limits of a record that may have none; otherwise the rules for those of a key apply.
pub(crate) fn limits_or_none(specs: Vec<LimitSpec>) -> Result<Vec<Limit>, InvalidField> {
    if specs.is_empty() { Ok(Vec::new()) } else { limits(specs) }
}

/// Names and values of metadata.
pub(crate) type Pairs = Vec<(Box<str>, Box<str>)>;

/// The metadata of a key.
pub(crate) fn metadata(pairs: &BTreeMap<String, String>) -> Result<Pairs, InvalidField> {
    let fits = |text: &str, most: usize| {
        text.chars().count() <= most && !text.chars().any(char::is_control)
    };
    let is_valid = pairs.iter().all(|(name, value)| {
        !name.is_empty()
            && fits(name, caps::METADATA_NAME_CHARS_MAX)
            && fits(value, caps::METADATA_VALUE_CHARS_MAX)
    });
    if pairs.len() > caps::METADATA_ENTRIES_MAX || !is_valid {
        return Err(InvalidField(format!(
            "metadata: at most {} entries, names of 1 to {} and values of up to {} printable characters",
            caps::METADATA_ENTRIES_MAX,
            caps::METADATA_NAME_CHARS_MAX,
            caps::METADATA_VALUE_CHARS_MAX
        )));
    }
    Ok(pairs.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect())
}

/// An expiry after `now`.
pub(crate) fn future(now: ClusterMs, at: ClusterMs) -> Result<ClusterMs, InvalidField> {
    if at <= now {
        return Err(InvalidField("expires_at: must be in the future".into()));
    }
    if at.0 > caps::EXPIRES_AT_MS_MAX {
        return Err(InvalidField("expires_at: must be before the year 10000".into()));
    }
    Ok(at)
}

/// Checks that an administrator may give this owner to a key.
pub(super) fn check_owner(principal: &Principal, owner: Option<&str>) -> Result<(), ApiError> {
    if principal.manages_owner(owner) {
        return Ok(());
    }
    let message = "An admin key manages the keys of its own owner only";
    Err(ApiError::new(ErrorCode::InsufficientScope, message))
}
