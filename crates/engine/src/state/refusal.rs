//! Why a command was rejected. Written to disk and sent by position, as commands are.

use fluxgate_types::{BootId, ClusterMs, KeyId, NodeId};

/// Why a command was rejected. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such key.
    #[error("no such key")]
    NotFound,
    /// The id is taken.
    #[error("the key id is taken")]
    IdTaken,
    /// The idempotency key was used within a day.
    #[error(
        "already done: this idempotency key made {0}, whose secret cannot be shown again; rotate {0} for \
         another one, or use a new idempotency key where it has ended"
    )]
    AlreadyDone(KeyId),
    /// The record has another revision.
    #[error("the record has revision {0}")]
    Revision(u64),
    /// The key is revoked permanently.
    #[error("the key is revoked")]
    Revoked,
    /// The limits, share map or text of the command break a rule.
    #[error("invalid: {0}")]
    Invalid(Box<str>),
    /// The requesting key was revoked, disabled, expired or lost its rights.
    #[error("the key that asked may not administer any more")]
    Actor,
    /// Another data directory ran under this id.
    #[error("node {0} is registered with another data directory")]
    OtherDirectory(NodeId),
    /// The cluster knows a later start of this node, or another one with the same number. Since
    /// level 2.
    #[error("node {node} has started since: its newest start is number {newest}")]
    OlderStart {
        /// The node.
        node: NodeId,
        /// The newest start that the cluster knows.
        newest: BootId,
    },
    /// The node was removed from the cluster. Since level 2.
    #[error("node {0} was removed from the cluster: add it again with an empty data directory")]
    Removed(NodeId),
    /// The idempotency key was used within a day for a different request. Since level 3.
    #[error(
        "this idempotency key was used for another request within a day, which concerned {0}: use a new \
         idempotency key"
    )]
    OtherContent(KeyId),
    /// The record to be erased belongs to a key that is neither revoked nor expired. Since level 3.
    #[error("key {0} is neither revoked nor expired: revoke it first")]
    NotEnded(KeyId),
    /// The previous secret is still in the grace that its rotation promised. Since level 3.
    #[error(
        "the secret before this one is valid until {0}, as was promised when it was rotated: wait, or end it \
         now with `end_previous` (`--end-previous`)"
    )]
    Promised(ClusterMs),
    /// The record to be deleted is named by others. Since level 4.
    #[error("{0}")]
    InUse(Box<str>),
}

impl CommandError {
    /// The lowest level of a cluster whose nodes can all read this error.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::NotFound
            | Self::IdTaken
            | Self::AlreadyDone(_)
            | Self::Revision(_)
            | Self::Revoked
            | Self::Invalid(_)
            | Self::Actor
            | Self::OtherDirectory(_) => 1,
            Self::OlderStart { .. } | Self::Removed(_) => 2,
            Self::OtherContent(_) | Self::NotEnded(_) | Self::Promised(_) => 3,
            Self::InUse(_) => 4,
        }
    }
}
