//! What the audit trail says of a change: each field as it was before and as it is after.
//!
//! Answers for: no secret and no digest is ever named, and one line stays short however large the
//! record is.

use std::fmt::Display;

use fluxgate_types::{ClusterMs, caps, format_duration_ms};

use super::record::{KeyRecord, LimitSpec};

/// Limits as people write them.
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

/// How a field of a record is written.
type Shown = fn(&KeyRecord) -> String;

/// Whether a key is switched on: a new one always is.
const ENABLED: &str = "enabled";

/// What a change can change, in this order.
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

/// What a new key may do.
pub(super) fn of_creation(record: &KeyRecord) -> String {
    let fields = FIELDS.iter().filter(|(name, _)| *name != ENABLED);
    let fields = fields.map(|(name, of)| format!("{name}: {}", of(record)));
    bounded(fields.collect::<Vec<_>>().join("; "))
}

/// What a rotation leaves valid, and what it ends. `before` is the record without it.
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
