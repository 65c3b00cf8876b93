//! The record of a key.
//!
//! Answers for: its fields and what follows from them. A node keeps it packed
//! ([`super::entry::KeyEntry`]).

use std::sync::Arc;

use fluxgate_types::id::mix64;
use fluxgate_types::{ClusterMs, Digest, KeyId, Limit, LogIndex, Scope};

use super::actor::Actor;
use super::terms::Terms;

/// How often the use of one key is recorded, milliseconds of cluster time.
pub const USE_NOTED_MS: u64 = 60_000;

/// A limit with the tag that names its counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitSpec {
    /// The limit.
    pub limit: Limit,
    /// Derived from name and period, so that changing the tokens keeps the count; a renamed limit
    /// keeps its tag ([`LimitSpec::follow`]).
    pub tag: u32,
}

impl LimitSpec {
    /// Tags a limit.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        let mut hash = limit.period_ms;
        for byte in limit.name.bytes() {
            hash = mix64(hash ^ u64::from(byte));
        }
        let tag = u32::try_from(hash >> 32).unwrap_or(0);
        Self { limit, tag }
    }

    /// Tags a changed list of limits so that what was spent stays spent: a limit keeps the tag of
    /// its name, a limit with a new name takes the tag of a removed limit with the same period, and
    /// only a new period starts a new counter.
    #[must_use]
    pub fn follow(before: &[Self], limits: &[Limit]) -> Arc<[Self]> {
        let mut free: Vec<&Self> = before.iter().collect();
        let mut take = |wanted: &dyn Fn(&Self) -> bool| {
            let at = free.iter().position(|spec| wanted(spec))?;
            Some(free.remove(at).tag)
        };
        let same = |old: &Self, new: &Limit| {
            old.limit.name == new.name && old.limit.period_ms == new.period_ms
        };
        let mut tags: Vec<Option<u32>> =
            limits.iter().map(|new| take(&|old| same(old, new))).collect();
        for (tag, new) in tags.iter_mut().zip(limits).filter(|(tag, _)| tag.is_none()) {
            *tag = take(&|old| old.limit.period_ms == new.period_ms);
        }
        let mut used: Vec<u32> = tags.iter().flatten().copied().collect();
        let tagged = |(tag, new): (Option<u32>, &Limit)| {
            let tag = tag.unwrap_or_else(|| {
                let mut derived = Self::new(new.clone()).tag;
                // A renamed limit may still use the tag that this name gives.
                while used.contains(&derived) {
                    derived = derived.wrapping_add(1);
                }
                used.push(derived);
                derived
            });
            Self { limit: new.clone(), tag }
        };
        tags.into_iter().zip(limits).map(tagged).collect()
    }

    /// Whether the tags are those that are derived from names and periods alone.
    #[must_use]
    pub fn are_derived(specs: &[Self]) -> bool {
        specs.iter().all(|spec| spec.tag == Self::new(spec.limit.clone()).tag)
    }

    /// Limits with the tags that they had; `None` if there are not as many, or one occurs twice.
    #[must_use]
    pub fn with_tags(
        limits: impl ExactSizeIterator<Item = Limit>,
        tags: &[u32],
    ) -> Option<Arc<[Self]>> {
        let distinct = tags.iter().enumerate().all(|(at, tag)| !tags[..at].contains(tag));
        let fits = limits.len() == tags.len() && distinct;
        fits.then(|| limits.zip(tags).map(|(limit, tag)| Self { limit, tag: *tag }).collect())
    }

    /// Tags the limits of one key; `None` if two tags collide (one in four thousand million).
    #[must_use]
    pub fn all(limits: &[Limit]) -> Option<Arc<[Self]>> {
        let specs: Vec<Self> = limits.iter().cloned().map(Self::new).collect();
        let distinct =
            specs.iter().enumerate().all(|(n, a)| specs[..n].iter().all(|b| a.tag != b.tag));
        distinct.then(|| specs.into())
    }
}

/// The status of a key at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Valid.
    Active,
    /// Disabled, may be enabled again.
    Disabled,
    /// Past its expiry.
    Expired,
    /// Revoked permanently.
    Revoked,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Revoked];

    /// The status at `now` of a key with this end and these switches.
    #[must_use]
    pub fn at(
        now: ClusterMs,
        is_revoked: bool,
        expires_at: Option<ClusterMs>,
        is_enabled: bool,
    ) -> Self {
        if is_revoked {
            Self::Revoked
        } else if expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else if is_enabled {
            Self::Active
        } else {
            Self::Disabled
        }
    }

    /// The name, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A rotated-out credential in its grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its digest.
    pub digest: Digest,
    /// Rejected from this moment on.
    pub until: ClusterMs,
}

/// Free text pairs, by name.
pub type Metadata = Box<[(Box<str>, Box<str>)]>;

/// A key as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id.
    pub id: KeyId,
    /// Digest of its credential.
    pub digest: Digest,
    /// Place in the order of creation.
    pub seq: u32,
    /// Its scope.
    pub scope: Scope,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Counts up with each change.
    pub revision: u64,
    /// Log position of its creation.
    pub created_index: LogIndex,
    /// When it was created.
    pub created_at: ClusterMs,
    /// Its creator.
    pub created_by: Actor,
    /// When it was revoked.
    pub revoked_at: Option<ClusterMs>,
    /// When it expires.
    pub expires_at: Option<ClusterMs>,
    /// Its display name.
    pub name: Box<str>,
    /// The text before the id in its credential.
    pub head: Box<str>,
    /// Its owner.
    pub owner: Option<Box<str>>,
    /// Its own limits.
    pub limits: Option<Arc<[LimitSpec]>>,
    /// What it names besides them. Since level 4.
    pub terms: Terms,
    /// The credential before the last rotation, in its grace.
    pub previous: Option<Box<Previous>>,
    /// Free text pairs; `None` when there are none.
    pub metadata: Option<Box<Metadata>>,
}

impl KeyRecord {
    /// The first characters of its credential, safe to show.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}{}", self.head, self.id.as_str())
    }

    /// Its own limits without their tags.
    #[must_use]
    pub fn own_limits(&self) -> Option<Vec<Limit>> {
        let limits = self.limits.as_ref()?;
        Some(limits.iter().map(|spec| spec.limit.clone()).collect())
    }

    /// Whether an administrator's key may not make this change to itself: a change of its scope,
    /// owner, limits, plan or expiry. Otherwise it could raise its own rights or outlive its expiry.
    #[must_use]
    pub fn differs_in_rights(&self, other: &Self) -> bool {
        (self.scope, &self.owner, self.expires_at) != (other.scope, &other.owner, other.expires_at)
            || self.own_limits() != other.own_limits()
            || self.terms != other.terms
    }
}
