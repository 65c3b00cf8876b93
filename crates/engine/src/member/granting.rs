//! Requests for leases, as a leader answers them.
//!
//! Answers for: only the registered start of a member's one directory gets a lease; leadership is
//! proven AFTER the request arrived; everything up to the proven commit index is applied BEFORE the
//! lease terms are read; and cluster time is read BEFORE the proof.

use std::collections::BTreeMap;

use fluxgate_types::{LogIndex, NodeId};

use super::Member;
use super::effect::{CallId, Effect, LeaseAnswer, LeaseRequest, SubmitError, Submitted};
use super::step::Step;
use crate::fault::Mutation;
use crate::lease::{LeaseRefusal, StartStanding, standing_of};
use crate::state::command::{Command, Outcome};

/// The one that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requester {
    /// This node itself, by the call of its renewal.
    Own(CallId),
    /// Another node, by the call that its driver knows.
    Peer(CallId),
}

/// Requests that are under way: at most one for each node, the newest.
#[derive(Debug, Default)]
pub(super) struct Granting {
    pending: BTreeMap<CallId, Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    requester: Requester,
    node: NodeId,
    request: LeaseRequest,
    term: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Its start is being registered.
    Registering,
    /// A quorum is asked. Cluster time before it was, nanoseconds.
    Proving { cluster_ns: u64 },
    /// Proven; the state must be applied up to the index.
    Applying { cluster_ns: u64, read_index: LogIndex },
}

impl Granting {
    /// The request of this node itself was given up.
    pub(super) fn forget(&mut self, own: CallId) {
        self.pending.retain(|_, pending| pending.requester != Requester::Own(own));
    }
}

impl Member {
    /// A node asks for a lease. The answer comes as [`Effect::AnswerLease`] with this `request`.
    pub fn handle_lease_request(
        &mut self,
        from: NodeId,
        asks: LeaseRequest,
        request: CallId,
        step: &mut Step<'_>,
    ) {
        self.begin_grant(Requester::Peer(request), from, asks, step);
    }

    pub(super) fn begin_grant(
        &mut self,
        requester: Requester,
        node: NodeId,
        request: LeaseRequest,
        step: &mut Step<'_>,
    ) {
        // The node has given its earlier request up.
        let older = self.granting.pending.extract_if(.., |_, pending| pending.node == node);
        let older: Vec<Pending> = older.map(|(_, pending)| pending).collect();
        for pending in older {
            self.answer(pending.requester, LeaseAnswer::NotLeader, step);
        }
        let Some(term) = self.leading_in(step) else {
            return self.answer(requester, LeaseAnswer::NotLeader, step);
        };
        if step.around.own().differs {
            return self.answer(requester, LeaseAnswer::Refused(LeaseRefusal::Differs), step);
        }
        let (view, cluster) = (step.around.shared().view(), step.around.shared().cluster());
        let LeaseRequest { start, dir_id, .. } = request;
        let stage = Stage::Registering;
        let pending = Pending { requester, node, request, term, stage };
        let is_member = || step.around.members().iter().any(|member| member.node == node);
        match standing_of(&view, &cluster, node, dir_id, start) {
            StartStanding::Rejected(refusal) => {
                self.answer(requester, LeaseAnswer::Refused(refusal), step);
            }
            // Neither a lease nor a registration before it is a member: a node that was removed could
            // otherwise come back between the operator's `remove` and `add`, unseen by consensus.
            StartStanding::Registered | StartStanding::Unknown
                if node != self.me && !is_member() =>
            {
                let why = format!("node {node} is no member of the cluster");
                let refusal = LeaseRefusal::Other(why);
                self.answer(requester, LeaseAnswer::Refused(refusal), step);
            }
            StartStanding::Registered => self.prove(pending, step),
            StartStanding::Unknown => {
                let command = if cluster.level < 2 {
                    Command::RegisterNode { node, dir_id }
                } else {
                    Command::RegisterStart { node, dir_id, start_id: start }
                };
                let call = self.next_call();
                self.granting.pending.insert(call, pending);
                step.push(Effect::Propose { call, command: Box::new(command) });
            }
        }
    }

