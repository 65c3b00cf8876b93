//! The text of a change in the audit trail: each field before and after.
//!
//! Answers for: the text contains no secret and no digest, and a line stays short however large
//! the record is.

use std::fmt::Display;

use fluxgate_types::{ClusterMs, Mode, caps, format_duration_ms};

use super::named::{Named, NamedKind};
use super::record::{KeyRecord, LimitSpec};
use super::terms::Terms;

/// Limits in the notation that people write.
pub(super) fn limits_text(limits: &[LimitSpec]) -> String {
    let one = |spec: &LimitSpec| {
        let limit = &spec.limit;
        let mut text =
            format!("{} {}/{}", limit.name, limit.tokens, format_duration_ms(limit.period_ms));
        for scope in limit.scopes.iter() {
            text = text + " @" + scope.as_str();
        }
        if limit.mode == Mode::Shadow { text + " shadow" } else { text }
    };
    limits.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn own_limits_text(record: &KeyRecord) -> String {
    let own = record.limits.as_deref().map_or_else(|| "defaults".to_owned(), limits_text);
    with_removed(own, &record.terms)
}

fn with_removed(own: String, terms: &Terms) -> String {
    terms.removes.iter().fold(own, |text, name| text + ", without " + name)
}

fn pools_text(terms: &Terms) -> String {
    or_none(terms.pools.as_ref().map(|pools| pools.join(", ")))
}

/// The text for a record with a name.
pub(super) fn of_named(named: &Named) -> String {
    let terms = named.governing.terms();
    let own = named.limits();
    let limits = if own.is_empty() { "none".to_owned() } else { limits_text(own) };
    let mut text = format!("{} {:?}: ", named.kind.as_str(), named.name);
    if named.kind == NamedKind::Owner {
        text += if named.enabled { "enabled, " } else { "disabled, " };
    }
    text = text + "limits " + &with_removed(limits, terms);
    if let Some(plan) = &terms.plan {
        text = text + ", plan " + plan;
    }
    if terms.pools.is_some() {
        text = text + ", pools " + &pools_text(terms);
    }
    bounded(text)
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
const FIELDS: [(&str, Shown); 9] = [
    ("name", |record| quoted(&record.name)),
    ("scope", |record| record.scope.to_string()),
    ("owner", |record| or_none(record.owner.as_deref().map(quoted))),
    ("limits", own_limits_text),
    ("plan", |record| or_none(record.terms.plan.as_deref())),
    ("pools", |record| pools_text(&record.terms)),
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
    let unnamed = |name: &str| match name {
        "plan" => record.terms.plan.is_none(),
        "pools" => record.terms.pools.is_none(),
        name => name == ENABLED,
    };
    let fields = FIELDS.iter().filter(|(name, _)| !unnamed(name));
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
