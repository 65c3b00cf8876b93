//! A small Raft: a faithful stand-in for the real one, deterministic and cheap.
//!
//! Answers for: terms, durable votes, pre-vote, replication with the log-matching check, commitment
//! of a leader's own term only, proofs of leadership by a round of heartbeats (ReadIndex), and
//! hand-over (Ongaro, "Consensus: Bridging Theory and Practice", 2014). What is acknowledged is on
//! the disk before; a crash loses what was not synced. No snapshots and no change of members: those
//! are the whole-cluster tests' business, with the real openraft.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use fluxgate_engine::state::command::Batch;
use fluxgate_types::NodeId;

use crate::plan::Us;
use crate::rng::Rng;

/// A log entry.
#[derive(Debug)]
pub struct Entry {
    /// The term it was written in.
    pub term: u64,
    /// The leader that wrote it.
    pub node: NodeId,
    /// The commands; none in the entry that begins an office.
    pub batch: Option<Batch>,
}

/// What lies on a disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    term: u64,
    vote: Option<NodeId>,
    log: Vec<Rc<Entry>>,
}

/// What nodes say to each other about consensus.
#[derive(Clone, Debug)]
pub enum Message {
    /// Asks for a vote, or for the promise of one.
    Vote {
        /// The candidate's term.
        term: u64,
        /// Term and index of its last entry.
        last: (u64, usize),
        /// Only the promise is asked for.
        pre: bool,
        /// The leader wants this: a living leader is no reason to refuse.
        forced: bool,
    },
    /// The answer.
    Voted {
        /// The term that the answer is for.
        term: u64,
        /// Yes.
        granted: bool,
        /// To a question for the promise.
        pre: bool,
    },
    /// Replicates entries; empty ones are heartbeats.
    Append {
        /// The leader's term.
        term: u64,
        /// Term and index of the entry before these.
        prev: (u64, usize),
        /// The entries.
        entries: Vec<Rc<Entry>>,
        /// Entries up to here are committed.
        commit: usize,
        /// Counts the leader's rounds, for proofs of leadership.
        round: u64,
    },
    /// The answer.
    Appended {
        /// The follower's term.
        term: u64,
        /// How far its log matches, durably; none where it does not.
        matched: Option<usize>,
        /// Where to try next, if it does not.
        hint: usize,
        /// The round that is answered.
        round: u64,
    },
    /// Stand for election now.
    StandNow {
        /// The leader's term.
        term: u64,
    },
}

/// What the driver must do.
#[derive(Debug)]
pub enum Output {
    /// Send to a node.
    Send(NodeId, Message),
    /// A sync was asked for: call [`Raft::synced`] when it is done.
    Sync,
    /// A proof of leadership succeeded; `None` when it cannot any more.
    Confirmed(u64, Option<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate { pre: bool },
    Leader,
}

struct Pending {
    term: u64,
    vote: Option<NodeId>,
    keep: usize,
    tail: Vec<Rc<Entry>>,
    then: Vec<(NodeId, Message)>,
}

/// One node's part in consensus.
pub struct Raft {
    me: NodeId,
    voters: Vec<NodeId>,
    disk: Disk,
    /// Answers before it is durable: a broken variant.
    pub driver_mutation: bool,
    election: (Us, Us),
    heartbeat: Us,
    role: Role,
    term: u64,
    vote: Option<NodeId>,
    log: Vec<Rc<Entry>>,
    durable: usize,
    pending: VecDeque<Pending>,
    leader: Option<NodeId>,
    commit: usize,
    votes: BTreeSet<NodeId>,
    next: BTreeMap<NodeId, usize>,
    matched: BTreeMap<NodeId, usize>,
    acked: BTreeMap<NodeId, u64>,
    round: u64,
    confirms: Vec<(u64, u64, usize)>,
    heard: Us,
    /// Call [`Raft::handle_time`] then.
    pub wake: Us,
}

impl Raft {
    /// Starts from a disk.
    pub fn new(
        me: NodeId,
        voters: Vec<NodeId>,
        disk: Disk,
        heartbeat: Us,
        now: Us,
        rng: &mut Rng,
    ) -> Self {
        let election = (3 * heartbeat, 6 * heartbeat);
        let wake = now + rng.between(election.0, election.1);
        Self {
            me,
            voters,
            driver_mutation: false,
            election,
            heartbeat,
            role: Role::Follower,
            term: disk.term,
            vote: disk.vote,
            log: disk.log.clone(),
            durable: disk.log.len(),
            disk,
            pending: VecDeque::new(),
            leader: None,
            commit: 0,
            votes: BTreeSet::new(),
            next: BTreeMap::new(),
            matched: BTreeMap::new(),
            acked: BTreeMap::new(),
            round: 0,
            confirms: Vec::new(),
            heard: 0,
            wake,
        }
    }