    /// The registration of a start has an outcome; false if this call was none.
    pub(super) fn handle_registered(
        &mut self,
        call: CallId,
        result: &Result<Submitted, SubmitError>,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(pending) = self.granting.pending.remove(&call) else { return false };
        match result.as_ref().map(|submitted| &submitted.outcome) {
            Ok(Outcome::Done | Outcome::Key(_) | Outcome::Put(_) | Outcome::Named(_)) => {
                self.prove(pending, step)
            }
            Ok(Outcome::Refused(error)) => {
                let view = step.around.shared().view();
                let removed = view.nodes.get(&pending.node).is_some_and(|known| known.removed);
                let refusal = LeaseRefusal::of_command(error.clone(), removed);
                self.answer(pending.requester, LeaseAnswer::Refused(refusal), step);
            }
            Err(_) => self.answer(pending.requester, LeaseAnswer::NotLeader, step),
        }
        true
    }

    fn prove(&mut self, pending: Pending, step: &mut Step<'_>) {
        // Read BEFORE the proof: a pause in between must not promise more than was proven.
        let cluster_ns = self.clock.now_ns(step.now());
        if Mutation::GrantWithoutProof.active() {
            let read_index = step.around.applied();
            return self.grant(pending, read_index, cluster_ns, step);
        }
        let call = self.next_call();
        let stage = Stage::Proving { cluster_ns };
        self.granting.pending.insert(call, Pending { stage, ..pending });
        step.push(Effect::ProveLeadership { call });
    }

    /// A quorum has confirmed that this node leads, and that everything committed before the round
    /// is at most at `read_index`; `None` if it has not.
    pub fn handle_proof(
        &mut self,
        call: CallId,
        read_index: Option<LogIndex>,
        step: &mut Step<'_>,
    ) {
        let Some(pending) = self.granting.pending.get_mut(&call) else { return };
        let Stage::Proving { cluster_ns } = pending.stage else { return };
        match read_index {
            Some(read_index) => {
                pending.stage = Stage::Applying { cluster_ns, read_index };
                self.grant_applied(step);
            }
            None => {
                let requester = pending.requester;
                self.granting.pending.remove(&call);
                self.answer(requester, LeaseAnswer::NotLeader, step);
            }
        }
    }

    /// Grants what waited for entries that are applied by now.
    pub(super) fn grant_applied(&mut self, step: &mut Step<'_>) {
        let applied = step.around.applied();
        let is_due = |pending: &Pending| match pending.stage {
            Stage::Applying { read_index, .. } => read_index <= applied,
            Stage::Registering | Stage::Proving { .. } => false,
        };
        let due: Vec<Pending> = self
            .granting
            .pending
            .extract_if(.., |_, pending| is_due(pending))
            .map(|(_, pending)| pending)
            .collect();
        for pending in due {
            if let Stage::Applying { cluster_ns, read_index } = pending.stage {
                self.grant(pending, read_index, cluster_ns, step);
            }
        }
    }

    fn grant(
        &mut self,
        pending: Pending,
        read_index: LogIndex,
        cluster_ns: u64,
        step: &mut Step<'_>,
    ) {
        let Pending { requester, node, request, term, .. } = pending;
        let now = step.now();
        // Everything up to the read index is applied BEFORE the terms are read: a change of the
        // terms that was committed before the proof counts for this grant (`lease/terms`).
        let terms = self.lease_terms(step);
        let me = self.me;
        // This node may have been deposed, and even elected again, while the quorum answered.
        let leads = self.leading_in(step) == Some(term);
        let answer = match self.leadership.granter_of(term).filter(|_| leads) {
            None => LeaseAnswer::NotLeader,
            Some(granter) => {
                granter.set_terms(terms.in_force, terms.cautious);
                if node != me && granter.lags(now, node, request.applied) {
                    LeaseAnswer::Refused(LeaseRefusal::Behind)
                } else {
                    let grant = granter.grant(now, node, request.applied, read_index, cluster_ns);
                    LeaseAnswer::Granted(grant)
                }
            }
        };
        self.answer(requester, answer, step);
        // A grant says how far the node has applied.
        self.look_at_barriers(step);
    }

    fn answer(&mut self, requester: Requester, answer: LeaseAnswer, step: &mut Step<'_>) {
        match requester {
            Requester::Own(call) => self.handle_own_answer(call, answer, step),
            Requester::Peer(request) => step.push(Effect::AnswerLease { request, answer }),
        }
    }
}
