//! The audit trail: who did what to which key, when, from where. Replicated and bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use fluxgate_types::{ClusterMs, KeyId, caps};
use serde::{Deserialize, Serialize};

use super::command::Actor;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A key was made.
    Created,
    /// Fields of a key were changed.
    Updated,
    /// A key got a new secret.
    Rotated,
    /// A key was ended for good.
    Revoked,
    /// The default limits were set.
    DefaultsSet,
    /// A node joined.
    NodeRegistered,
    /// A node was removed.
    NodeRemoved,
    /// Budgets are split anew.
    ShareMapSet,
    /// Keys of another system were taken in.
    Imported,
    /// Keys of a backup were taken in.
    Restored,
    /// The lease terms of the cluster were set. Since level 2.
    TermsSet,
    /// The operator accepted a jump of cluster time. Since level 2.
    TimeSet,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 12] = [
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
        }
    }
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts up by one.
    pub seq: u64,
    /// When, by cluster time.
    pub at: ClusterMs,
    /// What.
    pub action: Action,
    /// To which key.
    pub key_id: Option<KeyId>,
    /// By whom.
    pub actor: Actor,
    /// From which address.
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
