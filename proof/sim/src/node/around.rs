//! What a step of the member reads of the simulated node around it.

use std::collections::BTreeMap;

use fluxgate_engine::member::{ClusterMember, OwnHealth, PeerReport, SeenLeadership, Surroundings};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::cluster_state::LEVEL;
use fluxgate_types::{LogIndex, NodeId};

use crate::messages::PeerSaid;
use crate::raft::Raft;

/// The node around the member, for one step.
pub(super) struct Around<'a> {
    pub raft: &'a Raft,
    pub shared: &'a Shared,
    pub applied: LogIndex,
    pub leaderships: (Option<SeenLeadership>, Option<SeenLeadership>),
    pub peers: &'a BTreeMap<NodeId, PeerSaid>,
    pub is_stopping: bool,
    pub has_room: bool,
    pub has_joined: bool,
}

impl Surroundings for Around<'_> {
    fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    fn leads_in(&self) -> Option<u64> {
        self.raft.leads_in()
    }

    fn applied(&self) -> LogIndex {
        self.applied
    }

    fn leaderships(&self) -> (Option<SeenLeadership>, Option<SeenLeadership>) {
        self.leaderships
    }

    fn members(&self) -> Vec<ClusterMember> {
        let members = self.raft.members();
        let member = |node| ClusterMember {
            node,
            votes: members.voters.contains(&node),
            matched: LogIndex(self.raft.matched(node) as u64),
        };
        members.all().map(member).collect()
    }

    fn shared(&self) -> &Shared {
        self.shared
    }

    fn peer(&self, node: NodeId) -> Option<PeerReport> {
        self.peers.get(&node).map(|said| PeerReport {
            is_recent: true,
            is_ready: said.is_ready,
            can_write: Some(said.can_write),
            level: LEVEL,
            wall_offset_ns: said.wall_offset_ns,
        })
    }

    fn own(&self) -> OwnHealth {
        OwnHealth {
            has_joined: self.has_joined,
            lacks_entries: !self.has_room && self.raft.lacks_entries(),
            can_write: self.has_room,
            differs: false,
            is_stopping: self.is_stopping,
            is_changing_members: false,
            wall_is_plausible: true,
        }
    }
}
