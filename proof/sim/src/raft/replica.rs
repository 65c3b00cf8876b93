//! A node's replica of the state: entries that are proposed and applied. A stand-in for
//! `crates/raft`.

use std::sync::Arc;

use fluxgate_engine::lease::{Contacts, LeaderId};
use fluxgate_engine::member::{self, SeenLeadership, SubmitError, Submitted};
use fluxgate_engine::state::command::{Applied, Batch, Outcome};
use fluxgate_engine::state::{Registry, Shared};
use fluxgate_types::{BootNs, LogIndex, NodeId};

use super::{Message, Output, Raft};
use crate::messages::CallId;
use fluxgate_plan::Us;

/// The call of the member that waits for an entry.
#[derive(Clone, Copy, Debug)]
pub enum Proposer {
    /// A command of the cluster's own.
    Own(member::CallId),
    /// A client's change.
    Client(member::CallId),
}

/// Consensus, and the state that its entries make.
pub struct Replica {
    /// The node's part in consensus.
    pub raft: Raft,
    /// The replicated state.
    pub registry: Registry,
    /// The part of it that others read.
    pub shared: Arc<Shared>,
    /// The contacts with leaders.
    pub contacts: Contacts,
    /// Entries applied.
    pub applied: usize,
    /// The leaders of the newest entries of two terms, newest first.
    pub leaderships: (Option<SeenLeadership>, Option<SeenLeadership>),
    // By the place and the term of the entry.
    proposals: Vec<(usize, u64, Proposer)>,
    applied_waits: Vec<(NodeId, CallId, LogIndex)>,
    // What its node last learned: when consensus wakes it, who leads, and which entry set the members.
    wake: Us,
    leader: Option<NodeId>,
    members_at: usize,
}

/// An entry that was just applied.
pub struct AppliedEntry {
    /// Its place.
    pub index: LogIndex,
    term: u64,
    applied: Option<Applied>,
}

impl Replica {
    /// Begins with the log of a disk.
    #[must_use]
    pub fn new(raft: Raft, now: BootNs) -> Self {
        let contacts = Contacts::new(raft.me, raft.voted(), now);
        let registry = Registry::default();
        Self {
            raft,
            shared: registry.shared(),
            registry,
            contacts,
            applied: 0,
            leaderships: (None, None),
            proposals: Vec::new(),
            applied_waits: Vec::new(),
            wake: 0,
            leader: None,
            members_at: 0,
        }
    }

    /// A message has come. Call BEFORE consensus sees it.
    pub fn note_contact(&mut self, from: NodeId, message: &Message, now: BootNs) {
        if let Message::Append { term, .. } = message {
            self.contacts.handle_message(LeaderId { term: *term, node: from }, now);
        }
    }

    /// The vote on the disk, or what it led to, may have changed.
    pub fn note_voted(&mut self, now: BootNs) {
        self.contacts.handle_voted(self.raft.voted(), now);
    }

    /// Proposes where this node leads.
    ///
    /// # Errors
    /// [`SubmitError::NotLeader`] if it does not.
    pub fn propose(
        &mut self,
        batch: Batch,
        proposer: Proposer,
        out: &mut Vec<Output>,
    ) -> Result<(), SubmitError> {
        let (term, index) = self.raft.propose(batch, out).ok_or(SubmitError::NotLeader)?;
        self.proposals.push((index, term, proposer));
        Ok(())
    }

    /// Applies the next committed entry, if there is one; `skips` leaves its commands out.
    pub fn apply_next(
        &mut self,
        now: BootNs,
        skips: impl Fn(usize) -> bool,
    ) -> Option<AppliedEntry> {
        let place = self.applied + 1;
        if place > self.raft.committed() {
            return None;
        }
        let entry = self.raft.entry(place)?;
        let (index, term, node) = (LogIndex(place as u64), entry.term, entry.node);
        let batch = entry.batch.as_ref().filter(|_| !skips(place));
        let applied = batch.map(|batch| self.registry.apply(term, index, batch));
        if self.leaderships.0.is_none_or(|seen| (seen.term, seen.node) != (term, node)) {
            let seen = SeenLeadership { term, node, since: now };
            self.leaderships = (Some(seen), self.leaderships.0);
        }
        self.applied = place;
        Some(AppliedEntry { index, term, applied })
    }

    /// The proposals that an entry ends, with their results.
    pub fn settle(
        &mut self,
        entry: &AppliedEntry,
    ) -> Vec<(Proposer, Result<Submitted, SubmitError>)> {
        let AppliedEntry { index, term, .. } = *entry;
        let due = self.proposals.extract_if(.., |(of, ..)| *of as u64 <= index.0);
        due.map(|(_, proposed_in, proposer)| {
            let applied = entry.applied.as_ref().filter(|_| proposed_in == term);
            let outcome: Option<Outcome> = applied.and_then(|all| all.outcomes.first().cloned());
            let submitted = |outcome| Submitted { term, index, outcome };
            (proposer, outcome.map(submitted).ok_or(SubmitError::Unknown))
        })
        .collect()
    }

    /// Answers a call at once if the entry is applied; otherwise it waits, and replaces an earlier one
    /// of its node.
    pub fn wait_applied(
        &mut self,
        from: NodeId,
        call: CallId,
        index: LogIndex,
    ) -> Option<LogIndex> {
        let at = LogIndex(self.applied as u64);
        self.applied_waits.retain(|(node, ..)| *node != from);
        if at < index {
            self.applied_waits.push((from, call, index));
        }
        (at >= index).then_some(at)
    }

    /// The calls that waited for an entry up to this one.
    pub fn end_waits(&mut self, at: LogIndex) -> Vec<(NodeId, CallId)> {
        let due = self.applied_waits.extract_if(.., |(_, _, wanted)| *wanted <= at);
        due.map(|(node, call, _)| (node, call)).collect()
    }

    /// When consensus is to be woken, if that is not what the node last learned.
    pub fn new_wake(&mut self, now: Us) -> Option<Us> {
        let wake = self.raft.wake.max(now);
        (std::mem::replace(&mut self.wake, wake) != wake).then_some(wake)
    }

    /// Whether another node leads than the node last learned.
    pub fn has_new_leader(&mut self) -> bool {
        let leader = self.raft.leader();
        std::mem::replace(&mut self.leader, leader) != leader
    }

    /// Whether other members are set than the node last learned.
    pub fn has_new_members(&mut self) -> bool {
        let at = self.raft.members_at();
        std::mem::replace(&mut self.members_at, at) != at
    }
}
