//! Messages between nodes: calls that wait for an answer, and how the caller takes an answer, a
//! refusal or a timeout.

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::clock::signed_difference;
use fluxgate_engine::clock::sync::ClockAnswer;
use fluxgate_engine::join::Heard;
use fluxgate_engine::member::{self, ClocksHeard, LEASE_TIMEOUT_MS, LeaseAnswer, SubmitError};
use fluxgate_engine::quota::Sender;
use fluxgate_engine::stop::HandedOff;
use fluxgate_types::{BootNs, NodeId};

use super::requests::WriteWaiter;
use super::{Node, Step};
use crate::messages::{CallId, Message, MessageHeader, PeerSaid, Timer};
use fluxgate_plan::MS;

/// A call to another node, with the call of the member that waits for its answer.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// A request for a lease.
    Lease(member::CallId),
    /// A round to a quorum.
    Proof(member::CallId),
    /// The clocks of other nodes: those that have not answered, what suffices, and the answers so far.
    Clocks { call: member::CallId, missing: Vec<NodeId>, enough: Option<usize>, heard: ClocksHeard },
    /// A change that was forwarded to the leader.
    Forward(member::CallId),
    /// How far a peer has applied.
    Applied(NodeId),
    /// Transfer requests to a peer.
    TransferRequests(NodeId),
    /// Handoffs to a peer.
    Handoffs,
    /// Introductions of other nodes.
    Introductions(Introductions),
}

/// Introductions that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Introductions {
    pub(super) missing: BTreeSet<NodeId>,
    pub(super) heard: BTreeMap<NodeId, Heard>,
    pub(super) sent: BootNs,
}

impl Node {
    /// Calls another node; `call_failed` is called if no answer comes in time.
    pub(super) fn call(
        &mut self,
        to: NodeId,
        timeout_ms: u64,
        call: Call,
        step: &mut Step<'_>,
        message: impl FnOnce(CallId) -> Message,
    ) -> CallId {
        let number = step.number();
        self.calls.insert(number, call);
        step.send(to, message(number));
        step.wake(timeout_ms * MS, Timer::Over(number));
        number
    }

    pub(super) fn ask_clocks(
        &mut self,
        call: member::CallId,
        nodes: &[NodeId],
        enough: Option<usize>,
        step: &mut Step<'_>,
    ) {
        let number = step.number();
        let call =
            Call::Clocks { call, missing: nodes.to_vec(), enough, heard: ClocksHeard::default() };
        self.calls.insert(number, call);
        nodes.iter().for_each(|node| step.send(*node, Message::Time(number)));
        step.wake(LEASE_TIMEOUT_MS * MS, Timer::Over(number));
    }

    fn handle_clock(
        &mut self,
        number: CallId,
        from: NodeId,
        answer: Option<ClockAnswer>,
        step: &mut Step<'_>,
    ) {
        let now = self.boot_now(step.now);
        let Some(Call::Clocks { missing, enough, heard, .. }) = self.calls.get_mut(&number) else {
            return;
        };
        // A message may arrive twice; a clock counts once.
        let Some(place) = missing.iter().position(|node| *node == from) else { return };
        missing.remove(place);
        if let Some(answer) = answer {
            heard.add(answer, now);
        }
        if missing.is_empty() || heard.suffice(*enough) {
            self.end_clocks(number, step);
        }
    }

    fn end_clocks(&mut self, number: CallId, step: &mut Step<'_>) {
        let Some(Call::Clocks { call, heard, .. }) = self.calls.remove(&number) else { return };
        self.act(step, |member, at| member.handle_clocks(call, &heard, at));
    }

    /// A call got no answer in time. `refused_by`: nothing listens at this node.
    pub(super) fn call_failed(
        &mut self,
        number: CallId,
        refused_by: Option<NodeId>,
        step: &mut Step<'_>,
    ) {
        if let (Some(Call::Clocks { .. }), Some(node)) = (self.calls.get(&number), refused_by) {
            return self.handle_clock(number, node, None, step);
        }
        if let (Some(Call::Introductions(_)), Some(node)) = (self.calls.get(&number), refused_by) {
            return self.introduced(number, node, None, step);
        }
        let refused = refused_by.is_some();
        let unknown = if refused { SubmitError::NotLeader } else { SubmitError::Unknown };
        match self.calls.get(&number).cloned() {
            None => return,
            Some(Call::Clocks { .. }) => return self.end_clocks(number, step),
            Some(Call::Introductions(_)) => return self.end_introductions(number, step),
            Some(Call::Lease(call)) => {
                let answer = LeaseAnswer::NoAnswer(String::new());
                self.act(step, |member, at| member.handle_lease_answer(call, answer, at));
            }
            Some(Call::Proof(call)) => {
                self.raft.forget_confirm(number);
                self.act(step, |member, at| member.handle_proof(call, None, at));
            }
            Some(Call::Forward(call)) => {
                self.act(step, |member, at| member.handle_forwarded(call, Err(unknown), at));
            }
            Some(Call::Applied(peer)) => {
                self.act(step, |member, at| member.handle_applied_answer(peer, None, at));
            }
            Some(Call::TransferRequests(peer)) => {
                self.member.note_silence(peer, refused);
                self.requests_failed(number, step);
            }
            Some(Call::Handoffs) => {
                let result = if refused { HandedOff::NotDelivered } else { HandedOff::Unknown };
                self.handed_off(number, &result, step);
            }
        }
        self.calls.remove(&number);
    }

