//! The frame of all pages, and the two pages with little else.

use askama::Template;

use crate::health::{Problem, Severity};

/// The entry in the navigation that a page belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// API Keys, below Settings.
    Keys,
    /// Audit log, below Settings.
    Audit,
    /// Cluster.
    Cluster,
    /// No entry.
    #[default]
    None,
}

/// The person who is signed in.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// Display name: the key's name, or `operator`.
    pub name: String,
    /// Owner whose keys the person manages; `None` for all owners.
    pub owner: Option<String>,
    /// Id of the key used to sign in; empty for the operator token.
    pub own: String,
    /// Whether the person signed in with the operator token.
    pub is_operator: bool,
    /// The token that each form of this session contains.
    pub form_token: String,
}

/// Title, navigation and status around a page.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Title of the page.
    pub title: String,
    /// Entry in the navigation.
    pub section: Section,
    /// The person who is signed in; `None` before signing in.
    pub viewer: Option<Viewer>,
    /// The answering node.
    pub node: u64,
    /// Name of the cluster.
    pub cluster: String,
    /// Version of the node.
    pub version: String,
    /// Problems of the cluster.
    pub problems: Vec<Problem>,
    /// The URL that a reload should request, if it differs from the URL of this answer.
    pub canonical: String,
}

impl Frame {
    pub(super) fn is(&self, section: &str) -> bool {
        match self.section {
            Section::Keys => section == "keys",
            Section::Audit => section == "audit",
            Section::Cluster => section == "cluster",
            Section::None => false,
        }
    }

    pub(super) fn form_token(&self) -> &str {
        self.viewer.as_ref().map_or("", |viewer| &viewer.form_token)
    }

    pub(super) fn is_operator(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.is_operator)
    }

    /// Whether the person may create keys. An admin key may create keys of its owner.
    pub(super) fn may_create(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.is_operator || viewer.owner.is_some())
    }

    /// Whether the node may have missed changes: an empty list of keys then means little.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Critical)
    }

    /// Whether this is the key that the person signed in with.
    pub(super) fn is_own(&self, id: &impl ToString) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.own == id.to_string())
    }
}

/// The form to sign in.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// Title and status around the page.
    pub frame: Frame,
    /// Why the last attempt failed; empty at first.
    pub error: String,
    /// The page to open after signing in.
    pub to: String,
    /// A note such as that the session ended; empty if there is none.
    pub note: String,
}

/// A page with a single message.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "message.html")]
pub struct MessagePage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// What happened.
    pub heading: String,
    /// What it means, and what the reader can do.
    pub text: String,
    /// Links to continue with: URL and label.
    pub links: Vec<(String, String)>,
}
