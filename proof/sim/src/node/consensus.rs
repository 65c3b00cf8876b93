//! The node's part in consensus: proposals, commitment, and the entries that it applies.

use fluxgate_engine::member::{self, LEASE_TIMEOUT_MS, SeenLeadership};
use fluxgate_engine::state::command::{Applied, Batch, Outcome, Proposal};
use fluxgate_types::{LogIndex, NodeId};

use super::Node;
use super::calls::Call;
use super::step::{Action, Step};
use crate::messages::{CallId, Message, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::raft::{self, Members};
use fluxgate_plan::MS;

/// The call of the member that waits for an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProposalWaiter {
    /// A command of the cluster's own.
    Own(member::CallId),
    /// A client's change.
    Client(member::CallId),
}

impl Node {
    /// Proposes here, where this node leads.
    pub(super) fn propose(
        &mut self,
        proposal: Proposal,
        waiter: ProposalWaiter,
        step: &mut Step<'_>,
    ) {
        if !self.machine.has_room(step.now) {
            return self.proposed(waiter, Err(member::SubmitError::DiskFull), step);
        }
        let batch = Batch { at: self.cluster_now(step.now), proposals: vec![proposal] };
        let mut out = Vec::new();
        match self.raft.propose(batch, &mut out) {
            Some((term, index)) => self.proposals.push((index, term, waiter)),
            None => self.proposed(waiter, Err(member::SubmitError::NotLeader), step),
        }
        self.consent(out, step);
    }

    /// Proposes a client's change. The thread that does it may be held up, and the leadership have
    /// changed meanwhile.
    pub(super) fn submit(&mut self, call: member::CallId, proposal: Proposal, step: &mut Step<'_>) {
        let late = if step.faulty { step.plan.late_permille } else { 0 };
        if late == 0 || !step.rng.permille(late) {
            return self.propose(proposal, ProposalWaiter::Client(call), step);
        }
        self.held_up.insert(call, proposal);
        let after = step.rng.below(LEASE_TIMEOUT_MS * MS);
        step.wake(after, Timer::Submit(call));
    }

    /// The thread continues that was to propose a client's change.
    pub(super) fn submit_held_up(&mut self, call: member::CallId, step: &mut Step<'_>) {
        if let Some(proposal) = self.held_up.remove(&call) {
            self.propose(proposal, ProposalWaiter::Client(call), step);
        }
    }

    fn proposed(
        &mut self,
        waiter: ProposalWaiter,
        result: Result<member::Submitted, member::SubmitError>,
        step: &mut Step<'_>,
    ) {
        match waiter {
            ProposalWaiter::Own(call) => {
                self.act(step, |member, at| member.handle_proposed(call, &result, at));
            }
            ProposalWaiter::Client(call) => {
                self.act(step, |member, at| member.handle_submitted(call, result, at));
            }
        }
    }

    /// Carries out what consensus wants, and applies what is committed.
    pub(super) fn consent(&mut self, outputs: Vec<raft::Output>, step: &mut Step<'_>) {
        for output in outputs {
            match output {
                raft::Output::Send(to, message) => step.send(to, Message::Raft(message)),
                raft::Output::Sync => step.wake(self.machine.sync, Timer::Synced),
                raft::Output::Confirmed(number, at) => {
                    let at = at.map(|index| LogIndex(index as u64));
                    // A leader's own lease may be shorter than a thread is held up: that ends with
                    // the other faults.
                    let torn = if step.faulty { step.plan.torn_permille } else { 0 };
                    match at {
                        // The thread that waits for the proof is held up, less than it takes a
                        // leader to lose its own lease: that would be a fault of its own.
                        Some(at) if torn > 0 && step.rng.permille(torn) => {
                            let own_ms = step.plan.terms.own_holder_ms();
                            let after = step.rng.below(LEASE_TIMEOUT_MS.min(own_ms) * MS / 2);
                            step.wake(after, Timer::Proven(number, at));
                        }
                        _ => self.proven(number, at, step),
                    }
                }
            }
        }
        if self.members_at != self.raft.members_at() {
            self.note_members(step);
        }
        let applied = self.apply(step);
        self.watch_raft(step);
        if applied || self.led_by != self.raft.leader() {
            self.led_by = self.raft.leader();
            self.member_timeout(step);
        }
    }

    pub(super) fn proven(&mut self, number: CallId, at: Option<LogIndex>, step: &mut Step<'_>) {
        if let Some(Call::Proof(call)) = self.calls.remove(&number) {
            self.act(step, |member, step| member.handle_proof(call, at, step));
        }
    }

    pub(super) fn watch_raft(&mut self, step: &mut Step<'_>) {
        if !self.takes_part() {
            return;
        }
        let wake = self.raft.wake.max(step.now);
        if self.raft_wake != wake {
            self.raft_wake = wake;
            step.out.push(Action::At(wake, Timer::Raft));
        }
    }

    /// Applies what is committed; returns whether there was any.
    fn apply(&mut self, step: &mut Step<'_>) -> bool {
        let before = self.applied;
        while self.applied < self.raft.committed() {
            let index = self.applied + 1;
            let Some(entry) = self.raft.entry(index).cloned() else { break };
            let skipped =
                step.is(DriverMutation::ApplySkips) && self.id.0 == 2 && index.is_multiple_of(7);
            let applied = entry
                .batch
                .as_ref()
                .filter(|_| !skipped)
                .map(|batch| self.registry.apply(entry.term, LogIndex(index as u64), batch));
            if self.leaderships.0.is_none_or(|o| (o.term, o.node) != (entry.term, entry.node)) {
                self.leaderships.1 = self.leaderships.0;
                let since = self.boot_now(step.now);
                let seen = SeenLeadership { term: entry.term, node: entry.node, since };
                self.leaderships.0 = Some(seen);
            }
            self.applied = index;
            step.see(Seen::AppliedEntry(LogIndex(index as u64)));
            self.handle_applied(index, entry.term, applied.as_ref(), step);
        }
        self.applied > before
    }

    /// Entry `index` is applied here: answers those that wait for it.
    fn handle_applied(
        &mut self,
        index: usize,
        term: u64,
        applied: Option<&Applied>,
        step: &mut Step<'_>,
    ) {
        let at = LogIndex(index as u64);
        let due: Vec<_> = self.proposals.extract_if(.., |(of, ..)| *of <= index).collect();
        for (_, proposed_in, waiter) in due {
            let outcome: Option<Outcome> = applied
                .filter(|_| proposed_in == term)
                .and_then(|applied| applied.outcomes.first().cloned());
            let submitted = |outcome| member::Submitted { term, index: at, outcome };
            let result = outcome.map(submitted).ok_or(member::SubmitError::Unknown);
            self.proposed(waiter, result, step);
        }
        for (node, call, _) in self.applied_waits.extract_if(.., |(_, _, wanted)| *wanted <= at) {
            step.send(node, Message::AppliedAt(call, at));
        }
    }

    /// Begins a change of the members, if this node leads and no other one is under way.
    pub fn change_members(&mut self, members: Members, step: &mut Step<'_>) {
        let mut out = Vec::new();
        self.raft.change_members(members, &mut out);
        self.consent(out, step);
    }

    /// Hands the leadership to the node that is furthest along.
    pub fn transfer_leadership(&mut self, step: &mut Step<'_>) {
        self.hand_over(None, step);
    }

    /// Hands the leadership to this node, or to the one that is furthest along.
    pub(super) fn hand_over(&mut self, to: Option<NodeId>, step: &mut Step<'_>) {
        let mut out = Vec::new();
        self.raft.transfer_leadership(to, &mut out);
        self.consent(out, step);
    }
}
