//! One key: what it is, what it used, what was done to it, and what can be done.

use std::time::Duration;

use askama::Template;
use fluxgate_api::Time;
use fluxgate_api::keys::{KeyRecord, KeyStatus, WriteAnswer};
use fluxgate_api::usage::AuditEntry;

use super::frame::Frame;
use super::keys::{error_of, scope_text};
use crate::chart::{Bars, HEIGHT};
use crate::form::{FieldError, KeyForm};
use crate::health::nodes_text;
use crate::moment::Moment;

/// A state with what it means.
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
            KeyStatus::Disabled => "Refused on every node until it is enabled again.",
            KeyStatus::Expired => "Refused: its end has passed. Edit the expiry to use it again.",
            KeyStatus::Revoked => "Refused for good. Make another key in its place.",
        }
    }
}

/// How long a change took from the click until it held everywhere.
pub(super) fn took_text(took: Duration) -> String {
    match took.as_millis() {
        0 => "less than 1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

/// The beginning of a sentence.
fn capital(text: String) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Where a change holds, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was done, such as "Disabled".
    pub what: String,
    /// Nodes that had applied it.
    pub nodes: Vec<u64>,
    /// From the click until it held: the commit, and the wait for the nodes.
    pub took: Duration,
    /// What follows from the change and may not be expected.
    pub notes: Vec<String>,
}

impl Receipt {
    /// Of a change that was made.
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

/// All about one key.
#[derive(Clone, Debug, Template)]
#[template(path = "key.html")]
pub struct KeyPage {
    /// Around it.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Its use, limit by limit.
    pub usage: Vec<Bars>,
    /// Nodes that did not say what they spent.
    pub silent: Vec<u64>,
    /// What was done to it, newest first.
    pub history: Vec<AuditEntry>,
    /// There is more of it.
    pub has_more: bool,
    /// What has just been done.
    pub receipt: Option<Receipt>,
    /// The secret before this one opens the key until then.
    pub old_until: Option<Time>,
}

impl KeyPage {
    fn silent_text(&self) -> String {
        capital(nodes_text(&self.silent))
    }

    fn is_revoked(&self) -> bool {
        self.key.status == KeyStatus::Revoked
    }

    /// Whether the reader may erase the record.
    fn may_erase(&self) -> bool {
        let has_ended = matches!(self.key.status, KeyStatus::Revoked | KeyStatus::Expired);
        has_ended && self.frame.is_operator()
    }
}

/// Changes a key.
#[derive(Clone, Debug, Template)]
#[template(path = "edit.html")]
pub struct EditPage {
    /// Around it.
    pub frame: Frame,
    /// The key as it is.
    pub key: KeyRecord,
    /// What is filled in.
    pub form: KeyForm,
    /// Why it was refused.
    pub error: Option<FieldError>,
}

impl EditPage {
    fn error_of(&self, field: &str) -> &str {
        error_of(self.error.as_ref(), field)
    }

    /// Whether the reader begins with this field: the first, unless another was refused.
    fn is_first(&self, field: &str) -> bool {
        self.error.as_ref().is_none_or(|error| error.field.is_empty() || error.field == field)
    }
}

/// Asks how to rotate a key.
#[derive(Clone, Debug, Template)]
#[template(path = "rotate.html")]
pub struct RotatePage {
    /// Around it.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Makes the form good for one rotation.
    pub once: String,
    /// Why it was refused.
    pub error: String,
}

/// Asks whether to revoke a key.
#[derive(Clone, Debug, Template)]
#[template(path = "revoke.html")]
pub struct RevokePage {
    /// Around it.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Why it was refused.
    pub error: String,
}

/// Asks whether to erase the record of a key that has ended.
#[derive(Clone, Debug, Template)]
#[template(path = "erase.html")]
pub struct ErasePage {
    /// Around it.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Why it was refused.
    pub error: String,
}

/// Says that a key is dead, and where.
#[derive(Clone, Debug, Template)]
#[template(path = "revoked.html")]
pub struct RevokedPage {
    /// Around it.
    pub frame: Frame,
    /// The key.
    pub key: KeyRecord,
    /// Where that holds.
    pub receipt: Receipt,
    /// Nodes of the cluster that are not among them.
    pub missing: Vec<u64>,
}

impl RevokedPage {
    fn missing_text(&self) -> String {
        capital(nodes_text(&self.missing))
    }
}