    /// What a crash leaves.
    pub fn crash(self) -> Disk {
        self.disk
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The term in which this node leads.
    pub fn leads_in(&self) -> Option<u64> {
        (self.role == Role::Leader).then_some(self.term)
    }

    /// The voters, in order.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Entries up to here are committed, as far as this node knows.
    pub fn committed(&self) -> usize {
        self.commit
    }

    /// An entry, counted from 1.
    pub fn entry(&self, index: usize) -> Option<&Rc<Entry>> {
        self.log.get(index.checked_sub(1)?)
    }

    /// Entries in the log.
    pub fn last(&self) -> usize {
        self.log.len()
    }

    fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn others(&self) -> Vec<NodeId> {
        self.voters.iter().copied().filter(|node| *node != self.me).collect()
    }

    fn term_at(&self, index: usize) -> u64 {
        self.entry(index).map_or(0, |entry| entry.term)
    }

    fn last_id(&self) -> (u64, usize) {
        (self.term_at(self.log.len()), self.log.len())
    }

    /// Notes what must be durable; `then` leaves once it is. `keep` entries are as before.
    fn persist(&mut self, keep: usize, then: Vec<(NodeId, Message)>, out: &mut Vec<Output>) {
        self.durable = self.durable.min(keep);
        let tail = self.log[keep..].to_vec();
        let (term, vote) = (self.term, self.vote);
        let then = if self.driver_mutation {
            out.extend(then.into_iter().map(|(to, message)| Output::Send(to, message)));
            Vec::new()
        } else {
            then
        };
        self.pending.push_back(Pending { term, vote, keep, tail, then });
        out.push(Output::Sync);
    }

    /// The oldest sync is done.
    pub fn synced(&mut self, out: &mut Vec<Output>) {
        let Some(done) = self.pending.pop_front() else { return };
        (self.disk.term, self.disk.vote) = (done.term, done.vote);
        self.disk.log.truncate(done.keep);
        self.disk.log.extend(done.tail);
        // Only what is in the log as it is now, and was so at each step since.
        let floor = self.pending.iter().map(|p| p.keep).min().unwrap_or(usize::MAX);
        self.durable = self.disk.log.len().min(floor).min(self.log.len());
        out.extend(done.then.into_iter().map(|(to, message)| Output::Send(to, message)));
        if self.role == Role::Leader {
            self.advance(out);
        }
    }

    fn become_follower(&mut self, term: u64, out: &mut Vec<Output>) {
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

    fn rest(&mut self, now: Us, rng: &mut Rng) {
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
        self.stand(true, false, out);
    }

    fn stand(&mut self, pre: bool, forced: bool, out: &mut Vec<Output>) {
        self.role = Role::Candidate { pre };
        self.votes = BTreeSet::from([self.me]);
        let mut asks = Vec::new();
        let term = self.term + 1;
        if !pre {
            (self.term, self.vote) = (term, Some(self.me));
        }
        let last = self.last_id();
        for node in self.others() {
            asks.push((node, Message::Vote { term, last, pre, forced }));
        }
        if pre {
            out.extend(asks.into_iter().map(|(to, message)| Output::Send(to, message)));
        } else {
            self.persist(self.log.len(), asks, out);
        }
        self.count(out);
    }

    fn count(&mut self, out: &mut Vec<Output>) {
        let Role::Candidate { pre } = self.role else { return };
        if self.votes.len() < self.quorum() {
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
        self.append(None, out);
    }

    fn append(&mut self, batch: Option<Batch>, out: &mut Vec<Output>) -> usize {
        let keep = self.log.len();
        self.log.push(Rc::new(Entry { term: self.term, node: self.me, batch }));
        self.persist(keep, Vec::new(), out);
        self.replicate(out);
        self.log.len()
    }

    /// Proposes on the leader; the index that the entry gets.
    pub fn propose(&mut self, batch: Batch, out: &mut Vec<Output>) -> Option<(u64, usize)> {
        (self.role == Role::Leader).then(|| (self.term, self.append(Some(batch), out)))
    }

    /// Asks a quorum whether this node leads; [`Output::Confirmed`] brings the answer.
    pub fn confirm(&mut self, token: u64, out: &mut Vec<Output>) {
        if self.role != Role::Leader || self.term_at(self.commit) != self.term {
            out.push(Output::Confirmed(token, None));
            return;
        }
        self.round += 1;
        self.confirms.push((self.round, token, self.commit));
        self.replicate(out);
        self.settle_confirms(out);
    }

    /// The commit index without asking anybody: what a careless leader would promise by.
    pub fn unproven(&self) -> Option<usize> {
        (self.role == Role::Leader && self.term_at(self.commit) == self.term).then_some(self.commit)
    }

    /// Gives a proof up.
    pub fn forget_confirm(&mut self, token: u64) {
        self.confirms.retain(|(_, of, _)| *of != token);
    }

    fn settle_confirms(&mut self, out: &mut Vec<Output>) {
        let mut rounds: Vec<u64> = self.acked.values().copied().collect();
        rounds.push(self.round);
        rounds.resize(self.voters.len().max(rounds.len()), 0);
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let proven = rounds.get(self.quorum() - 1).copied().unwrap_or(0);
        let (done, open) = self.confirms.drain(..).partition(|(round, ..)| *round <= proven);
        self.confirms = open;
        let done: Vec<(u64, u64, usize)> = done;
        out.extend(done.into_iter().map(|(_, token, at)| Output::Confirmed(token, Some(at))));
    }

    fn replicate(&mut self, out: &mut Vec<Output>) {
        for node in self.others() {
            self.send_to(node, out);
        }
        self.advance(out);
    }

    fn send_to(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let next = self.next.get(&node).copied().unwrap_or(1).clamp(1, self.log.len() + 1);
        let entries = self.log[next - 1..].iter().take(64).cloned().collect();
        let prev = (self.term_at(next - 1), next - 1);
        let (term, commit, round) = (self.term, self.commit, self.round);
        out.push(Output::Send(node, Message::Append { term, prev, entries, commit, round }));
    }

    fn advance(&mut self, out: &mut Vec<Output>) {
        let mut at: Vec<usize> = self.matched.values().copied().collect();
        at.push(if self.driver_mutation { self.log.len() } else { self.durable });
        at.resize(self.voters.len().max(at.len()), 0);
        at.sort_unstable_by(|a, b| b.cmp(a));
        let by_quorum = at[self.quorum() - 1];
        if by_quorum > self.commit && self.term_at(by_quorum) == self.term {
            self.commit = by_quorum;
        }
        self.settle_confirms(out);
    }

    /// Hands the leadership to the node that is furthest along.
    pub fn transfer_leadership(&mut self, out: &mut Vec<Output>) {
        if self.role != Role::Leader {
            return;
        }
        let best = self.matched.iter().max_by_key(|(node, at)| (**at, **node)).map(|(n, _)| *n);
        if let Some(node) = best {
            out.push(Output::Send(node, Message::StandNow { term: self.term }));
        }
    }

    /// Takes a message.
    pub fn handle(
        &mut self,
        now: Us,
        from: NodeId,
        message: Message,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        match message {
            Message::Vote { term, last, pre, forced } => {
                self.handle_vote(now, from, (term, last, pre, forced), rng, out);
            }
            Message::Voted { term, granted, pre } => {
                if term > self.term && !pre {
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
            Message::Append { term, prev, entries, commit, round } => {
                self.handle_append(now, from, term, (prev, entries, commit, round), rng, out);
            }
            Message::Appended { term, matched, hint, round } => {
                if term > self.term {
                    self.become_follower(term, out);
                    self.persist(self.log.len(), Vec::new(), out);
                    return;
                }
                if self.role != Role::Leader || term != self.term {
                    return;
                }
                let acked = self.acked.entry(from).or_default();
                *acked = (*acked).max(round);
                match matched {
                    Some(at) => {
                        let known = self.matched.entry(from).or_default();
                        *known = (*known).max(at);
                        self.next.insert(from, *known + 1);
                        if hint == 0 && *known < self.log.len() {
                            self.send_to(from, out);
                        }
                    }
                    None => {
                        let known = self.matched.get(&from).copied().unwrap_or(0);
                        self.next.insert(from, hint.max(known + 1));
                        self.send_to(from, out);
                    }
                }
                self.advance(out);
            }
            Message::StandNow { term } => {
                if term == self.term && self.role != Role::Leader {
                    self.rest(now, rng);
                    self.stand(false, true, out);
                }
            }
        }
    }

    fn handle_vote(
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

    fn handle_append(
        &mut self,
        now: Us,
        from: NodeId,
        term: u64,
        (prev, entries, commit, round): ((u64, usize), Vec<Rc<Entry>>, usize, u64),
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        if term < self.term {
            let answer = Message::Appended { term: self.term, matched: None, hint: 0, round };
            out.push(Output::Send(from, answer));
            return;
        }
        let news = term > self.term;
        self.become_follower(term, out);
        (self.leader, self.heard) = (Some(from), now);
        self.rest(now, rng);
        if self.log.len() < prev.1 || self.term_at(prev.1) != prev.0 {
            let hint = self.log.len().min(prev.1.saturating_sub(1)).max(1);
            let answer = Message::Appended { term, matched: None, hint, round };
            if news {
                self.persist(self.log.len(), vec![(from, answer)], out);
            } else {
                out.push(Output::Send(from, answer));
            }
            return;
        }
        let matched = prev.1 + entries.len();
        let same = entries
            .iter()
            .enumerate()
            .take_while(|(n, entry)| {
                self.entry(prev.1 + 1 + n).is_some_and(|mine| mine.term == entry.term)
            })
            .count();
        let answer = Message::Appended { term, matched: Some(matched), hint: 0, round };
        if same < entries.len() {
            let keep = prev.1 + same;
            assert!(keep >= self.commit, "a committed entry would be overwritten");
            self.log.truncate(keep);
            self.log.extend(entries.into_iter().skip(same));
            self.persist(keep, vec![(from, answer)], out);
        } else if news || self.durable < matched {
            // What is acknowledged must be durable, also where it was appended before.
            self.persist(self.log.len(), vec![(from, answer)], out);
        } else {
            out.push(Output::Send(from, answer));
        }
        self.commit = self.commit.max(commit.min(matched));
    }
}
