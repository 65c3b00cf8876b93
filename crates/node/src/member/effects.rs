//! Carries out what the member asks for.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::lease::LeaseRefusal;
use fluxgate_engine::member::{
    APPLIED_WAIT_MS, CallId, ClockJump, Effect, LEASE_TIMEOUT_MS, LeaseAnswer, LeaseRequest,
    NotRenewed, SubmitError, Written,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{Actor, Command, Proposal};
use fluxgate_peer::{Call, CallError, process};
use fluxgate_raft::WriteHealth;
use fluxgate_store::codec::Kind;
use fluxgate_types::{LogIndex, NodeId};
use fluxgate_wire::Grown as _;
use fluxgate_wire::peer::{
    AppliedCall, AppliedReply, LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2, Writes,
};
use fluxgate_wire::raft::{ProposeReplyV1, ProposeV1};
use tracing::Instrument as _;

use super::why::Refused;
use super::{MemberDriver, locked};
use crate::error::NodeError;
use crate::proposal::proposal;
use crate::time;

/// Longest wait of the member for a lease, a proof or clocks.
const LEASE_TIMEOUT: Duration = Duration::from_millis(LEASE_TIMEOUT_MS);
/// How much longer than the peer itself this node waits for an applied entry there.
const APPLIED_GRACE: Duration = Duration::from_millis(500);
/// Longest time for one hand-over attempt, and for ending a change of the members.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(1_500);

impl MemberDriver {
    pub(super) fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::AnswerLease { request, answer } => {
                let waits = locked(&self.leases).remove(&request);
                waits.and_then(|waits| waits.send(answer).ok());
            }
            Effect::AnswerWrite { write, result } => {
                let waits = locked(&self.writes).remove(&write);
                waits.and_then(|waits| waits.answer.send(result).ok());
            }
            Effect::BarrierPassed { waited_ns, all_applied } => {
                self.parts.metrics.barrier(all_applied, Duration::from_nanos(waited_ns));
            }
            Effect::Renewed(result) => self.say_renewed(result),
            Effect::LeaseDropped(jump) => say_dropped(jump),
            Effect::Elected { term, previous } => self.say_elected(term, previous),
            Effect::CountOn(boot) => self.count_on_from(boot),
            Effect::End(why) => self.end_because(&why),
            Effect::HandOver { to: None } => tracing::error!(
                "this node leads and cannot write, for {}; no other voter says that it can",
                self.unable_because()
            ),
            call @ (Effect::SaveStart { .. }
            | Effect::RequestLease { .. }
            | Effect::ProveLeadership { .. }
            | Effect::AskClocks { .. }
            | Effect::Propose { .. }
            | Effect::EndChange
            | Effect::HandOver { to: Some(_) }
            | Effect::Submit { .. }
            | Effect::Forward { .. }
            | Effect::AskApplied { .. }) => {
                if let Some(driver) = self.this.upgrade() {
                    let span = self.span_of(&call);
                    let task = async move { driver.call_out(call).await };
                    self.spawn(task.instrument(span));
                }
            }
        }
    }

    /// Carries out an effect that takes time, and gives the answer to the member.
    async fn call_out(self: Arc<Self>, effect: Effect) {
        match effect {
            Effect::SaveStart { start, registered } => {
                let saved = self.save_start(registered).await;
                self.step(|m, at| m.handle_start_saved(start, registered, saved, at));
            }
            Effect::RequestLease { call, to, request } => {
                let answer = self.request_lease(to, request).await;
                self.step(|m, at| m.handle_lease_answer(call, answer, at));
            }
            Effect::ProveLeadership { call } => {
                let proof = self.parts.raft.confirm_leadership();
                let proof = tokio::time::timeout(LEASE_TIMEOUT, proof).await;
                let index = proof.ok().and_then(Result::ok);
                self.step(|m, at| m.handle_proof(call, index, at));
            }
            Effect::AskClocks { call, nodes, term, enough } => {
                let calls = &self.parts.calls;
                let heard = time::ask_clocks(calls, nodes, term, enough, LEASE_TIMEOUT).await;
                self.step(|m, at| m.handle_clocks(call, &heard, at));
            }
            Effect::Propose { call, command } => self.propose_own(call, *command).await,
            Effect::Submit { call, proposal, .. } => {
                let result = self.parts.raft.submit(*proposal).await;
                self.step(|m, at| m.handle_submitted(call, result, at));
            }
            Effect::Forward { call, to, proposal, timeout_ms, .. } => {
                let result = self.forward(to, *proposal, timeout_ms).await;
                self.step(|m, at| m.handle_forwarded(call, result, at));
            }
            Effect::AskApplied { peer, index } => {
                let applied = self.ask_applied(peer, index).await;
                self.step(|m, at| m.handle_applied_answer(peer, applied, at));
            }
            Effect::EndChange => self.end_change().await,
            Effect::HandOver { to: Some(to) } => self.hand_over_to(to).await,
            // These take no time: see `carry_out`.
            Effect::AnswerLease { .. }
            | Effect::AnswerWrite { .. }
            | Effect::BarrierPassed { .. }
            | Effect::Renewed(_)
            | Effect::LeaseDropped(_)
            | Effect::Elected { .. }
            | Effect::CountOn(_)
            | Effect::End(_)
            | Effect::HandOver { to: None } => {}
        }
    }

    async fn save_start(&self, registered: bool) -> bool {
        let start = Arc::clone(&self.parts.start);
        let save = move || if registered { start.note_registered() } else { start.note_asking() };
        let saved = process::on_disk(save).await.and_then(|saved| saved);
        if let Err(error) = &saved {
            tracing::warn!(%error, "this start was not saved to the disk");
        }
        saved.is_ok()
    }

    /// Requests a lease from another node, in the version that it speaks.
    async fn request_lease(&self, to: NodeId, request: LeaseRequest) -> LeaseAnswer {
        let LeaseRequest { start: StartId { boot, nonce }, dir_id, applied } = request;
        let first = LeaseCall { boot, dir_id, applied };
        let answer = if self.parts.heard.speaks_2(to) {
            self.parts.calls.ask_2(to, &LeaseCallV2 { first, nonce }, LEASE_TIMEOUT).await
        } else {
            let answer = self.parts.calls.transport.ask(to, &first, LEASE_TIMEOUT).await;
            answer.map(|answer| match answer {
                LeaseReply::Granted(grant) => LeaseReplyV2::Granted(grant),
                LeaseReply::NotLeader => LeaseReplyV2::NotLeader,
                LeaseReply::Refused(why) => LeaseReplyV2::Refused(LeaseRefusal::Other(why)),
            })
        };
        match answer {
            Ok(LeaseReplyV2::Granted(grant)) => LeaseAnswer::Granted(grant),
            Ok(LeaseReplyV2::NotLeader) => LeaseAnswer::NotLeader,
            Ok(LeaseReplyV2::Refused(why)) => LeaseAnswer::Refused(why),
            Err(error) => LeaseAnswer::NoAnswer(error.to_string()),
        }
    }

    async fn propose_own(&self, call: CallId, command: Command) {
        say_proposed(&command);
        let result = self.parts.raft.submit(proposal(Actor::System, None, command)).await;
        self.step(|m, at| m.handle_proposed(call, &result, at));
    }

    async fn forward(
        &self,
        leader: NodeId,
        proposal: Proposal,
        wait_ms: u64,
    ) -> Result<Written, SubmitError> {
        let left = Duration::from_millis(wait_ms);
        match self.propose_at(leader, &ProposeV1 { proposal, wait_ms }, left).await {
            Ok(ProposeReplyV1::Done { outcome, applied_on, waited_ms, .. }) => {
                Ok(Written { outcome: *outcome, applied_on, waited_ms })
            }
            Ok(ProposeReplyV1::NotLeader)
            | Err(CallError::Unreachable { .. } | CallError::Refused { .. }) => {
                Err(SubmitError::NotLeader)
            }
            Ok(ProposeReplyV1::Busy) => {
                let able =
                    self.parts.heard.more_of(leader).is_none_or(|more| more.writes == Writes::Fine);
                Err(if able { SubmitError::Busy } else { SubmitError::DiskFull })
            }
            Ok(ProposeReplyV1::Unknown)
            | Err(CallError::Timeout { .. } | CallError::Broken { .. }) => {
                Err(SubmitError::Unknown)
            }
        }
    }

    async fn propose_at(
        &self,
        leader: NodeId,
        question: &ProposeV1,
        left: Duration,
    ) -> Result<ProposeReplyV1, CallError> {
        let broken = |cause: String| CallError::Broken { node: leader, cause };
        let body = question.pack(Kind::PeerMessage).map_err(|error| broken(error.to_string()))?;
        let answer = self.parts.calls.transport.call(leader, Call::Propose, body, left).await?;
        let reply = ProposeReplyV1::unpack(Kind::PeerMessage, &answer);
        reply.map_err(|error| broken(error.to_string()))
    }

    async fn ask_applied(&self, peer: NodeId, index: LogIndex) -> Option<LogIndex> {
        let question = AppliedCall { index, wait_ms: APPLIED_WAIT_MS };
        let timeout = Duration::from_millis(APPLIED_WAIT_MS) + APPLIED_GRACE;
        let answer = self.parts.calls.transport.ask(peer, &question, timeout).await;
        answer.ok().map(|AppliedReply { applied }| applied)
    }

    async fn end_change(&self) {
        match tokio::time::timeout(HAND_OVER_TIMEOUT, self.parts.raft.end_change()).await {
            Ok(Ok(())) => tracing::warn!("a change of the members that was stuck was ended"),
            Ok(Err(error)) => tracing::warn!(%error, "a change of the members is stuck"),
            Err(_) => tracing::warn!("a change of the members is stuck"),
        }
    }

    async fn hand_over_to(&self, to: NodeId) {
        tracing::error!(
            to = to.0,
            "this node leads and cannot write, for {}: it hands over",
            self.unable_because()
        );
        if let Err(error) = self.parts.raft.transfer_leadership(Some(to), HAND_OVER_TIMEOUT).await {
            tracing::warn!(%error, "the leadership was not handed over");
        }
    }

    fn unable_because(&self) -> &'static str {
        match self.parts.raft.write_health() {
            WriteHealth::DiskFull => "its disk is full",
            WriteHealth::Stalled => "its disk does not confirm writes",
            WriteHealth::Fine => "its state differs from that of the other nodes",
        }
    }

    fn end_because(&self, why: &LeaseRefusal) {
        match why {
            LeaseRefusal::Older { newest, .. } => {
                self.parts
                    .lifecycle
                    .end(NodeError::OlderDirectory { node: self.parts.raft.me(), newest: *newest });
            }
            LeaseRefusal::OtherDirectory(_)
            | LeaseRefusal::Behind
            | LeaseRefusal::Removed(_)
            | LeaseRefusal::CountOn { .. }
            | LeaseRefusal::Differs
            | LeaseRefusal::Other(_) => {
                self.parts.lifecycle.end(NodeError::OtherDirectory(self.parts.raft.me()))
            }
        }
    }

    fn say_renewed(&self, result: Result<(), NotRenewed>) {
        if result.as_ref().map_or_else(NotRenewed::was_asked, |()| true) {
            self.parts.metrics.renewed(if result.is_ok() { "granted" } else { "failed" });
        }
        let error = result.err().map(|why| {
            if let NotRenewed::ClocksDiffer(differ) = &why {
                return time::in_words(differ);
            }
            why.to_string()
        });
        let refused = error.map(|error| Refused::of(self.reason(), error));
        locked(&self.why).tell(refused);
    }

    fn say_elected(&self, term: u64, previous: Option<NodeId>) {
        self.parts.metrics.elected(self.parts.raft.was_handed());
        match previous {
            Some(node) => tracing::info!(term, previous = node.0, "this node leads the cluster"),
            None => tracing::info!(term, "this node leads the cluster"),
        }
    }
}

fn say_dropped(jump: ClockJump) {
    match jump {
        ClockJump::Wall(ns) => tracing::warn!(
            jump_ms = ns / 1_000_000,
            "this machine's wall clock jumped: the lease is dropped until it is renewed"
        ),
        ClockJump::StoodStill(ns) => tracing::warn!(
            ahead_ms = ns / 1_000_000,
            "cluster time ran on while this machine's clock did not: the lease was dropped"
        ),
    }
}

fn say_proposed(command: &Command) {
    if let Command::SetLevel { level } = command {
        tracing::info!(level, "every member knows the rules of this level: they apply");
    } else if let Command::SetTerms { terms } = command {
        tracing::info!(
            lease_ms = terms.lease_ms,
            clock_error_ms = terms.clock_error_ms_max,
            "setting the lease terms of the cluster"
        );
    } else if let Command::SetDefaults { .. } = command {
        tracing::info!("setting the default limits of the cluster");
    } else if let Command::SetShareMap { map, .. } = command {
        let ids: Vec<u64> = map.nodes.iter().map(|(id, _)| id.0).collect();
        tracing::info!(nodes = ?ids, from = %map.from, "redistributing budgets");
    }
}
