//! A small Raft: a faithful stand-in for the real one, deterministic and cheap.
//!
//! Answers for: terms, durable votes, pre-vote, replication with the log-matching check, commitment
//! of a leader's own term only, proofs of leadership by a round of heartbeats (ReadIndex), and
//! hand-over, and changes of members by one node at a time (Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014). What is acknowledged is on the disk before; a crash loses what was not synced.
//! Snapshots, and changes of members in two steps, are left to the tests of whole clusters, with the
//! real openraft.

mod election;
mod members;
mod messages;
mod replica;
mod replication;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use fluxgate_engine::state::command::Batch;
use fluxgate_types::NodeId;

use fluxgate_plan::Rng;
use fluxgate_plan::Us;

pub use members::Members;
pub use messages::Message;
pub use replica::{AppliedEntry, Proposer, Replica};

/// A log entry.
#[derive(Debug)]
pub struct Entry {
    /// The term it was written in.
    pub term: u64,
    /// The leader that wrote it.
    pub node: NodeId,
    /// The commands; none in the first entry of a term.
    pub batch: Option<Batch>,
    /// The members from this entry on, if it changes them.
    pub members: Option<Members>,
}

/// The state on the disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    term: u64,
    vote: Option<NodeId>,
    log: Vec<Rc<Entry>>,
}

/// One thing that the driver must do.
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
    // Those of the newest entry that sets them, and its place; they count before it is committed.
    members: (Members, usize),
    // This process formed the cluster.
    formed_here: bool,
    disk: Disk,
    /// The disk takes new entries.
    pub has_room: bool,
    // The disk had no room for committed entries.
    lacks_entries: bool,
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
    pub fn new(me: NodeId, disk: Disk, heartbeat: Us) -> Self {
        let election = (3 * heartbeat, 6 * heartbeat);
        let mut raft = Self {
            me,
            members: (Members::default(), 0),
            formed_here: false,
            has_room: true,
            lacks_entries: false,
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
            wake: Us::MAX,
        };
        raft.find_members();
        raft
    }

    /// From now on it answers calls and may become a candidate.
    pub fn begin(&mut self, now: Us, rng: &mut Rng) {
        self.rest(now, rng);
    }

    /// The state that a crash leaves.
    pub fn crash(self) -> Disk {
        self.disk
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The term in which this node leads.
    pub fn leads_in(&self) -> Option<u64> {
        (self.role == Role::Leader).then_some(self.term)
    }

    /// The newest term that it knows.
    #[must_use]
    pub fn newest_term(&self) -> u64 {
        self.term
    }

    /// Whether the newest message with entries had committed ones, and the disk had no room for them.
    pub fn lacks_entries(&self) -> bool {
        self.lacks_entries
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

    /// The clock of elections stood still for this long.
    pub fn stand_still(&mut self, span: Us) {
        (self.wake, self.heard) = (self.wake.saturating_add(span), self.heard + span);
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
                self.handle_voted(from, (term, granted, pre), out);
            }
            Message::Append { term, prev, entries, commit, round } => {
                self.handle_append(now, from, term, (prev, entries, commit, round), rng, out);
            }
            Message::Appended { term, matched, hint, round } => {
                self.handle_appended(from, (term, matched, hint, round), out);
            }
            Message::StandNow { term } => self.handle_stand_now(now, term, rng, out),
        }
    }
}
