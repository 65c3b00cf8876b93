//! Who did what to which key.

use askama::Template;
use fluxgate_api::usage::AuditEntry;
use fluxgate_types::format_duration_ms;

use super::frame::Frame;
use crate::form::DAY_MS;
use crate::moment::Moment;

/// Which entries the page shows. As typed: what cannot be read is said, and shown again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// To which key.
    pub key: String,
    /// What was done.
    pub action: String,
    /// By whom.
    pub actor: String,
    /// From when on, as the reader typed it.
    pub since: String,
    /// Until when.
    pub until: String,
    /// Both in UTC, as the script writes them.
    pub since_utc: String,
    /// See `since_utc`.
    pub until_utc: String,
    /// Where the page begins.
    pub cursor: String,
}

impl AuditFilter {
    /// Whether it leaves anything out.
    #[must_use]
    pub fn is_set(&self) -> bool {
        [&self.key, &self.action, &self.actor, &self.since, &self.until]
            .iter()
            .any(|field| !field.is_empty())
    }

    fn query(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let own = [
            ("key", self.key.as_str()),
            ("action", &self.action),
            ("actor", &self.actor),
            ("since", &self.since),
            ("until", &self.until),
            ("since_utc", &self.since_utc),
            ("until_utc", &self.until_utc),
        ];
        for (name, value) in own.iter().chain(more).filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        query.finish()
    }

    fn address(&self, cursor: &str) -> String {
        format!("/console/audit?{}", self.query(&[("cursor", cursor)]))
    }

    fn export(&self, format: &str) -> String {
        format!("/console/audit/export?{}", self.query(&[("format", format)]))
    }
}

/// The audit trail.
#[derive(Clone, Debug, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    /// Around it.
    pub frame: Frame,
    /// What is asked for.
    pub filter: AuditFilter,
    /// Every action that there is.
    pub actions: Vec<&'static str>,
    /// What was found, newest first.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// Why the filter cannot be read; empty: it can.
    pub error: String,
}

/// What changed, in one line.
pub(super) fn details(entry: &AuditEntry) -> String {
    let details: Vec<String> = entry.details.values().map(|text| readable(text)).collect();
    details.join("; ")
}

/// The registry's words as a person says them: it counts in milliseconds, and from 1970 on. They
/// are part of the replicated state, alike on nodes of every version, so they change here only.
fn readable(text: &str) -> String {
    if let Some(nodes) = text.strip_suffix(" from 1970-01-01T00:00:00Z") {
        return format!("{nodes} from the beginning");
    }
    if let Some(which) = text.strip_suffix(" is valid for 0 ms more") {
        return format!("{which} is dead");
    }
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let unit = word.strip_prefix("ms").filter(|rest| matches!(*rest, "" | ","));
        let ms = words.last().and_then(|number| number.parse().ok());
        match (ms, unit) {
            (Some(ms), Some(comma)) => {
                words.pop();
                words.push(span(ms) + comma);
            }
            (None, _) | (_, None) => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

fn span(ms: u64) -> String {
    if ms > DAY_MS && ms.is_multiple_of(DAY_MS) {
        format!("{} days", ms / DAY_MS)
    } else {
        format_duration_ms(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn details_are_in_a_readers_units() {
        let rotated = |ms| format!("new secret; the old one is valid for {ms} ms more");
        for (text, reads) in [
            (rotated("0"), "new secret; the old one is dead"),
            (rotated("1500"), "new secret; the old one is valid for 1500ms more"),
            (rotated("86400000"), "new secret; the old one is valid for 24h more"),
            (rotated("604800000"), "new secret; the old one is valid for 7 days more"),
            (rotated("soon"), "new secret; the old one is valid for soon ms more"),
            ("nodes 1, 2 from 1970-01-01T00:00:00Z".into(), "nodes 1, 2 from the beginning"),
            ("nodes 1 from 2026-11-27T08:00:00Z".into(), "nodes 1 from 2026-11-27T08:00:00Z"),
            ("requests 100 per 60000 ms".into(), "requests 100 per 60s"),
            ("a 1 per 1000 ms, b 2 per 600000 ms".into(), "a 1 per 1s, b 2 per 600s"),
            ("created with scope read".into(), "created with scope read"),
        ] {
            assert_eq!(readable(&text), reads);
        }
    }
}
