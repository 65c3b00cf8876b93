//! The ground of the models of leases and share maps: one log of committed entries in an order that
//! is taken as agreed, nodes that apply it, and a leader.

use fluxgate_engine::lease::{Granter, LeaseHolder, LeaseTerms, PreviousLeader};
use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Begins a node's term as the leader.
    TermStart(usize),
    /// Creates, changes or revokes a key.
    Write,
    /// A share map that applies from this moment.
    Map(ClusterMs),
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Entries applied.
    pub(crate) applied: usize,
    pub(crate) holder: LeaseHolder,
    /// The newest term that the node knows: its leader, and when the node saw it.
    seen: (usize, BootNs),
    /// The node's own term, while the node believes that it leads.
    pub(crate) term: Option<Granter>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) log: Vec<Entry>,
    pub(crate) leader: usize,
    pub(crate) members: Vec<Member>,
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(crate) fn index(at: usize) -> LogIndex {
    LogIndex(at as u64)
}

impl Cluster {
    /// A cluster whose nodes have all applied the first leader's entry, with all clocks at zero.
    pub(crate) fn new(nodes: usize, terms: LeaseTerms) -> Self {
        let start = BootNs(0);
        let (holder, seen, term) = (LeaseHolder::default(), (0, start), None);
        let member = Member { applied: 0, holder, seen, term };
        let mut cluster = Self { log: Vec::new(), leader: 0, members: vec![member; nodes] };
        cluster.elect(0, start, None, terms);
        for node in 1..nodes {
            cluster.apply(node, start);
        }
        cluster
    }

    /// A node applies the next entry; a replaced leader learns of its successor this way.
    pub(crate) fn apply(&mut self, node: usize, now: BootNs) {
        let member = &mut self.members[node];
        let entry = self.log[member.applied];
        member.applied += 1;
        member.holder.handle_applied(index(member.applied));
        if let Entry::TermStart(of) = entry {
            member.seen = (of, now);
            if of != node {
                member.term = None;
            }
        }
    }

    /// A node becomes the leader: it applies the rest of the log and appends an entry of its own. Its
    /// voters had no contact with an earlier leader after `contact`, if that is known.
    pub(crate) fn elect(
        &mut self,
        node: usize,
        now: BootNs,
        contact: Option<BootNs>,
        terms: LeaseTerms,
    ) {
        self.leader = node;
        while self.members[node].applied < self.log.len() {
            self.apply(node, now);
        }
        let (previous, seen_since) = self.members[node].seen;
        self.log.push(Entry::TermStart(node));
        self.apply(node, now);
        let nodes = (0..self.members.len()).map(id);
        let previous = PreviousLeader { node: id(previous), seen_since, contact };
        let member = &mut self.members[node];
        member.term = Some(Granter::new(terms, id(node), now, nodes, Some(previous)));
        member.holder.handle_elected(now, &terms);
    }

    /// The granter of the current leader.
    pub(crate) fn granter(&mut self) -> Option<&mut Granter> {
        self.members[self.leader].term.as_mut()
    }

    /// How often the leader was replaced.
    pub(crate) fn elections(&self) -> usize {
        self.log.iter().filter(|entry| matches!(entry, Entry::TermStart(_))).count() - 1
    }
}
