//! The content of log entries: the commands for the replicated state, and their outcomes.
//!
//! Answers for: the level of each command. These types are not written themselves: their shapes are
//! in `crates/wire/src/state.rs`, by position, and there variants are only appended, under a new
//! level.

use fluxgate_types::{
    ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope, SubjectSeed,
};

pub use super::actor::Actor;
use super::audit::{Action, AuditEntry};
use super::named::{Definition, NamedKind, NamedRow};
pub use super::refusal::CommandError;
use super::row::KeyRow;
use super::start_id::StartId;
use super::terms::Terms;
use crate::lease::LeaseTerms;
use crate::share_map::ShareMap;

/// One command with what `apply` needs to know about the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A random id from the node that received the request: a repeat gets the first outcome again.
    pub request: u128,
    /// The principal that requested it.
    pub actor: Actor,
    /// The digest that an actor with a key presented: it must still match when this is applied.
    pub presented: Option<Digest>,
    /// The client address, for the audit trail.
    pub from: Option<Box<str>>,
    /// The requested change.
    pub command: Command,
}

/// One log entry: commands that are applied together, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Cluster time at the leader when it proposed the batch.
    pub at: ClusterMs,
    /// At most `COMMANDS_PER_ENTRY_MAX`.
    pub proposals: Vec<Proposal>,
}

/// A change to the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates a key.
    CreateKey(Box<NewKey>),
    /// Changes fields of a key.
    UpdateKey(Box<KeyChange>),
    /// Gives a key a new secret.
    RotateKey {
        /// The key.
        id: KeyId,
        /// Digest of the new credential.
        digest: Digest,
        /// The old credential stays valid for this long after the stamp.
        grace_ms: u64,
        /// Refuses a repeat within a day.
        idempotency_key: Option<Box<str>>,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
    },
    /// Revokes a key permanently.
    RevokeKey {
        /// The key.
        id: KeyId,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
    },
    /// Sets the limits of all keys without their own.
    SetDefaults {
        /// Checked by the proposer, again by `apply`.
        limits: Vec<Limit>,
    },
    /// Changes the split of budgets from a moment on.
    SetShareMap {
        /// The new share map, with its begin.
        map: ShareMap,
        /// The map applies only in an entry of this term: the leader that ends the horizons of its
        /// grants before the map begins must be the one whose entry carries the map.
        term: u64,
    },
    /// Registers the data directory of a node. Level 1; [`Command::RegisterStart`] replaces it from
    /// level 2 on.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// Its directory.
        dir_id: DirId,
    },
    /// A node has left the cluster permanently.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Puts complete keys into the table; an existing key stays as it is. Only for the operator.
    PutKeys {
        /// The keys; for imported ones the log entry sets the time of creation and the creator.
        rows: Vec<KeyRow>,
        /// Where they come from.
        origin: ImportSource,
    },
    /// Merges lines of a backup's audit trail into this one. Only for the operator.
    RestoreAudit {
        /// The lines, oldest first.
        lines: Vec<AuditEntry>,
    },
    /// Every member runs a program that knows the rules of this level: they apply from this entry
    /// on. Since level 2.
    SetLevel {
        /// A level below the current one changes nothing.
        level: u32,
    },
    /// Sets the lease terms of the whole cluster. Since level 2.
    SetTerms {
        /// Checked by the proposer, again by `apply`.
        terms: LeaseTerms,
    },
    /// A node has started. Since level 2; replaces [`Command::RegisterNode`] there.
    RegisterStart {
        /// The node.
        node: NodeId,
        /// Its data directory.
        dir_id: DirId,
        /// This start of the node.
        start_id: StartId,
    },
    /// The operator accepts a jump of cluster time. Since level 2.
    SetTime {
        /// The new cluster time; a moment in the past changes nothing.
        to: ClusterMs,
    },
    /// Erases the records of keys that are revoked or expired. Since level 3.
    EraseKeys {
        /// The keys.
        ids: Vec<KeyId>,
        /// Set if the cluster itself erases: only the keys that ended before this moment. Otherwise
        /// the operator erases, and every key must have ended.
        ended_before: Option<ClusterMs>,
    },
    /// Executes a command at most once within a day. Since level 3.
    Once {
        /// The idempotency key.
        key: Box<str>,
        /// A hash that distinguishes the content of this request from others.
        content: u64,
        /// The command.
        command: OneKey,
    },
    /// Adds a line to the audit trail, and changes nothing else. Since level 3.
    Note {
        /// The action.
        action: Action,
        /// Its description.
        details: Box<str>,
    },
    /// Sets the key of the hash of names, once. Only for the cluster itself. Since level 4.
    SetSeed {
        /// Drawn at random by the proposer.
        seed: SubjectSeed,
    },
    /// Creates a record with a name, or replaces what it says. Only for the operator. Since level 4.
    PutNamed {
        /// What it is about.
        kind: NamedKind,
        /// Its name.
        name: Box<str>,
        /// What it says.
        definition: Box<Definition>,
        /// Only if the record exists with this revision.
        if_revision: Option<u64>,
    },
    /// Deletes a record with a name. Only for the operator. Since level 4.
    DeleteNamed {
        /// What it is about.
        kind: NamedKind,
        /// Its name.
        name: Box<str>,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
    },
}

/// A command that can be executed at most once: it creates a secret that is shown one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneKey {
    /// As [`Command::CreateKey`].
    Create(Box<NewKey>),
    /// As [`Command::RotateKey`].
    Rotate {
        /// The key.
        id: KeyId,
        /// Digest of the new credential.
        digest: Digest,
        /// The old credential stays valid for this long after the stamp, milliseconds.
        grace_ms: u64,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
        /// Rotate even if the previous secret is still in its promised grace: it ends then.
        end_previous: bool,
    },
}

