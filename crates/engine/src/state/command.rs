//! The vocabulary of the log: what may be asked of the replicated state, and what comes of it.
//!
//! Written to disk and sent between nodes by position: variants and fields are only ever appended
//! behind a new format version (see the `raft` crate), never moved.

use fluxgate_types::{ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope};

use super::audit::{Action, AuditEntry};
use super::cluster_state::StartId;
pub use super::refusal::CommandError;
use super::snapshot::KeyRow;
use crate::lease::LeaseTerms;
use crate::share_map::ShareMap;

/// Who asked for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The operator token.
    Operator,
    /// An API key of scope admin.
    Key(KeyId),
    /// The cluster itself.
    System,
}

/// One command with what `apply` needs to know of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Random, chosen where the request came in: a repeat gets the first outcome again.
    pub request: u128,
    /// Who asked.
    pub actor: Actor,
    /// What an actor with a key presented: it must still open the key when this is applied.
    pub presented: Option<Digest>,
    /// The address that the request came from, for the audit trail.
    pub from: Option<Box<str>>,
    /// What is asked.
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
    /// Makes a key.
    CreateKey(Box<NewKey>),
    /// Changes fields of a key.
    UpdateKey(Box<KeyChange>),
    /// Gives a key a new secret.
    RotateKey {
        /// The key.
        id: KeyId,
        /// Digest of the new credential.
        digest: Digest,
        /// The old credential stays valid for so long after the stamp.
        grace_ms: u64,
        /// Refuses a repeat within a day.
        idempotency_key: Option<Box<str>>,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
    },
    /// Ends a key for good.
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
    /// Splits budgets anew from a moment on.
    SetShareMap {
        /// How, and from when on.
        map: ShareMap,
        /// Counts only in an entry of this term: the office that ends its grants' horizons before
        /// the map begins must be the one whose log carries it.
        term: u64,
    },
    /// A node runs on this data directory.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// Its directory.
        dir_id: DirId,
    },
    /// A node has left the cluster for good.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Puts whole keys into the table; one that is there already stays as it is. The operator's
    /// alone.
    PutKeys {
        /// The keys; of imported ones the log says when they were made, and by whom.
        rows: Vec<KeyRow>,
        /// Where they come from.
        origin: ImportSource,
    },
    /// Puts lines of a backup's audit trail behind this one's. The operator's alone.
    RestoreAudit {
        /// The lines, oldest first.
        lines: Vec<AuditEntry>,
    },
    /// Every member runs a program that knows the rules of this level: from here on they apply.
    /// Since level 2.
    SetLevel {
        /// A lower one than the present changes nothing.
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
        /// This start of it.
        start_id: StartId,
    },
    /// The operator accepts a jump of cluster time. Since level 2.
    SetTime {
        /// Where it jumps to; a moment that is past changes nothing.
        to: ClusterMs,
    },
    /// Forgets the records of keys that are revoked or expired. Since level 3.
    EraseKeys {
        /// The keys.
        ids: Vec<KeyId>,
        /// Only those that ended before this moment, by the cluster itself; else by the operator.
        ended_before: Option<ClusterMs>,
    },
    /// Carries out a command once within a day. Since level 3.
    Once {
        /// The idempotency key.
        key: Box<str>,
        /// What tells its content from another one's.
        content: u64,
        /// The command.
        command: OneKey,
    },
    /// Adds a line to the audit trail, and changes nothing else. Since level 3.
    Note {
        /// What was done.
        action: Action,
        /// The same in words.
        details: Box<str>,
    },
}

/// What can be carried out once: it makes a secret that is shown one time.
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
        /// The old credential stays valid for so long after the stamp, milliseconds.
        grace_ms: u64,
        /// Only if the record has this revision.
        if_revision: Option<u64>,
        /// Also where the secret before this one is still valid, as was promised: it ends.
        end_previous: bool,
    },
}

impl Command {
    /// The lowest level of a cluster whose nodes can all read this command.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::CreateKey(_)
            | Self::UpdateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::SetDefaults { .. }
            | Self::SetShareMap { .. }
            | Self::RegisterNode { .. }
            | Self::RemoveNode { .. }
            | Self::PutKeys { .. } => 1,
            Self::RestoreAudit { lines } => {
                lines.iter().map(|line| line.action.level()).max().unwrap_or(1)
            }
            Self::SetLevel { .. }
            | Self::SetTerms { .. }
            | Self::RegisterStart { .. }
            | Self::SetTime { .. } => 2,
            Self::EraseKeys { .. } | Self::Once { .. } | Self::Note { .. } => 3,
        }
    }
}

impl Batch {
    /// The lowest level of a cluster whose nodes can all read this batch.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.proposals.iter().map(|proposal| proposal.command.level()).max().unwrap_or(1)
    }
}

/// Where whole keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// Another system: only their digests are known.
    Import,
    /// A backup of a cluster.
    Backup,
}

/// What came of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was made.
    Made,
    /// It was there.
    Known,
    /// It was not made.
    Refused(CommandError),
}

/// A key to be made. The proposer draws the id and keeps the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Drawn at random by the proposer.
    pub id: KeyId,
    /// The first characters of the credential, safe to show.
    pub prefix: Box<str>,
    /// Digest of the credential.
    pub digest: Digest,
    /// What people call it.
    pub name: Box<str>,
    /// What it may do.
    pub scope: Scope,
    /// Whose it is.
    pub owner: Option<Box<str>>,
    /// Limits of its own, or none for the defaults.
    pub limits: Option<Vec<Limit>>,
    /// When it ends by itself.
    pub expires_at: Option<ClusterMs>,
    /// Free text pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// Refuses a repeat within a day.
    pub idempotency_key: Option<Box<str>>,
}

/// What to change of a key; `None` leaves a field as it is.
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
    /// New limits, or back to the defaults.
    pub limits: Option<Option<Vec<Limit>>>,
    /// Switched on or off.
    pub enabled: Option<bool>,
    /// New end, or none.
    pub expires_at: Option<Option<ClusterMs>>,
    /// New metadata, replacing the old.
    pub metadata: Option<Vec<(Box<str>, Box<str>)>>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key as it is after the command.
    Key(Box<KeyRow>),
    /// Done; there is nothing to show.
    Done,
    /// Nothing was changed.
    Refused(CommandError),
    /// What came of each row.
    Put(Vec<Put>),
}

/// An outcome as it is kept for a repeat of its request: a key is named, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// This key was made or changed.
    Key(KeyId),
    /// Done.
    Done,
    /// Nothing was changed.
    Refused(CommandError),
}

impl Remembered {
    /// What is kept of an outcome; `None` where doing it twice is the same as once.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Key(record) => Some(Self::Key(record.id)),
            Outcome::Done => Some(Self::Done),
            Outcome::Refused(refusal) => Some(Self::Refused(refusal.clone())),
            Outcome::Put(_) => None,
        }
    }
}

/// Outcomes of one entry, in the order of its proposals, with the entry's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where in the log.
    pub index: LogIndex,
    /// One for each proposal.
    pub outcomes: Vec<Outcome>,
}
