//! A step of consensus, what it wants done, and the entries that it commits.

use fluxgate_engine::member::{self, Member, SubmitError, Submitted};
use fluxgate_engine::state::command::{Batch, Proposal};
use fluxgate_types::{LogIndex, NodeId};

use super::Node;
use crate::calls::Waiter;
use crate::machine::Threads;
use crate::messages::{Answer, CallId, Message, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::raft::{Members, Output, Proposer, Raft};
use crate::step::Step;

impl Node {
    /// A step of consensus; then what is committed is applied.
    pub(super) fn consent<R>(
        &mut self,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Raft, &mut Step<'_>, &mut Vec<Output>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let result = act(&mut self.replica.raft, step, &mut out);
        self.replica.note_voted(self.boot_now(step.now));
        self.carry_out_consensus(out, step);
        result
    }

    fn carry_out_consensus(&mut self, outputs: Vec<Output>, step: &mut Step<'_>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => step.send(to, Message::Raft(message)),
                Output::Sync => step.wake(self.machine.sync, Timer::Synced),
                Output::Confirmed(call, at) => {
                    let at = at.map(|index| LogIndex(index as u64));
                    let late = at.and_then(|at| Some((at, Threads::proof_is_late(step)?)));
                    match late {
                        Some((at, after)) => step.wake(after, Timer::Proven(call, at)),
                        None => self.proven(call, at, step),
                    }
                }
            }
        }
        if self.replica.has_new_members() {
            self.note_members(step);
        }
        let has_applied = self.apply(step);
        self.watch_raft(step);
        let has_new_leader = self.replica.has_new_leader();
        if has_applied || has_new_leader {
            self.act(step, Member::handle_timeout);
        }
    }

    pub(super) fn watch_raft(&mut self, step: &mut Step<'_>) {
        let wake = self.takes_part().then(|| self.replica.new_wake(step.now));
        if let Some(at) = wake.flatten() {
            step.wake_at(at, Timer::Raft);
        }
    }

    /// Applies what is committed; returns whether there was any.
    fn apply(&mut self, step: &mut Step<'_>) -> bool {
        let (before, now) = (self.replica.applied, self.boot_now(step.now));
        let skips = step.is(DriverMutation::ApplySkips) && self.id.0 == 2;
        let skips = |index: usize| skips && index.is_multiple_of(7);
        while let Some(entry) = self.replica.apply_next(now, skips) {
            step.see(Seen::AppliedEntry(entry.index));
            for (proposer, result) in self.replica.settle(&entry) {
                self.proposed(proposer, result, step);
            }
            for (node, call) in self.replica.end_waits(entry.index) {
                step.send(node, Message::Answer(call, Answer::Applied(entry.index)));
            }
        }
        self.replica.applied > before
    }

    /// Proposes here, where this node leads.
    pub(super) fn propose(&mut self, proposal: Proposal, proposer: Proposer, step: &mut Step<'_>) {
        if !self.machine.has_room(step.now) {
            return self.proposed(proposer, Err(SubmitError::DiskFull), step);
        }
        let batch = Batch { at: self.cluster_now(step.now), proposals: vec![proposal] };
        let mut out = Vec::new();
        if let Err(error) = self.replica.propose(batch, proposer, &mut out) {
            self.proposed(proposer, Err(error), step);
        }
        self.carry_out_consensus(out, step);
    }

    /// Proposes a client's change, unless the thread that does it is held up.
    pub(super) fn submit(&mut self, call: member::CallId, proposal: Proposal, step: &mut Step<'_>) {
        if let Some(proposal) = self.threads.take_change(call, proposal, step) {
            self.propose(proposal, Proposer::Client(call), step);
        }
    }

    /// The thread continues that was to propose a client's change.
    pub(super) fn submit_late(&mut self, call: member::CallId, step: &mut Step<'_>) {
        if let Some(proposal) = self.threads.late_change(call) {
            self.propose(proposal, Proposer::Client(call), step);
        }
    }

    fn proposed(
        &mut self,
        proposer: Proposer,
        result: Result<Submitted, SubmitError>,
        step: &mut Step<'_>,
    ) {
        self.act(step, |member, at| match proposer {
            Proposer::Own(call) => member.handle_proposed(call, &result, at),
            Proposer::Client(call) => member.handle_submitted(call, result, at),
        });
    }

    /// A round to a quorum is over, or the thread continues that waited for it.
    pub(super) fn proven(&mut self, call: CallId, at: Option<LogIndex>, step: &mut Step<'_>) {
        if let Some((Waiter::Proof(call), _)) = self.calls.close(call) {
            self.act(step, |member, step| member.handle_proof(call, at, step));
        }
    }

    /// Begins a change of the members, if this node leads and no other one is under way.
    pub fn change_members(&mut self, members: Members, step: &mut Step<'_>) {
        self.consent(step, |raft, _, out| raft.change_members(members, out));
    }

    /// Hands the leadership to this node, or to the one that is furthest along.
    pub fn hand_over(&mut self, to: Option<NodeId>, step: &mut Step<'_>) {
        self.consent(step, |raft, _, out| raft.transfer_leadership(to, out));
    }
}
