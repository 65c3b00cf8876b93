//! The pages, as data for the templates.
//!
//! Answers for: everything that a page shows is in its type, and everything is escaped except
//! markup that this crate produces.

mod audit;
mod cluster;
mod frame;
mod key;
mod keys;

use askama::Template;

pub use audit::{AuditFilter, AuditPage};
pub use cluster::{ClusterPage, LiveFigures, LivePanel, NodeServed, Served};
pub use frame::{Frame, MessagePage, Section, SignInPage, Viewer};
pub use key::{EditPage, ErasePage, KeyPage, Receipt, RevokePage, RevokedPage, RotatePage, Status};
pub use keys::{KeyFilter, KeysPage, NewKeyPage, ShownPage};

/// The window lengths that a form offers.
pub(crate) const PERIODS: [(&str, &str); 5] = [
    ("1s", "second"),
    ("10s", "10 seconds"),
    ("60s", "minute"),
    ("300s", "5 minutes"),
    ("600s", "10 minutes"),
];

/// Whether a form does not offer this window length.
pub(crate) fn is_other_period(period: &str) -> bool {
    PERIODS.iter().all(|(value, _)| *value != period)
}

/// The expiries that a form offers.
pub(crate) const EXPIRIES: [(&str, &str); 5] = [
    ("never", "Never"),
    ("30d", "In 30 days"),
    ("90d", "In 90 days"),
    ("365d", "In a year"),
    ("at", "At a date"),
];

/// The grace periods that a form offers, each with its purpose.
pub(crate) const GRACES: [(&str, &str, &str); 4] = [
    ("0s", "Not at all", "For a leaked secret: every node rejects it immediately."),
    ("3600s", "One hour", "For a program that you restart yourself."),
    ("86400s", "One day", "For a roll-out to many machines."),
    ("604800s", "Seven days", "For callers outside your control."),
];

/// Why a page was not rendered.
pub type RenderError = askama::Error;

/// Renders a page to HTML.
///
/// # Errors
/// When a part of the page cannot be formatted. The caller must not show an incomplete page.
pub fn render<T: Template>(page: &T) -> Result<String, RenderError> {
    page.render()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    struct Unformattable;

    impl fmt::Display for Unformattable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }

    #[derive(Template)]
    #[template(source = "<p>{{ part|safe }}</p>", ext = "html")]
    struct Page {
        part: Unformattable,
    }

    #[test]
    fn a_page_that_cannot_be_formatted_is_an_error_and_not_an_empty_page() {
        assert!(render(&Page { part: Unformattable }).is_err());
    }
}
