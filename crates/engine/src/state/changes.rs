//! The text of a change in the audit trail: each field before and after.
//!
//! Answers for: the text contains no secret and no digest, and a line stays short however large
//! the record is.

use std::fmt::Display;

use fluxgate_types::{ClusterMs, caps, format_duration_ms};

use super::record::{KeyRecord, LimitSpec};

/// Limits in the notation that people write.
pub(super) fn limits_text(limits: &[LimitSpec]) -> String {
    let one = |spec: &LimitSpec| {
        let limit = &spec.limit;
        format!("{} {}/{}", limit.name, limit.tokens, format_duration_ms(limit.period_ms))
    };
    limits.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn own_limits_text(record: &KeyRecord) -> String {
    record.limits.as_deref().map_or_else(|| "defaults".to_owned(), limits_text)
}

/// A text in quotes. Quotes within it are escaped, so it cannot be read as a part of the sentence.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn named(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.chars().all(is_plain) { name.to_owned() } else { quoted(name) }
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn metadata_text(record: &KeyRecord) -> String {
    let pairs = record.metadata.as_deref().into_iter().flat_map(|pairs| pairs.iter());
    let one = |(name, value): &(Box<str>, Box<str>)| format!("{}={}", named(name), quoted(value));
    let text = pairs.map(one).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Cuts a text to [`caps::AUDIT_DETAILS_CHARS_MAX`].
pub(super) fn bounded(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(caps::AUDIT_DETAILS_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Renders a field of a record.
type Shown = fn(&KeyRecord) -> String;

/// The field for whether a key is enabled: a new key always is.
const ENABLED: &str = "enabled";

/// The fields that a change can affect, in this order.
const FIELDS: [(&str, Shown); 7] = [
    ("name", |record| quoted(&record.name)),
    ("scope", |record| record.scope.to_string()),
    ("owner", |record| or_none(record.owner.as_deref().map(quoted))),
    ("limits", own_limits_text),
    (ENABLED, |record| record.enabled.to_string()),
    ("expires_at", |record| or_none(record.expires_at)),
    ("metadata", metadata_text),
];

/// The fields that differ, in words.
pub(super) fn between(before: &KeyRecord, after: &KeyRecord) -> String {
    let differs = FIELDS.iter().filter_map(|(name, of)| {
        let (old, new) = (of(before), of(after));
        (old != new).then(|| format!("{name}: {old} → {new}"))
    });
    let text = differs.collect::<Vec<_>>().join("; ");
    if text.is_empty() { "nothing differs".to_owned() } else { bounded(text) }
}

/// The text for a new key.
pub(super) fn of_creation(record: &KeyRecord) -> String {
    let fields = FIELDS.iter().filter(|(name, _)| *name != ENABLED);
    let fields = fields.map(|(name, of)| format!("{name}: {}", of(record)));
    bounded(fields.collect::<Vec<_>>().join("; "))
}

/// Which secrets a rotation leaves valid, and which it ends. `before` is the record before it.
pub(super) fn of_rotation(before: &KeyRecord, at: ClusterMs, grace_ms: u64) -> String {
    let mut text = if grace_ms == 0 {
        "new secret; the old one ended".to_owned()
    } else {
        format!("new secret; the old one stays valid until {}", at + grace_ms)
    };
    let earlier = before.previous.as_ref().filter(|earlier| at < earlier.until);
    if let Some(earlier) = earlier {
        text += &format!("; an earlier one, valid until {}, ended", earlier.until);
    }
    text
}
