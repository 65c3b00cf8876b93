//! The kinds of records that have a name.

use fluxgate_types::{Subject, SubjectKind, SubjectSeed, caps};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedKind {
    /// All keys of an owner together.
    Owner,
    /// The limits of the keys and owners that name it; each of them has counters of its own.
    Plan,
    /// Every request that is charged to it.
    Pool,
}

impl NamedKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Plan, Self::Pool];

    /// How many records of the kind there may be.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Owner => caps::OWNERS_MAX,
            Self::Plan => caps::PLANS_MAX,
            Self::Pool => caps::POOLS_MAX,
        }
    }

    /// The word for it, as in messages and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Plan => "plan",
            Self::Pool => "pool",
        }
    }

    /// The subject of the record with this name.
    #[must_use]
    pub fn subject(self, seed: &SubjectSeed, name: &str) -> Subject {
        let kind = match self {
            Self::Owner => SubjectKind::Owner,
            Self::Plan => SubjectKind::Plan,
            Self::Pool => SubjectKind::Pool,
        };
        Subject::named(seed, kind, name)
    }
}
