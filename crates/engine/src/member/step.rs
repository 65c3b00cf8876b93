//! What a step of the member works with.

use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};

use super::effect::{Effect, SeenLeadership};
use crate::clock::ClockReading;
use crate::lease::LeaderId;
use crate::state::Shared;

/// What a step reads of the node around it: consensus, the disk, and what peers reported about
/// themselves. Each call returns the newest value.
pub trait Surroundings {
    /// The leader, as far as this node knows.
    fn leader(&self) -> Option<NodeId>;
    /// The term in which this node leads, as far as it knows.
    fn leads_in(&self) -> Option<u64>;
    /// How far the log is applied here.
    fn applied(&self) -> LogIndex;
    /// The leadership of the newest applied entry, and the one before it.
    fn leaderships(&self) -> (Option<SeenLeadership>, Option<SeenLeadership>);
    /// The sets of voters by which this node was elected in this term, a majority of each; none if
    /// the members have changed since.
    fn electorate(&self, term: u64) -> Vec<Vec<NodeId>>;
    /// When this node can last have acknowledged a leader before this one
    /// ([`crate::lease::Contacts`]).
    fn last_contact(&self, before: LeaderId) -> Option<BootNs>;
    /// The members of the cluster, with whether each votes. In the order of their ids.
    fn members(&self) -> Vec<ClusterMember>;
    /// The replicated state.
    fn shared(&self) -> &Shared;
    /// What a peer last reported about itself; `None` if it never did.
    fn peer(&self, node: NodeId) -> Option<PeerReport>;
    /// What this node can do.
    fn own(&self) -> OwnHealth;
}

/// A member of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// The node.
    pub node: NodeId,
    /// Whether it votes.
    pub votes: bool,
    /// How far its log is known to match the leader's; 0 where that is not known.
    pub matched: LogIndex,
}

/// What a peer last reported about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Whether it said so within a few gossip periods.
    pub is_recent: bool,
    /// Whether it would answer requests.
    pub is_ready: bool,
    /// Whether it can write new entries to its disk; `None` where its program does not say.
    pub can_write: Option<bool>,
    /// The newest level that its program knows.
    pub level: u32,
    /// How far its wall clock is ahead of cluster time, nanoseconds.
    pub wall_offset_ns: i64,
}

/// What this node can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnHealth {
    /// It is known that this directory may take part in consensus.
    pub has_joined: bool,
    /// Its disk is full, and it lacks entries that are committed.
    pub lacks_entries: bool,
    /// It can write new entries.
    pub can_write: bool,
    /// Its state differs from that of the other nodes, and no majority is known to have it.
    pub differs: bool,
    /// It is about to stop.
    pub is_stopping: bool,
    /// A change of the members is between its two steps.
    pub is_changing_members: bool,
    /// Its wall clock can be right: it is neither before its program was built nor well before what
    /// an earlier start recorded.
    pub wall_is_plausible: bool,
}

/// What one step works with. Read under the lock of the member.
pub struct Step<'a> {
    /// This machine's clocks, read for this step.
    pub reading: ClockReading,
    /// The node around the member.
    pub around: &'a dyn Surroundings,
    /// What the step asks for.
    pub out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// The boot clock.
    #[must_use]
    pub fn now(&self) -> BootNs {
        self.reading.boot
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// Cluster time has reached the newest applied stamp, nanoseconds.
    pub(super) fn stamp_ns(&self) -> u64 {
        let ClusterMs(stamp_ms) = self.around.shared().last_stamp();
        stamp_ms.saturating_mul(1_000_000)
    }
}
