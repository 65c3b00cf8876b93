//! What a step of the member reads of this node.

use fluxgate_engine::lease::LeaderId;
use fluxgate_engine::member::{
    ClusterMember, Member, OwnHealth, PeerReport, SeenLeadership, Surroundings,
};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::cluster_state::level_of;
use fluxgate_raft::{Leadership, WriteHealth};
use fluxgate_types::{BootNs, LogIndex, NodeId};
use fluxgate_wire::peer::Writes;

use super::{MemberDriver, MemberParts};
use crate::clock::{boot_now, nanos};

impl Surroundings for MemberParts {
    fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    fn leads_in(&self) -> Option<u64> {
        self.raft.leads_in()
    }

    fn applied(&self) -> LogIndex {
        self.raft.applied()
    }

    fn leaderships(&self) -> (Option<SeenLeadership>, Option<SeenLeadership>) {
        let seen = |of: Leadership| SeenLeadership {
            term: of.term,
            node: of.node,
            // The monotonic clock does not count suspends, so this is late at worst: safe.
            since: BootNs(boot_now().0.saturating_sub(nanos(of.seen_since.elapsed()))),
        };
        let (now, before) = self.raft.leaderships();
        (now.map(seen), before.map(seen))
    }

    fn electorate(&self, term: u64) -> Vec<Vec<NodeId>> {
        self.raft.electorate(term)
    }

    fn last_contact(&self, before: LeaderId) -> Option<BootNs> {
        self.raft.last_contact(before)
    }

    fn members(&self) -> Vec<ClusterMember> {
        let member = |(node, status): (&NodeId, &fluxgate_raft::NodeStatus)| ClusterMember {
            node: *node,
            votes: status.votes,
            matched: status.matched.unwrap_or(LogIndex(0)),
        };
        self.raft.status().nodes.iter().map(member).collect()
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn peer(&self, node: NodeId) -> Option<PeerReport> {
        let about = self.heard.about(node)?;
        Some(PeerReport {
            is_recent: self.heard.is_recent(&about, self.clock.now().0),
            is_ready: about.ready,
            can_write: self.heard.more_of(node).map(|more| more.writes == Writes::Fine),
            level: level_of(&about.version),
            wall_offset_ns: about.clock_offset_ms.saturating_mul(1_000_000),
        })
    }

    fn own(&self) -> OwnHealth {
        OwnHealth {
            has_joined: self.lifecycle.may_vote(),
            lacks_entries: self.raft.lacks_entries(),
            can_write: self.raft.write_health() == WriteHealth::Fine,
            differs: self.agreement.differs(),
            is_stopping: self.lifecycle.is_stopping(),
            is_changing_members: self.raft.status().changing.is_some(),
            wall_is_plausible: self.clock.is_plausible(),
        }
    }
}

impl MemberDriver {
    /// Publishes what requests read without the member's lock; call it with the lock held.
    pub(super) fn publish(&self, member: &Member) {
        // Set BEFORE the lease is published: the first lease decides which tokens this incarnation
        // may use.
        self.parts.published.publish_incarnation(member.incarnation());
        self.parts.published.publish_silences(member.has_silences());
        self.parts.clock.publish(*member.clock());
        let holder = member.holder();
        // A node whose state differs from the others' answers nothing, whatever lease it was
        // granted.
        let until = if self.parts.agreement.differs() { BootNs(0) } else { holder.until() };
        self.parts.published.publish_lease(until, holder.horizon());
    }
}
