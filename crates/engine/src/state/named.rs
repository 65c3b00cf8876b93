//! Records that have a name: owners.
//!
//! Answers for: what they are, and look-ups by name or by subject. A record's counters belong to the
//! subject of its name, so what was spent still counts when a deleted record is made again.

mod table;

use std::sync::Arc;

use fluxgate_types::{ClusterMs, Limit, LogIndex, Subject, SubjectKind, SubjectSeed};

use super::record::LimitSpec;
pub(super) use table::FrozenNamed;
pub use table::NamedTable;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedKind {
    /// All keys of an owner together.
    Owner,
}

impl NamedKind {
    /// The word for it, as in messages and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
        }
    }

    /// The subject of the record with this name.
    #[must_use]
    pub fn subject(self, seed: &SubjectSeed, name: &str) -> Subject {
        let kind = match self {
            Self::Owner => SubjectKind::Owner,
        };
        Subject::named(seed, kind, name)
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The limits of its subject; none if it has none.
    pub limits: Vec<Limit>,
    /// Whether its keys are.
    pub enabled: bool,
    /// Free text pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
}

/// A record as it is written: in snapshots, and in answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRow {
    /// What it is about.
    pub kind: NamedKind,
    /// Its name.
    pub name: Box<str>,
    /// What it says.
    pub definition: Definition,
    /// The tags of its limits.
    pub tags: Vec<u32>,
    /// Counts up with each change.
    pub revision: u64,
    /// Log position of its creation.
    pub created_index: LogIndex,
    /// When it was created.
    pub created_at: ClusterMs,
    /// When it was changed last.
    pub changed_at: ClusterMs,
}

/// A record in memory. A node keeps a million of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// What its counters belong to.
    pub subject: Subject,
    /// What it is about.
    pub kind: NamedKind,
    /// Whether its keys are enabled.
    pub enabled: bool,
    /// Its name.
    pub name: Box<str>,
    /// Its limits; empty if it has none.
    pub limits: Arc<[LimitSpec]>,
    /// Free text pairs.
    pub metadata: Box<[(Box<str>, Box<str>)]>,
    /// Counts up with each change.
    pub revision: u64,
    /// Log position of its creation.
    pub created_index: LogIndex,
    /// When it was created.
    pub created_at: ClusterMs,
    /// When it was changed last.
    pub changed_at: ClusterMs,
}

impl From<&Named> for NamedRow {
    fn from(named: &Named) -> Self {
        Self {
            kind: named.kind,
            name: named.name.clone(),
            definition: Definition {
                limits: named.limits.iter().map(|spec| spec.limit.clone()).collect(),
                enabled: named.enabled,
                metadata: named.metadata.to_vec(),
            },
            tags: named.limits.iter().map(|spec| spec.tag).collect(),
            revision: named.revision,
            created_index: named.created_index,
            created_at: named.created_at,
            changed_at: named.changed_at,
        }
    }
}
