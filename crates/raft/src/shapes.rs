//! Converts openraft's values to the frozen shapes of `wire`, and back.
//!
//! openraft adds fields to its types that positional formats cannot detect, so none of them is ever
//! written: each has a shape, and only this file converts between the two.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_wire::raft::{
    AppendReplyV1, AppendV1, EntryV1, LogIdV1, MembershipV1, PayloadV1, SnapshotMetaV1, TransferV1,
    VoteCallV1, VoteReplyV1, VoteV1,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, EntryPayload, Membership};

use crate::types::{Data, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};

/// A value of openraft's that has a frozen shape.
pub(crate) trait Shaped: Sized {
    type Shape;

    fn to_shape(&self) -> Self::Shape;

    fn from_shape(shape: Self::Shape) -> Self;
}

impl<T: Shaped> Shaped for Option<T> {
    type Shape = Option<T::Shape>;

    fn to_shape(&self) -> Self::Shape {
        self.as_ref().map(T::to_shape)
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.map(T::from_shape)
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    type Shape = Vec<T::Shape>;

    fn to_shape(&self) -> Self::Shape {
        self.iter().map(T::to_shape).collect()
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.into_iter().map(T::from_shape).collect()
    }
}

impl Shaped for Vote {
    type Shape = VoteV1;

    fn to_shape(&self) -> VoteV1 {
        let id = self.leader_id;
        VoteV1 { term: id.term, node: id.node_id, committed: self.committed }
    }

    fn from_shape(vote: VoteV1) -> Self {
        let new = if vote.committed { Self::new_committed } else { Self::new };
        new(vote.term, vote.node)
    }
}

impl Shaped for LogId {
    type Shape = LogIdV1;

    fn to_shape(&self) -> LogIdV1 {
        LogIdV1 { term: self.leader_id.term, node: self.leader_id.node_id, index: self.index }
    }

    fn from_shape(id: LogIdV1) -> Self {
        let leader = openraft::vote::leader_id_adv::LeaderId { term: id.term, node_id: id.node };
        Self::new(leader, id.index)
    }
}

impl Shaped for Membership<u64, BasicNode> {
    type Shape = MembershipV1;

    fn to_shape(&self) -> MembershipV1 {
        MembershipV1 {
            configs: self.get_joint_config().clone(),
            nodes: self.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }

    fn from_shape(membership: MembershipV1) -> Self {
        let MembershipV1 { configs, nodes } = membership;
        let nodes: BTreeMap<u64, BasicNode> =
            nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        // A membership that openraft wrote names every voter. Any other gets default nodes, which
        // cannot be reached, instead of a panic.
        let ids: Vec<u64> = nodes.keys().copied().collect();
        Self::new(configs.clone(), nodes).unwrap_or_else(|_| Self::new_with_defaults(configs, ids))
    }
}

impl Shaped for Entry {
    type Shape = EntryV1;

    fn to_shape(&self) -> EntryV1 {
        let payload = match &self.payload {
            EntryPayload::Blank => PayloadV1::Blank,
            EntryPayload::Normal(Data(batch)) => PayloadV1::Batch(Arc::clone(batch)),
            EntryPayload::Membership(membership) => PayloadV1::Membership(membership.to_shape()),
        };
        EntryV1 { id: self.log_id.to_shape(), payload }
    }

    fn from_shape(entry: EntryV1) -> Self {
        let payload = match entry.payload {
            PayloadV1::Blank => EntryPayload::Blank,
            PayloadV1::Batch(batch) => EntryPayload::Normal(Data(batch)),
            PayloadV1::Membership(membership) => {
                EntryPayload::Membership(Shaped::from_shape(membership))
            }
        };
        Self { log_id: Shaped::from_shape(entry.id), payload }
    }
}

impl Shaped for AppendEntriesRequest<TypeConfig> {
    type Shape = AppendV1;

    fn to_shape(&self) -> AppendV1 {
        AppendV1 {
            vote: self.vote.to_shape(),
            prev: self.prev_log_id.to_shape(),
            entries: self.entries.to_shape(),
            commit: self.leader_commit.to_shape(),
        }
    }

    fn from_shape(rpc: AppendV1) -> Self {
        Self {
            vote: Shaped::from_shape(rpc.vote),
            prev_log_id: Shaped::from_shape(rpc.prev),
            entries: Shaped::from_shape(rpc.entries),
            leader_commit: Shaped::from_shape(rpc.commit),
        }
    }
}

impl Shaped for AppendEntriesResponse<TypeConfig> {
    type Shape = AppendReplyV1;

    fn to_shape(&self) -> AppendReplyV1 {
        match self {
            Self::Success => AppendReplyV1::Success,
            Self::PartialSuccess(at) => AppendReplyV1::Partial(at.to_shape()),
            Self::Conflict => AppendReplyV1::Conflict,
            Self::HigherVote(vote) => AppendReplyV1::HigherVote(vote.to_shape()),
        }
    }

    fn from_shape(reply: AppendReplyV1) -> Self {
        match reply {
            AppendReplyV1::Success => Self::Success,
            AppendReplyV1::Partial(at) => Self::PartialSuccess(Shaped::from_shape(at)),
            AppendReplyV1::Conflict => Self::Conflict,
            AppendReplyV1::HigherVote(vote) => Self::HigherVote(Shaped::from_shape(vote)),
        }
    }
}

impl Shaped for VoteRequest<TypeConfig> {
    type Shape = VoteCallV1;

    fn to_shape(&self) -> VoteCallV1 {
        let last = self.last_log_id.to_shape();
        VoteCallV1 { vote: self.vote.to_shape(), last, transfer: self.leadership_transfer }
    }

    fn from_shape(rpc: VoteCallV1) -> Self {
        let mut request = Self::new(Vote::from_shape(rpc.vote), Shaped::from_shape(rpc.last));
        request.leadership_transfer = rpc.transfer;
        request
    }
}

impl Shaped for VoteResponse<TypeConfig> {
    type Shape = VoteReplyV1;

    fn to_shape(&self) -> VoteReplyV1 {
        let last = self.last_log_id.to_shape();
        VoteReplyV1 { vote: self.vote.to_shape(), granted: self.vote_granted, last }
    }

    fn from_shape(reply: VoteReplyV1) -> Self {
        Self::new(Vote::from_shape(reply.vote), Shaped::from_shape(reply.last), reply.granted)
    }
}

impl Shaped for TransferLeaderRequest<TypeConfig> {
    type Shape = TransferV1;

    fn to_shape(&self) -> TransferV1 {
        let last = self.last_log_id().map(Shaped::to_shape);
        TransferV1 { from: self.from_leader().to_shape(), to: *self.to_node_id(), last }
    }

    fn from_shape(rpc: TransferV1) -> Self {
        Self::new(Shaped::from_shape(rpc.from), rpc.to, Shaped::from_shape(rpc.last))
    }
}

impl Shaped for SnapshotMeta {
    type Shape = SnapshotMetaV1;

    fn to_shape(&self) -> SnapshotMetaV1 {
        SnapshotMetaV1 {
            last: self.last_log_id.to_shape(),
            membership_at: self.last_membership.log_id().to_shape(),
            membership: self.last_membership.membership().to_shape(),
        }
    }

    fn from_shape(meta: SnapshotMetaV1) -> Self {
        Self {
            last_log_id: Shaped::from_shape(meta.last),
            last_membership: StoredMembership::new(
                Shaped::from_shape(meta.membership_at),
                Shaped::from_shape(meta.membership),
            ),
        }
    }
}
