//! What all pages have around them, and the two that have little else.

use askama::Template;

use crate::health::{Problem, Severity};

/// Where a page is in the navigation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// Settings, API Keys.
    Keys,
    /// Settings, Audit log.
    Audit,
    /// Cluster.
    Cluster,
    /// Nowhere.
    #[default]
    None,
}

/// Who is signed in.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// What to call them.
    pub name: String,
    /// Whose keys they manage; `None`: everybody's.
    pub owner: Option<String>,
    /// The key that they signed in with; empty: it was the operator token.
    pub own: String,
    /// Holds the operator token.
    pub is_operator: bool,
    /// What each form of theirs carries.
    pub form_token: String,
}

/// What stands around a page.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The page's title.
    pub title: String,
    /// Where it is in the navigation.
    pub section: Section,
    /// Who looks at it; `None` before signing in.
    pub viewer: Option<Viewer>,
    /// The node that answers.
    pub node: u64,
    /// The cluster's name.
    pub cluster: String,
    /// What runs.
    pub version: String,
    /// What is wrong with the cluster.
    pub problems: Vec<Problem>,
    /// The address that a reload should ask for, where the page was not asked for by that.
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

    /// Whether the reader may make keys: an admin key makes those of its owner.
    pub(super) fn may_create(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.is_operator || viewer.owner.is_some())
    }

    /// Whether the node may have missed something: that it knows of none means little then.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Critical)
    }

    /// Whether it is the key that the reader signed in with.
    pub(super) fn is_own(&self, id: &impl ToString) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.own == id.to_string())
    }
}

/// Asks for a token or key.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// Around it.
    pub frame: Frame,
    /// Why the last try failed; empty at first.
    pub error: String,
    /// Where to go afterwards.
    pub to: String,
    /// The reader has just signed out, or the session ended.
    pub note: String,
}

/// Says one thing, and what to do about it.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "message.html")]
pub struct MessagePage {
    /// Around it.
    pub frame: Frame,
    /// What happened.
    pub heading: String,
    /// What it means, and what to do.
    pub text: String,
    /// A way on: address and words.
    pub links: Vec<(String, String)>,
}
