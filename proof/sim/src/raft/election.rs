//! Elections: pre-vote, durable votes, and hand-over.

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::lease::{LeaderId, Voted};
use fluxgate_types::NodeId;

use super::{Disk, Message, Output, Raft, Role};
use fluxgate_plan::Rng;
use fluxgate_plan::Us;

impl Raft {
    pub(super) fn become_follower(&mut self, term: u64, out: &mut Vec<Output>) {
        if self.role == Role::Leader {
            for (_, token, _) in std::mem::take(&mut self.confirms) {
                out.push(Output::Confirmed(token, None));
            }
        }
        self.role = Role::Follower;
        self.votes.clear();
        if term > self.term {
            (self.term, self.vote, self.leader) = (term, None, None);
        }
        if self.leader == Some(self.me) {
            self.leader = None;
        }
    }

    /// The vote on the disk. A term has one leader here, so a node that has seen the term and did not
    /// stand in it acknowledges none before that leader.
    #[must_use]
    pub fn voted(&self) -> Voted {
        let Disk { term, vote, .. } = self.disk;
        let node = vote.filter(|node| *node == self.me).unwrap_or(NodeId(u64::MAX));
        let is_elected = self.role == Role::Leader && self.term == term;
        Voted { leader: LeaderId { term, node }, is_elected }
    }

    pub(super) fn rest(&mut self, now: Us, rng: &mut Rng) {
        self.wake = now + rng.between(self.election.0, self.election.1);
    }

    /// Time has come: a heartbeat, or an election.
    pub fn handle_time(&mut self, now: Us, rng: &mut Rng, out: &mut Vec<Output>) {
        if now < self.wake {
            return;
        }
        if self.role == Role::Leader {
            self.wake = now + self.heartbeat;
            self.replicate(out);
            return;
        }
        self.rest(now, rng);
        self.leader = None;
        if self.votes_itself() {
            self.stand(true, false, out);
        }
    }

    fn stand(&mut self, pre: bool, forced: bool, out: &mut Vec<Output>) {
        self.role = Role::Candidate { pre };
        self.votes = BTreeSet::from([self.me]);
        let mut requests = Vec::new();
        let term = self.term + 1;
        if !pre {
            (self.term, self.vote) = (term, Some(self.me));
        }
        let last = self.last_id();
        for node in self.members.0.voters.iter().copied().filter(|node| *node != self.me) {
            requests.push((node, Message::Vote { term, last, pre, forced }));
        }
        if pre {
            out.extend(requests.into_iter().map(|(to, message)| Output::Send(to, message)));
        } else {
            self.persist(self.log.len(), requests, out);
        }
        self.count(out);
    }

    fn count(&mut self, out: &mut Vec<Output>) {
        let Role::Candidate { pre } = self.role else { return };
        let voters = &self.members.0.voters;
        if self.votes.iter().filter(|node| voters.contains(node)).count() < self.quorum() {
            return;
        }
        if pre {
            self.stand(false, false, out);
            return;
        }
        self.role = Role::Leader;
        self.leader = Some(self.me);
        self.next = self.others().into_iter().map(|node| (node, self.log.len() + 1)).collect();
        (self.matched, self.acked) = (BTreeMap::new(), BTreeMap::new());
        self.round += 1;
        self.wake = 0;
        self.append(None, None, out);
    }

    /// Hands the leadership to this node, or to the one that is furthest along.
    pub fn transfer_leadership(&mut self, to: Option<NodeId>, out: &mut Vec<Output>) {
        if self.role != Role::Leader {
            return;
        }
        let voters = self.matched.iter().filter(|(node, _)| self.members.0.voters.contains(node));
        let best = voters.max_by_key(|(node, at)| (**at, **node)).map(|(n, _)| *n);
        if let Some(node) = to.or(best) {
            out.push(Output::Send(node, Message::StandNow { term: self.term }));
        }
    }

    pub(super) fn handle_stand_now(
        &mut self,
        now: Us,
        term: u64,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        if term == self.term && self.role != Role::Leader && self.votes_itself() {
            self.rest(now, rng);
            self.stand(false, true, out);
        }
    }

    pub(super) fn handle_voted(
        &mut self,
        from: NodeId,
        (term, granted, pre): (u64, bool, bool),
        out: &mut Vec<Output>,
    ) {
        if term > self.term && !(pre && granted) {
            self.become_follower(term, out);
            self.persist(self.log.len(), Vec::new(), out);
        }
        let wanted = self.role == (Role::Candidate { pre });
        let same = if pre { term == self.term + 1 } else { term == self.term };
        if wanted && same && granted {
            self.votes.insert(from);
            self.count(out);
        }
    }

    pub(super) fn handle_vote(
        &mut self,
        now: Us,
        from: NodeId,
        (term, last, pre, forced): (u64, (u64, usize), bool, bool),
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        let fresh = self.role == Role::Leader
            || (self.leader.is_some() && now - self.heard < self.election.0);
        let sound = last >= self.last_id() && (!fresh || forced);
        if pre {
            let granted = sound && term > self.term;
            // A candidate whose term is behind could otherwise never be elected.
            let term = if granted { term } else { self.term };
            out.push(Output::Send(from, Message::Voted { term, granted, pre }));
            return;
        }
        if fresh && !forced {
            let (term, granted) = (self.term, false);
            out.push(Output::Send(from, Message::Voted { term, granted, pre }));
            return;
        }
        if term > self.term {
            self.become_follower(term, out);
        }
        let free = self.vote.is_none_or(|node| node == from);
        let granted = term == self.term && free && sound;
        if granted {
            self.vote = Some(from);
            self.rest(now, rng);
        }
        let voted = Message::Voted { term: self.term, granted, pre };
        self.persist(self.log.len(), vec![(from, voted)], out);
    }
}
