//! The types that openraft is instantiated with.

use std::fmt;
use std::sync::Arc;

use fluxgate_engine::state::command::{Applied, Batch};

/// A log entry's data: shared, because openraft clones entries on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) Arc<Batch>);

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.proposals.len())
    }
}

/// The result of applying an entry; `None` for openraft's own entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) Option<Applied>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.0.as_ref().map_or(0, |applied| applied.outcomes.len()))
    }
}

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Data,
        R = Outcome,
        NodeId = u64,
        Node = openraft::BasicNode,
        AsyncRuntime = Runtime,
);

#[cfg(not(feature = "sim"))]
type Runtime = openraft_rt_tokio::TokioRuntime;
#[cfg(feature = "sim")]
use crate::runtime::Runtime;

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
