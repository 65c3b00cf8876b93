//! Records that have a name: owners, plans and pools.
//!
//! Answers for: what they are, and look-ups by name or by subject. A record's counters belong to the
//! subject of its name, so what was spent still counts when a deleted record is made again.

mod table;

use std::sync::Arc;

use fluxgate_types::{ClusterMs, Limit, LogIndex, Subject};

use super::governing::Governing;
pub use super::kind::NamedKind;
use super::record::LimitSpec;
use super::terms::Terms;
pub(super) use table::FrozenNamed;
pub use table::NamedTable;

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The limits of its subject, or of those that name a plan; none if it has none.
    pub limits: Vec<Limit>,
    /// The plan of an owner, the pools of a plan, and the limits that do not apply.
    pub terms: Terms,
    /// Names of metadata that applications may read. Of a plan.
    pub exposes: Vec<Box<str>>,
    /// Whether its keys are enabled. Of an owner.
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
    /// Its own limits, its plan and its pools.
    pub governing: Arc<Governing>,
    /// Names of metadata that applications may read.
    pub exposes: Box<[Box<str>]>,
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

impl Named {
    /// Its own limits.
    #[must_use]
    pub fn limits(&self) -> &[LimitSpec] {
        self.governing.own().map_or(&[], |limits| limits)
    }
}

impl From<&Named> for NamedRow {
    fn from(named: &Named) -> Self {
        Self {
            kind: named.kind,
            name: named.name.clone(),
            definition: Definition {
                limits: named.limits().iter().map(|spec| spec.limit.clone()).collect(),
                terms: named.governing.terms().clone(),
                exposes: named.exposes.to_vec(),
                enabled: named.enabled,
                metadata: named.metadata.to_vec(),
            },
            tags: named.limits().iter().map(|spec| spec.tag).collect(),
            revision: named.revision,
            created_index: named.created_index,
            created_at: named.created_at,
            changed_at: named.changed_at,
        }
    }
}
