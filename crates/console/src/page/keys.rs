//! The list of keys, the form for a new key, and the page that shows it once.

use std::time::Duration;

use askama::Template;
use fluxgate_api::keys::{CreatedKey, KeyRecord, KeyStatus};
use fluxgate_types::Scope;

use super::RenderError;
use super::frame::Frame;
use crate::form::{FieldError, KeyForm};
use crate::moment::Moment;

/// The purpose of a scope, in words.
#[must_use]
pub(super) const fn scope_text(scope: &Scope) -> &'static str {
    match scope {
        Scope::Read => "Read-only access. For dashboards, monitoring and reporting.",
        Scope::Write => "Read and write access. For automation, integrations and scheduled tasks.",
        Scope::Admin => "Full access, including keys. For administrative tools.",
    }
}

/// The filter of the list, as entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Part of a name, or the start of a prefix.
    pub search: String,
    /// Owner of the keys.
    pub owner: String,
    /// Status of the keys.
    pub status: String,
    /// Cursor of this page.
    pub cursor: String,
}

impl KeyFilter {
    /// Whether the filter excludes anything.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !(self.search.is_empty() && self.owner.is_empty() && self.status.is_empty())
    }

    fn is_status(&self, status: &KeyStatus) -> bool {
        self.status == status.as_str()
    }

    /// The URL of another page with the same filter.
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

/// Marks where the search result begins in the page.
const FOUND: &str = "<!--found-->";
/// Shown until the result arrives; the style hides it once anything follows.
const SEARCHING: &str = "<p class=\"searching\" role=\"status\">Searching all keys…</p>";

/// The page with the list of keys.
#[derive(Clone, Debug, Template)]
#[template(path = "keys.html")]
pub struct KeysPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The filter as entered.
    pub filter: KeyFilter,
    /// The matching keys.
    pub keys: Vec<KeyRecord>,
    /// Cursor of the next page.
    pub next: Option<String>,
    /// Number of keys in the cluster, if the person may know it.
    pub total: Option<usize>,
}

impl KeysPage {
    /// The page above the result, to be sent before the search has finished.
    ///
    /// # Errors
    /// When the page cannot be rendered.
    pub fn above(&self) -> Result<String, RenderError> {
        let mut page = super::render(self)?;
        page.truncate(page.find(FOUND).unwrap_or(page.len()));
        Ok(page + SEARCHING)
    }

    /// The page from the result on.
    ///
    /// # Errors
    /// When the page cannot be rendered.
    pub fn below(&self) -> Result<String, RenderError> {
        let page = super::render(self)?;
        Ok(page.split_once(FOUND).map_or(String::new(), |(_, below)| below.to_owned()))
    }

    fn ids(&self) -> String {
        let ids: Vec<String> = self.keys.iter().map(|key| key.id.to_string()).collect();
        ids.join(",")
    }

    fn total_text(&self) -> String {
        self.total.map(grouped).unwrap_or_default()
    }
}

/// A number with thousands separators.
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

/// The form for a new key.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "new.html")]
pub struct NewKeyPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The fields as entered.
    pub form: KeyForm,
    /// Why the form was rejected.
    pub error: Option<FieldError>,
    /// Token that makes the form usable for a single key.
    pub once: String,
    /// The default limit of keys without their own, as text.
    pub default_limit: String,
}

impl NewKeyPage {
    fn error_of(&self, field: &str) -> &str {
        error_of(self.error.as_ref(), field)
    }

    /// Whether this field gets the focus: the first one, unless another one was rejected.
    fn is_first(&self, field: &str) -> bool {
        self.error.as_ref().is_none_or(|error| error.field.is_empty() || error.field == field)
    }
}

/// Why a field was rejected; empty if it was not.
pub(super) fn error_of<'a>(error: Option<&'a FieldError>, field: &str) -> &'a str {
    error.filter(|error| error.field == field).map_or("", |error| &error.message)
}

/// The page that shows a key, once.
#[derive(Clone, Debug, Template)]
#[template(path = "shown.html")]
pub struct ShownPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key and its record.
    pub created: CreatedKey,
    /// Whether an existing key got a new secret.
    pub is_rotated: bool,
    /// Time from the click until the nodes had applied the change.
    pub took: Duration,
    /// How long the previous secret stays valid; empty if it does not.
    pub grace: String,
    /// URL of this node's gateway listener, for the example commands.
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
        took_text(self.took)
    }

    fn nodes(&self) -> String {
        crate::health::nodes_text(&self.created.written.applied_on)
    }
}

/// The time from the click until a change was applied everywhere, as text.
pub(super) fn took_text(took: Duration) -> String {
    match took.as_millis() {
        0 => "less than 1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Viewer;

    #[test]
    fn a_url_contains_the_escaped_filter() {
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
    fn the_two_parts_of_a_page_are_the_page_and_a_progress_message() {
        let page = KeysPage {
            frame: Frame { viewer: Some(Viewer::default()), ..Frame::default() },
            filter: KeyFilter { search: FOUND.to_owned(), ..KeyFilter::default() },
            keys: Vec::new(),
            next: None,
            total: Some(3),
        };
        let (above, below) = (page.above().unwrap(), page.below().unwrap());
        assert!(above.ends_with(SEARCHING) && !above.contains(FOUND), "{above}");
        assert!(
            below.contains("No matching key") && below.trim_end().ends_with("</html>"),
            "{below}"
        );
        let whole = super::super::render(&page).unwrap();
        assert_eq!(above.replace(SEARCHING, FOUND) + &below, whole);
    }

    #[test]
    fn large_numbers_have_thousands_separators() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000_004), "1\u{202f}000\u{202f}004");
    }
}
