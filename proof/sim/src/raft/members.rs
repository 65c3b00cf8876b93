//! The members: entries of the log set them, one change at a time.

use std::rc::Rc;

use fluxgate_types::NodeId;

use super::{Entry, Output, Raft, Role};

/// The members of the cluster, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that vote.
    pub voters: Vec<NodeId>,
    /// Those that get entries and do not vote yet.
    pub learners: Vec<NodeId>,
}

impl Members {
    /// The same members without this node.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Self {
        let rest = |nodes: &[NodeId]| nodes.iter().copied().filter(|n| *n != node).collect();
        Self { voters: rest(&self.voters), learners: rest(&self.learners) }
    }

    /// The same members with this node as one that does not vote.
    #[must_use]
    pub fn with_learner(&self, node: NodeId) -> Self {
        let mut members = self.without(node);
        members.learners.push(node);
        members.learners.sort_unstable();
        members
    }

    /// The same members with this node as one that votes.
    #[must_use]
    pub fn with_voter(&self, node: NodeId) -> Self {
        let mut members = self.without(node);
        members.voters.push(node);
        members.voters.sort_unstable();
        members
    }

    /// Whether this node is one of them.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// All of them, voters first.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().chain(&self.learners).copied()
    }
}

impl Raft {
    /// The members, as the newest entry of the log says.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members.0
    }

    /// The place of the entry that set them; 0 if there is none.
    #[must_use]
    pub fn members_at(&self) -> usize {
        self.members.1
    }

    /// Whether the entry that set the members is committed, as far as this node knows.
    #[must_use]
    pub fn members_are_committed(&self) -> bool {
        self.members.1 <= self.commit
    }

    /// The voters by which this node was elected in this term; none if it does not lead in it, or an
    /// entry of its own has changed the members since.
    #[must_use]
    pub fn electorate(&self, term: u64) -> Vec<Vec<NodeId>> {
        let changed = self.term_at(self.members_at()) == term;
        let voters = self.leads_in().filter(|leads| *leads == term && !changed);
        voters.map(|_| self.members.0.voters.clone()).into_iter().collect()
    }

    /// How far a member's log is known to match this leader's; 0 if nothing is known.
    #[must_use]
    pub fn matched(&self, node: NodeId) -> usize {
        if node == self.me { self.durable } else { self.matched.get(&node).copied().unwrap_or(0) }
    }

    /// Whether this node knows of a cluster: it has a log, or has been in a term.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        !self.log.is_empty() || self.term > 0
    }

    /// Whether the cluster that this node knows may have acknowledged something. A process that
    /// formed it, and has neither led nor voted for another node since, knows of none.
    #[must_use]
    pub fn has_history(&self) -> bool {
        let own = self.term == 0
            || self.term == 1 && self.vote == Some(self.me) && self.role != Role::Leader;
        self.is_formed() && !(self.formed_here && own && self.log.len() == 1)
    }

    /// Forms a cluster of these voters. Every node that does writes the same entry.
    pub fn form(&mut self, voters: Vec<NodeId>, out: &mut Vec<Output>) {
        if self.is_formed() {
            return;
        }
        let members = Some(Members { voters, learners: Vec::new() });
        self.log.push(Rc::new(Entry { term: 0, node: NodeId(0), batch: None, members }));
        self.formed_here = true;
        self.find_members();
        self.persist(0, Vec::new(), out);
    }

    /// Proposes other members on the leader: at most one node more or less that votes. False if it
    /// does not lead, or another change is under way.
    pub fn change_members(&mut self, members: Members, out: &mut Vec<Output>) -> bool {
        let ready = self.role == Role::Leader
            && self.term_at(self.commit) == self.term
            && self.members_are_committed();
        if ready {
            self.append(None, Some(members), out);
        }
        ready
    }

    /// Finds the members again after a change of the log's tail.
    pub(super) fn find_members(&mut self) {
        let newest = self.log.iter().enumerate().rev();
        let mut sets = newest.filter_map(|(at, entry)| Some((entry.members.clone()?, at + 1)));
        self.members = sets.next().unwrap_or_default();
        let members = &self.members.0;
        self.next.retain(|node, _| members.contains(*node));
        self.matched.retain(|node, _| members.contains(*node));
        self.acked.retain(|node, _| members.contains(*node));
    }

    pub(super) fn votes_itself(&self) -> bool {
        self.members.0.voters.contains(&self.me)
    }

    pub(super) fn quorum(&self) -> usize {
        self.members.0.voters.len() / 2 + 1
    }

    /// The members without this node.
    pub(super) fn others(&self) -> Vec<NodeId> {
        self.members.0.all().filter(|node| *node != self.me).collect()
    }

    /// What a majority of the voters has reached, given what is known of each, and of this node.
    pub(super) fn reached<T: Copy + Ord + Default>(
        &self,
        known: &std::collections::BTreeMap<NodeId, T>,
        own: T,
    ) -> T {
        let of = |node: &NodeId| {
            if *node == self.me { own } else { known.get(node).copied().unwrap_or_default() }
        };
        let mut all: Vec<T> = self.members.0.voters.iter().map(of).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.get(self.quorum() - 1).copied().unwrap_or_default()
    }
}