impl Command {
    /// The lowest level of a cluster whose nodes can all read this command.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::CreateKey(key) if key.is_plain() => 1,
            Self::UpdateKey(change) if change.is_plain() => 1,
            Self::PutKeys { rows, .. } if rows.iter().all(KeyRow::is_plain) => 1,
            Self::CreateKey(_) | Self::UpdateKey(_) | Self::PutKeys { .. } => 4,
            Self::Once { command: OneKey::Create(key), .. } if !key.is_plain() => 4,
            Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::SetDefaults { .. }
            | Self::SetShareMap { .. }
            | Self::RegisterNode { .. }
            | Self::RemoveNode { .. } => 1,
            Self::RestoreAudit { lines } => {
                lines.iter().map(|line| line.action.level()).max().unwrap_or(1)
            }
            Self::SetLevel { .. }
            | Self::SetTerms { .. }
            | Self::RegisterStart { .. }
            | Self::SetTime { .. } => 2,
            Self::EraseKeys { .. } | Self::Once { .. } | Self::Note { .. } => 3,
            Self::SetSeed { .. } | Self::PutNamed { .. } | Self::DeleteNamed { .. } => 4,
        }
    }

    /// The directory that it registers for a node, if it does.
    #[must_use]
    pub fn registers(&self) -> Option<Registration> {
        match *self {
            Self::RegisterNode { node, dir_id } => {
                Some(Registration { node, dir_id, start_id: None })
            }
            Self::RegisterStart { node, dir_id, start_id } => {
                Some(Registration { node, dir_id, start_id: Some(start_id) })
            }
            Self::CreateKey(_)
            | Self::UpdateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::SetDefaults { .. }
            | Self::SetShareMap { .. }
            | Self::RemoveNode { .. }
            | Self::PutKeys { .. }
            | Self::RestoreAudit { .. }
            | Self::SetLevel { .. }
            | Self::SetTerms { .. }
            | Self::SetTime { .. }
            | Self::EraseKeys { .. }
            | Self::Once { .. }
            | Self::Note { .. }
            | Self::SetSeed { .. }
            | Self::PutNamed { .. }
            | Self::DeleteNamed { .. } => None,
        }
    }
}

/// The directory that a command registers for a node, and its start, if the command names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The node.
    pub node: NodeId,
    /// Its directory.
    pub dir_id: DirId,
    /// Its start.
    pub start_id: Option<StartId>,
}

impl Batch {
    /// The lowest level of a cluster whose nodes can all read this batch.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.proposals.iter().map(|proposal| proposal.command.level()).max().unwrap_or(1)
    }
}

/// The source of complete keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// Another system: only the keys' digests are known.
    Import,
    /// A backup of a cluster.
    Backup,
}

/// The outcome of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was created.
    Made,
    /// It existed already.
    Known,
    /// It was rejected.
    Refused(CommandError),
}

/// A key to be created. The proposer draws the id and keeps the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Drawn at random by the proposer.
    pub id: KeyId,
    /// The first characters of the credential, safe to show.
    pub prefix: Box<str>,
    /// Digest of the credential.
    pub digest: Digest,
    /// Its display name.
    pub name: Box<str>,
    /// Its scope.
    pub scope: Scope,
    /// Its owner.
    pub owner: Option<Box<str>>,
    /// Its own limits, or none for those of its plan.
    pub limits: Option<Vec<Limit>>,
    /// What it names besides them. Since level 4.
    pub terms: Terms,
    /// When it expires.
    pub expires_at: Option<ClusterMs>,
    /// Free text pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// Refuses a repeat within a day.
    pub idempotency_key: Option<Box<str>>,
}

/// The changes to a key; `None` leaves a field as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub id: KeyId,
    /// Only if the record has this revision.
    pub if_revision: Option<u64>,
    /// New name.
    pub name: Option<Box<str>>,
    /// New scope.
    pub scope: Option<Scope>,
    /// New owner, or none.
    pub owner: Option<Option<Box<str>>>,
    /// New limits, or back to those of its plan.
    pub limits: Option<Option<Vec<Limit>>>,
    /// With the limits: the names of those of its plan that do not apply. Since level 4.
    pub removes: Box<[Box<str>]>,
    /// New plan, or none. Since level 4.
    pub plan: Option<Option<Box<str>>>,
    /// New pools, or back to those of its plan. Since level 4.
    pub pools: Option<Option<Box<[Box<str>]>>>,
    /// Switched on or off.
    pub enabled: Option<bool>,
    /// New expiry, or none.
    pub expires_at: Option<Option<ClusterMs>>,
    /// New metadata, replacing the old.
    pub metadata: Option<Vec<(Box<str>, Box<str>)>>,
}

impl NewKey {
    /// Whether it says nothing of level 4.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.terms.is_empty() && Limit::are_plain(self.limits.as_deref())
    }
}

impl KeyChange {
    /// Whether it says nothing of level 4.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let named = self.plan.is_some() || self.pools.is_some() || !self.removes.is_empty();
        !named && Limit::are_plain(self.limits.iter().flatten().next().map(Vec::as_slice))
    }
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key as it is after the command.
    Key(Box<KeyRow>),
    /// Done; there is nothing to show.
    Done,
    /// Nothing was changed.
    Refused(CommandError),
    /// The outcome of each row.
    Put(Vec<Put>),
    /// The record with a name as it is after the command. Since level 4.
    Named(Box<NamedRow>),
}

/// Outcomes of one entry, in the order of its proposals, with the entry's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The log position.
    pub index: LogIndex,
    /// One for each proposal.
    pub outcomes: Vec<Outcome>,
}
