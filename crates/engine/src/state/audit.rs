//! The audit trail: each action with its actor, key, time and client address. Replicated, bounded.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use fluxgate_types::{ClusterMs, KeyId, caps};

use super::actor::Actor;

/// The largest number of another trail's entry that is kept: later numbers still fit, also into
/// JSON (2^53).
const SEQ_MAX: u64 = 1 << 53;
/// The number of another trail's entry without a number, as in backups of format 1.
pub const NO_SEQ: u64 = u64::MAX;

/// The recorded action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A key was created.
    Created,
    /// Fields of a key were changed.
    Updated,
    /// A key got a new secret.
    Rotated,
    /// A key was revoked.
    Revoked,
    /// The default limits were set.
    DefaultsSet,
    /// A node joined.
    NodeRegistered,
    /// A node was removed.
    NodeRemoved,
    /// A new share map was set.
    ShareMapSet,
    /// Keys of another system were imported.
    Imported,
    /// Keys of a backup were restored.
    Restored,
    /// The lease terms of the cluster were set. Since level 2.
    TermsSet,
    /// The operator accepted a jump of cluster time. Since level 2.
    TimeSet,
    /// The record of a key that had ended was erased. Since level 3.
    Erased,
    /// The state was written to a backup. Since level 3.
    BackedUp,
    /// Records, or this trail, were exported. Since level 3.
    Exported,
    /// The operator transferred the leadership to another node. Since level 3.
    HandedOver,
    /// The operator added, moved or removed a node. Since level 3.
    MembersChanged,
    /// A user signed in to the console. Since level 3.
    SignedIn,
    /// A sign-in to the console failed. Since level 3.
    SignInFailed,
    /// The record of an owner was created or changed. Since level 4.
    OwnerSet,
    /// The record of an owner was deleted. Since level 4.
    OwnerDeleted,
    /// A plan was created or changed. Since level 4.
    PlanSet,
    /// A plan was deleted. Since level 4.
    PlanDeleted,
    /// A pool was created or changed. Since level 4.
    PoolSet,
    /// A pool was deleted. Since level 4.
    PoolDeleted,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 25] = [
        Self::Created,
        Self::Updated,
        Self::Rotated,
        Self::Revoked,
        Self::DefaultsSet,
        Self::NodeRegistered,
        Self::NodeRemoved,
        Self::ShareMapSet,
        Self::Imported,
        Self::Restored,
        Self::TermsSet,
        Self::TimeSet,
        Self::Erased,
        Self::BackedUp,
        Self::Exported,
        Self::HandedOver,
        Self::MembersChanged,
        Self::SignedIn,
        Self::SignInFailed,
        Self::OwnerSet,
        Self::OwnerDeleted,
        Self::PlanSet,
        Self::PlanDeleted,
        Self::PoolSet,
        Self::PoolDeleted,
    ];

    /// The name, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "key.create",
            Self::Updated => "key.update",
            Self::Rotated => "key.rotate",
            Self::Revoked => "key.revoke",
            Self::DefaultsSet => "limits.defaults",
            Self::NodeRegistered => "node.register",
            Self::NodeRemoved => "node.remove",
            Self::ShareMapSet => "shares.set",
            Self::Imported => "keys.import",
            Self::Restored => "keys.restore",
            Self::TermsSet => "lease.terms",
            Self::TimeSet => "time.set",
            Self::Erased => "key.erase",
            Self::BackedUp => "cluster.backup",
            Self::Exported => "export",
            Self::HandedOver => "leader.hand_over",
            Self::MembersChanged => "members.change",
            Self::SignedIn => "console.sign_in",
            Self::SignInFailed => "console.sign_in_failed",
            Self::OwnerSet => "owner.set",
            Self::OwnerDeleted => "owner.delete",
            Self::PlanSet => "plan.set",
            Self::PlanDeleted => "plan.delete",
            Self::PoolSet => "pool.set",
            Self::PoolDeleted => "pool.delete",
        }
    }

    /// The lowest level of a cluster whose nodes can all read it.
    #[must_use]
    pub const fn level(self) -> u32 {
        match self {
            Self::Created
            | Self::Updated
            | Self::Rotated
            | Self::Revoked
            | Self::DefaultsSet
            | Self::NodeRegistered
            | Self::NodeRemoved
            | Self::ShareMapSet
            | Self::Imported
            | Self::Restored => 1,
            Self::TermsSet | Self::TimeSet => 2,
            Self::Erased
            | Self::BackedUp
            | Self::Exported
            | Self::HandedOver
            | Self::MembersChanged
            | Self::SignedIn
            | Self::SignInFailed => 3,
            Self::OwnerSet
            | Self::OwnerDeleted
            | Self::PlanSet
            | Self::PlanDeleted
            | Self::PoolSet
            | Self::PoolDeleted => 4,
        }
    }

    /// Whether it changes nothing in the state but this trail: [`Command::Note`] may record it.
    ///
    /// [`Command::Note`]: super::command::Command::Note
    #[must_use]
    pub const fn is_note(self) -> bool {
        match self {
            Self::BackedUp
            | Self::Exported
            | Self::HandedOver
            | Self::MembersChanged
            | Self::SignedIn
            | Self::SignInFailed => true,
            Self::Created
            | Self::Updated
            | Self::Rotated
            | Self::Revoked
            | Self::DefaultsSet
            | Self::NodeRegistered
            | Self::NodeRemoved
            | Self::ShareMapSet
            | Self::Imported
            | Self::Restored
            | Self::TermsSet
            | Self::TimeSet
            | Self::Erased
            | Self::OwnerSet
            | Self::OwnerDeleted
            | Self::PlanSet
            | Self::PlanDeleted
            | Self::PoolSet
            | Self::PoolDeleted => false,
        }
    }
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Counts up by one.
    pub seq: u64,
    /// Cluster time of the action.
    pub at: ClusterMs,
    /// The action.
    pub action: Action,
    /// The key concerned.
    pub key_id: Option<KeyId>,
    /// The principal that requested it.
    pub actor: Actor,
    /// The client address.
    pub from: Option<Box<str>>,
    /// What changed, in words; never a secret.
    pub details: Box<str>,
}

