//! The pages, as data for their templates.
//!
//! Answers for: everything that a page shows is in its type, and everything is escaped unless it
//! is markup that this crate made.

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

/// Lengths of a window that a form offers.
pub(crate) const PERIODS: [(&str, &str); 5] = [
    ("1s", "second"),
    ("10s", "10 seconds"),
    ("60s", "minute"),
    ("300s", "5 minutes"),
    ("600s", "10 minutes"),
];

/// Whether a window's length is none of those.
pub(crate) fn is_other_period(period: &str) -> bool {
    PERIODS.iter().all(|(value, _)| *value != period)
}

/// When a key ends, as a form offers it.
pub(crate) const EXPIRIES: [(&str, &str); 5] = [
    ("never", "Never"),
    ("30d", "In 30 days"),
    ("90d", "In 90 days"),
    ("365d", "In a year"),
    ("at", "At a date"),
];

/// How long an old secret stays valid, as a form offers it.
pub(crate) const GRACES: [(&str, &str, &str); 4] = [
    ("0s", "Not at all", "For a secret that has leaked: refused on every node at once."),
    ("3600s", "One hour", "For a program that you restart yourself."),
    ("86400s", "One day", "For a roll-out over many machines."),
    ("604800s", "Seven days", "For callers that you have to ask."),
];

/// A page as HTML.
#[must_use]
pub fn render<T: Template>(page: &T) -> String {
    // Nothing of ours fails to be written; what did would leave the rest of the page out.
    page.render().unwrap_or_default()
}
