//! The pages of one key: its record, usage and history, and the forms to change it.

use std::time::Duration;

use askama::Template;
use fluxgate_api::Time;
use fluxgate_api::keys::{KeyRecord, KeyStatus, WriteAnswer};
use fluxgate_api::usage::AuditEntry;

use super::frame::Frame;
use super::keys::{error_of, scope_text, took_text};
use crate::chart::{Bars, HEIGHT};
use crate::form::{FieldError, KeyForm};
use crate::health::nodes_text;
use crate::moment::Moment;

/// The status of a key, with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub KeyStatus);

impl Status {
    fn of(status: &KeyStatus) -> Self {
        Self(*status)
    }

    /// What it means for a caller.
    #[must_use]
    pub const fn means(self) -> &'static str {
        match self.0 {
            KeyStatus::Active => "Accepted on every node.",
            KeyStatus::Disabled => "Rejected on every node until it is enabled again.",
            KeyStatus::Expired => "Rejected: it has expired. Edit the expiry to use it again.",
            KeyStatus::Revoked => "Permanently rejected. Create a new key to replace it.",
        }
    }
}

/// The text with a capital first letter.
fn capital(text: String) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// On which nodes a change was applied, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The change, such as "Disabled".
    pub what: String,
    /// Nodes that have applied it.
    pub nodes: Vec<u64>,
    /// Time from the click until the commit and these nodes' confirmation.
    pub took: Duration,
    /// Possibly unexpected consequences of the change.
    pub notes: Vec<String>,
}

impl Receipt {
    /// The receipt of a completed change.
    #[must_use]
    pub fn new(what: &str, written: &WriteAnswer, took: Duration) -> Self {
        Self {
            what: what.to_owned(),
            nodes: written.applied_on.clone(),
            took,
            notes: written.notes.clone(),
        }
    }

    fn nodes_text(&self) -> String {
        nodes_text(&self.nodes)
    }

    fn took(&self) -> String {
        took_text(self.took)
    }
}

/// The page of one key.
#[derive(Clone, Debug, Template)]
#[template(path = "key.html")]
pub struct KeyPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Usage of each limit.
    pub usage: Vec<Bars>,
    /// Nodes that did not report their usage.
    pub silent: Vec<u64>,
    /// Audit entries about the key, newest first.
    pub history: Vec<AuditEntry>,
    /// Whether there are more audit entries.
    pub has_more: bool,
    /// The receipt of the change that the reader just made.
    pub receipt: Option<Receipt>,
    /// When the previous secret stops being accepted.
    pub old_until: Option<Time>,
}

impl KeyPage {
    fn silent_text(&self) -> String {
        capital(nodes_text(&self.silent))
    }

    fn is_revoked(&self) -> bool {
        self.key.status == KeyStatus::Revoked
    }

    /// Whether the person may erase the record.
    fn may_erase(&self) -> bool {
        let has_ended = matches!(self.key.status, KeyStatus::Revoked | KeyStatus::Expired);
        has_ended && self.frame.is_operator()
    }
}

/// The form to change a key.
#[derive(Clone, Debug, Template)]
#[template(path = "edit.html")]
pub struct EditPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The current record of the key.
    pub key: KeyRecord,
    /// The fields as entered.
    pub form: KeyForm,
    /// Why the form was rejected.
    pub error: Option<FieldError>,
}

impl EditPage {
    fn error_of(&self, field: &str) -> &str {
        error_of(self.error.as_ref(), field)
    }

    /// Whether this field gets the focus: the first one, unless another one was rejected.
    fn is_first(&self, field: &str) -> bool {
        self.error.as_ref().is_none_or(|error| error.field.is_empty() || error.field == field)
    }
}

/// The form to rotate a key.
#[derive(Clone, Debug, Template)]
#[template(path = "rotate.html")]
pub struct RotatePage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Token that makes the form usable for a single rotation.
    pub once: String,
    /// Why the form was rejected.
    pub error: String,
}

/// The form to revoke a key.
#[derive(Clone, Debug, Template)]
#[template(path = "revoke.html")]
pub struct RevokePage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Why the form was rejected.
    pub error: String,
}

/// The form to erase the record of a revoked or expired key.
#[derive(Clone, Debug, Template)]
#[template(path = "erase.html")]
pub struct ErasePage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Why the form was rejected.
    pub error: String,
}

/// The page after a revocation, with its receipt.
#[derive(Clone, Debug, Template)]
#[template(path = "revoked.html")]
pub struct RevokedPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// The receipt of the revocation.
    pub receipt: Receipt,
    /// Nodes of the cluster that are not in the receipt.
    pub missing: Vec<u64>,
}

impl RevokedPage {
    fn missing_text(&self) -> String {
        capital(nodes_text(&self.missing))
    }
}
