//! The audit log.

use askama::Template;
use fluxgate_api::usage::AuditEntry;
use fluxgate_types::format_duration_ms;

use super::frame::Frame;
use crate::form::DAY_MS;
use crate::moment::Moment;

/// The filter of the page, as entered: an invalid value is reported and shown again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Id of a key.
    pub key: String,
    /// Action of the entries.
    pub action: String,
    /// Actor of the entries.
    pub actor: String,
    /// Earliest time, as the reader entered it.
    pub since: String,
    /// Latest time, as the reader entered it.
    pub until: String,
    /// Earliest time in UTC, as the script writes it.
    pub since_utc: String,
    /// Latest time in UTC, as the script writes it.
    pub until_utc: String,
    /// Cursor of this page.
    pub cursor: String,
}

impl AuditFilter {
    /// Whether the filter excludes anything.
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

/// The page of the audit log.
#[derive(Clone, Debug, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The filter as entered.
    pub filter: AuditFilter,
    /// All actions, for the choice in the filter.
    pub actions: Vec<&'static str>,
    /// The matching entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// Cursor of the next page.
    pub next: Option<String>,
    /// Why the filter is invalid; empty if it is valid.
    pub error: String,
}

/// The changes of an entry, in one line.
pub(super) fn details(entry: &AuditEntry) -> String {
    let details: Vec<String> = entry.details.values().map(|text| readable(text)).collect();
    details.join("; ")
}

/// Rewrites details for people: the registry writes milliseconds, and times from 1970 on. The
/// details are part of the replicated state and the same on nodes of every version, so they are
/// only changed here.
fn readable(text: &str) -> String {
    if let Some(nodes) = text.strip_suffix(" from 1970-01-01T00:00:00Z") {
        return format!("{nodes} from the start");
    }
    if let Some(which) = text.strip_suffix(" is valid for 0 ms more") {
        return format!("{which} is no longer valid");
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
    let text = words.join(" ");
    match text.strip_suffix(" more").and_then(|text| text.split_once(" is valid for ")) {
        Some((which, span)) => format!("{which} stays valid for {span}"),
        None => text,
    }
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
    fn details_are_rewritten_for_people() {
        let rotated = |ms| format!("new secret; the old one is valid for {ms} ms more");
        for (text, reads) in [
            (rotated("0"), "new secret; the old one is no longer valid"),
            (rotated("1500"), "new secret; the old one stays valid for 1500ms"),
            (rotated("86400000"), "new secret; the old one stays valid for 24h"),
            (rotated("604800000"), "new secret; the old one stays valid for 7 days"),
            (rotated("soon"), "new secret; the old one stays valid for soon ms"),
            ("nodes 1, 2 from 1970-01-01T00:00:00Z".into(), "nodes 1, 2 from the start"),
            ("nodes 1 from 2026-11-27T08:00:00Z".into(), "nodes 1 from 2026-11-27T08:00:00Z"),
            ("requests 100 per 60000 ms".into(), "requests 100 per 60s"),
            ("a 1 per 1000 ms, b 2 per 600000 ms".into(), "a 1 per 1s, b 2 per 600s"),
            ("created with scope read".into(), "created with scope read"),
        ] {
            assert_eq!(readable(&text), reads);
        }
    }
}