    /// Takes a message.
    pub fn handle(&mut self, from: NodeId, message: Message, step: &mut Step<'_>) {
        match message {
            // Rejected: this directory may have forgotten its votes, and its number may be too high.
            Message::Raft(_) | Message::Gossip(..) if !self.takes_part() => {}
            Message::TransferRequests(call, ..) | Message::Handoffs(call, ..)
                if !self.takes_part() =>
            {
                step.send(from, Message::Refused(call));
            }
            Message::Raft(message) => {
                let mut out = Vec::new();
                self.raft.has_room = self.machine.has_room(step.now);
                self.raft.handle(step.now, from, message, step.rng, &mut out);
                self.consent(out, step);
            }
            Message::Lease(call, request) => {
                let asked = self.member.next_call();
                self.lease_requests.insert(asked, (from, call));
                self.act(step, |m, at| m.handle_lease_request(from, request, asked, at));
            }
            Message::Leased(number, answer) => {
                if let Some(Call::Lease(call)) = self.calls.remove(&number) {
                    self.act(step, |member, at| member.handle_lease_answer(call, *answer, at));
                }
            }
            Message::Time(call) => {
                let answer = self.clocks(step);
                step.send(from, Message::TimeIs(call, answer));
            }
            Message::Introduce(call) => {
                let said = Box::new(self.introduction(step));
                step.send(from, Message::Introduced(call, said));
            }
            Message::Introduced(call, said) => self.introduced(call, from, Some(*said), step),
            Message::TimeIs(call, answer) => self.handle_clock(call, from, Some(answer), step),
            Message::Applied(call, index) => {
                let at = fluxgate_types::LogIndex(self.applied as u64);
                self.applied_waits.retain(|(node, ..)| *node != from);
                if at >= index {
                    step.send(from, Message::AppliedAt(call, at));
                } else {
                    self.applied_waits.push((from, call, index));
                }
            }
            Message::AppliedAt(number, at) => {
                if let Some(Call::Applied(peer)) = self.calls.remove(&number) {
                    self.act(step, |m, step| m.handle_applied_answer(peer, Some(at), step));
                }
            }
            Message::Propose(call, proposal, within_ms) => {
                let write = self.member.next_call();
                self.writes.insert(write, WriteWaiter::Node(from, call));
                self.act(step, |m, at| m.handle_write(write, *proposal, within_ms, false, at));
            }
            Message::Proposed(number, result) => {
                if let Some(Call::Forward(call)) = self.calls.remove(&number) {
                    self.act(step, |member, at| member.handle_forwarded(call, *result, at));
                }
            }
            Message::Refused(call) => {
                self.member.note_silence(from, true);
                self.call_failed(call, Some(from), step);
            }
            Message::TransferRequests(..)
            | Message::TransferReplies(..)
            | Message::Gossip(..)
            | Message::Heard(..)
            | Message::Handoffs(..)
            | Message::HandoffsTaken(..) => self.handle_counting(from, message, step),
        }
    }

    /// What this node says of itself.
    pub(super) fn said(&self, step: &Step<'_>) -> PeerSaid {
        let cluster_ns = self.member.clock().now_ns(self.boot_now(step.now));
        PeerSaid {
            is_ready: self.stop.is_none() && self.is_leased(step.now),
            can_write: self.machine.has_room(step.now),
            wall_offset_ns: signed_difference(self.machine.wall_ns(step.now), cluster_ns),
        }
    }

    pub(super) fn head(&self, to: NodeId) -> MessageHeader {
        MessageHeader { boot: self.boot, to: self.member.incarnation().incarnations.of(to) }
    }

    /// Processes the header of a message. `None` for a late message, or one for another incarnation
    /// of this node.
    pub(super) fn receive(
        &mut self,
        from: NodeId,
        head: &MessageHeader,
        step: &mut Step<'_>,
    ) -> Option<Sender> {
        self.member.note_incarnation(from, head.boot);
        self.member.note_heard(from);
        let sender = self.member.incarnation().accepted(from, head.boot, head.to);
        // A thread that was held up since had looked before the newer incarnation was known.
        sender.or_else(|| self.torn.accepted(from, head, step))
    }
}