/// The newest entries, oldest first.
#[derive(Clone, Debug, Default)]
pub struct AuditLog {
    entries: VecDeque<Arc<AuditEntry>>,
    next_seq: u64,
}

impl AuditLog {
    /// Adds a line, which gets the next number.
    pub(super) fn push(&mut self, mut entry: AuditEntry) {
        entry.seq = self.next_seq;
        self.restore(Arc::new(entry));
    }

    /// Adds a line of a snapshot under the number that it has.
    pub(super) fn restore(&mut self, entry: Arc<AuditEntry>) {
        self.next_seq = entry.seq.saturating_add(1);
        self.entries.push_back(entry);
        if self.entries.len() > caps::AUDIT_ENTRIES_MAX {
            self.entries.pop_front();
        }
    }

    /// Merges entries of another trail, oldest first, into this one by time. Each keeps its number
    /// if that is still free in this order; entries after it are renumbered. Returns which entries
    /// were added: an entry that exists with the same number is not added.
    pub(super) fn merge(&mut self, lines: &[AuditEntry]) -> Vec<bool> {
        let Some(first) = lines.iter().map(|line| line.at).min() else { return Vec::new() };
        // Rebuild everything from the time of the first line on.
        let from = self.entries.partition_point(|entry| entry.at < first);
        let rest: Vec<Arc<AuditEntry>> = self.entries.drain(from..).collect();
        self.next_seq = self.entries.back().map_or(0, |last| last.seq.saturating_add(1));
        // Lines without a number are equal if all other fields are.
        let numbered = lines.iter().all(|line| line.seq != NO_SEQ);
        let of = |entry: &AuditEntry| {
            let seq = numbered.then_some(entry.seq);
            (entry.at, seq, entry.action.as_str(), entry.key_id, entry.details.clone())
        };
        let moments: BTreeSet<ClusterMs> = lines.iter().map(|line| line.at).collect();
        let near = rest.iter().filter(|entry| moments.contains(&entry.at));
        let mut known: BTreeSet<_> = near.map(|entry| of(entry)).collect();
        let is_new: Vec<bool> = lines.iter().map(|line| known.insert(of(line))).collect();
        let added = lines.iter().zip(&is_new).filter(|(_, new)| **new).map(|(line, _)| line);
        let mut added: Vec<_> = added.cloned().map(Arc::new).collect();
        added.sort_by_key(|entry| (entry.at, entry.seq));
        let mut added = added.into_iter().peekable();
        let mut rest = rest.into_iter().peekable();
        loop {
            let next = match (added.peek(), rest.peek()) {
                (Some(new), Some(old)) if (new.at, new.seq) <= (old.at, old.seq) => added.next(),
                (Some(_), None) => added.next(),
                (None | Some(_), _) => rest.next(),
            };
            let Some(mut entry) = next else { break };
            if entry.seq < self.next_seq || entry.seq > SEQ_MAX {
                Arc::make_mut(&mut entry).seq = self.next_seq;
            }
            self.restore(entry);
        }
        is_new
    }

    /// Removes the details from entries about these keys. The key id, action, actor and time stay.
    pub(super) fn scrub(&mut self, ids: &BTreeSet<KeyId>) {
        let about = |entry: &AuditEntry| entry.key_id.is_some_and(|id| ids.contains(&id));
        for entry in self.entries.iter_mut().filter(|entry| about(entry)) {
            Arc::make_mut(entry).details = "erased".into();
        }
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<AuditEntry>> {
        self.entries.iter()
    }

    /// Up to `count` entries whose numbers are below `before`, newest first.
    #[must_use]
    pub fn page(&self, before: u64, count: usize) -> Vec<Arc<AuditEntry>> {
        let end = self.entries.partition_point(|entry| entry.seq < before);
        let start = end.saturating_sub(count);
        self.entries.range(start..end).rev().cloned().collect()
    }

    /// The number that the next line gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
}
