//! Who did what to which key.

use askama::Template;
use fluxgate_api::usage::AuditEntry;

use super::frame::Frame;
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
    let details: Vec<&str> = entry.details.values().map(String::as_str).collect();
    details.join("; ")
}
