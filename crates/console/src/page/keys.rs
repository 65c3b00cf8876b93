//! The table of keys, a new key, and the one page that shows it.

use std::time::Duration;

use askama::Template;
use fluxgate_api::keys::{CreatedKey, KeyRecord, KeyStatus};
use fluxgate_types::Scope;

use super::frame::Frame;
use crate::form::{FieldError, KeyForm};
use crate::moment::Moment;

/// What a scope is for, in words.
#[must_use]
pub(super) const fn scope_text(scope: &Scope) -> &'static str {
    match scope {
        Scope::Read => "Read-only access. For dashboards, monitoring and reporting.",
        Scope::Write => "Look and change. For automation, integrations and scheduled tasks.",
        Scope::Admin => {
            "Everything, keys included. For administrative tools that need full access."
        }
    }
}

/// Which keys the table shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Part of a name, or the beginning of a prefix.
    pub search: String,
    /// Whose.
    pub owner: String,
    /// In which state.
    pub status: String,
    /// Where the page begins.
    pub cursor: String,
}

impl KeyFilter {
    /// Whether it leaves anything out.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !(self.search.is_empty() && self.owner.is_empty() && self.status.is_empty())
    }

    fn is_status(&self, status: &KeyStatus) -> bool {
        self.status == status.as_str()
    }

    /// The address of a page of the same keys.
    fn address(&self, cursor: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("search", self.search.as_str()),
            ("owner", &self.owner),
            ("status", &self.status),
            ("cursor", cursor),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        format!("/console/keys?{}", query.finish())
    }
}

/// Where what was found begins in the page.
const FOUND: &str = "<!--found-->";
/// Stands there until it is found; the style hides it as soon as anything follows.
const SEARCHING: &str = "<p class=\"searching\" role=\"status\">Searching all keys…</p>";

/// The table of keys.
#[derive(Clone, Debug, Template)]
#[template(path = "keys.html")]
pub struct KeysPage {
    /// Around it.
    pub frame: Frame,
    /// What is asked for.
    pub filter: KeyFilter,
    /// What was found.
    pub keys: Vec<KeyRecord>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// All keys of the cluster, where the reader may know.
    pub total: Option<usize>,
}

impl KeysPage {
    /// What stands above the keys, to be sent before they are found.
    #[must_use]
    pub fn above(&self) -> String {
        let mut page = super::render(self);
        page.truncate(page.find(FOUND).unwrap_or(page.len()));
        page + SEARCHING
    }

    /// The rest.
    #[must_use]
    pub fn below(&self) -> String {
        let page = super::render(self);
        page.split_once(FOUND).map_or(String::new(), |(_, below)| below.to_owned())
    }

    fn ids(&self) -> String {
        let ids: Vec<String> = self.keys.iter().map(|key| key.id.to_string()).collect();
        ids.join(",")
    }

    fn total_text(&self) -> String {
        self.total.map(grouped).unwrap_or_default()
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Asks for a new key.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "new.html")]
pub struct NewKeyPage {
    /// Around it.
    pub frame: Frame,
    /// What is filled in.
    pub form: KeyForm,
    /// Why it was refused.
    pub error: Option<FieldError>,
    /// Makes the form good for one key.
    pub once: String,
    /// The limit of a key without its own, as text.
    pub default_limit: String,
}

impl NewKeyPage {
    fn error_of(&self, field: &str) -> &str {
        error_of(self.error.as_ref(), field)
    }

    /// Whether the reader begins with this field: the first, unless another was refused.
    fn is_first(&self, field: &str) -> bool {
        self.error.as_ref().is_none_or(|error| error.field.is_empty() || error.field == field)
    }
}

/// Why a field was refused; empty: it was not.
pub(super) fn error_of<'a>(error: Option<&'a FieldError>, field: &str) -> &'a str {
    error.filter(|error| error.field == field).map_or("", |error| &error.message)
}

/// Shows a key, this once.
#[derive(Clone, Debug, Template)]
#[template(path = "shown.html")]
pub struct ShownPage {
    /// Around it.
    pub frame: Frame,
    /// The key and its record.
    pub created: CreatedKey,
    /// The key was there before and got a new secret.
    pub is_rotated: bool,
    /// From the click until it held on the nodes.
    pub took: Duration,
    /// How long the old secret stays valid; empty: it does not.
    pub grace: String,
    /// Where a gateway of this node answers, as in the lines to try.
    pub gateway: String,
}

impl ShownPage {
    fn key(&self) -> &str {
        self.created.key.expose()
    }

    fn record(&self) -> &KeyRecord {
        &self.created.written.record
    }

    fn took(&self) -> String {
        super::key::took_text(self.took)
    }

    fn nodes(&self) -> String {
        crate::health::nodes_text(&self.created.written.applied_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Viewer;

    #[test]
    fn an_address_keeps_the_filter_and_escapes_it() {
        let filter = KeyFilter {
            search: "a b&c".to_owned(),
            status: "active".to_owned(),
            ..KeyFilter::default()
        };
        assert_eq!(
            filter.address("c-1f"),
            "/console/keys?search=a+b%26c&status=active&cursor=c-1f"
        );
        assert!(filter.is_set() && !KeyFilter::default().is_set());
    }

    #[test]
    fn a_page_in_two_pieces_is_the_page_and_a_word_of_patience() {
        let page = KeysPage {
            frame: Frame { viewer: Some(Viewer::default()), ..Frame::default() },
            filter: KeyFilter { search: FOUND.to_owned(), ..KeyFilter::default() },
            keys: Vec::new(),
            next: None,
            total: Some(3),
        };
        let (above, below) = (page.above(), page.below());
        assert!(above.ends_with(SEARCHING) && !above.contains(FOUND), "{above}");
        assert!(below.contains("No key fits") && below.trim_end().ends_with("</html>"), "{below}");
        let whole = super::super::render(&page);
        assert_eq!(above.replace(SEARCHING, FOUND) + &below, whole);
    }

    #[test]
    fn large_numbers_are_read_in_threes() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000_004), "1\u{202f}000\u{202f}004");
    }
}
