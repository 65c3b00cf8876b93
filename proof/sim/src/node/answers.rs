//! Messages: calls to other nodes and how they end, and the answers to theirs.

use fluxgate_engine::member::{self, LeaseAnswer, SubmitError};
use fluxgate_engine::stop::HandedOff;
use fluxgate_types::NodeId;

use super::{Asker, Node};
use crate::calls::Waiter;
use crate::messages::{Answer, Call, CallId, Message, Timer};
use crate::step::Step;
use fluxgate_plan::MS;

impl Node {
    /// Asks these nodes, and waits so long for their answers. Without a question only the time
    /// runs: consensus asks itself.
    pub(super) fn call(
        &mut self,
        to: &[NodeId],
        timeout_ms: u64,
        waiter: Waiter,
        asked: Option<Call>,
        step: &mut Step<'_>,
    ) -> CallId {
        let call = step.number();
        self.calls.open(call, to, waiter);
        if let Some(asked) = asked {
            to.iter().for_each(|node| step.send(*node, Message::Call(call, asked.clone())));
        }
        step.wake(timeout_ms * MS, Timer::Over(call));
        call
    }

    /// Takes a message.
    pub fn handle(&mut self, from: NodeId, message: Message, step: &mut Step<'_>) {
        match message {
            // This directory may have forgotten its votes, and its number may be too high.
            Message::Raft(_) | Message::Gossip(..) if !self.takes_part() => {}
            Message::Raft(message) => {
                self.replica.raft.has_room = self.machine.has_room(step.now);
                // BEFORE consensus sees it.
                self.replica.note_contact(from, &message, self.boot_now(step.now));
                self.consent(step, |raft, step, out| {
                    raft.handle(step.now, from, message, step.rng, out);
                });
            }
            Message::Gossip(head, reports, incarnations, said) => {
                self.receive_gossip(from, &head, reports, step);
                self.note_said(from, &incarnations, said);
                let known = self.member.incarnation().incarnations.all();
                step.send(from, Message::Heard(self.head(from), known, self.said(step)));
            }
            Message::Heard(head, incarnations, said) => {
                self.receive(from, &head, step);
                self.note_said(from, &incarnations, said);
                self.peers.entry(from).or_default().answered = Some(true);
            }
            Message::Call(call, asked) => self.handle_call(from, call, asked, step),
            Message::Answer(call, answer) => {
                if matches!(answer, Answer::Refused) {
                    self.member.note_silence(from, true);
                }
                let now = self.boot_now(step.now);
                if let Some((waiter, outcome)) = self.calls.handle_answer(call, from, answer, now) {
                    self.handle_outcome(call, waiter, outcome, step);
                }
            }
        }
    }

    fn handle_call(&mut self, from: NodeId, call: CallId, asked: Call, step: &mut Step<'_>) {
        let answer = match asked {
            Call::Transfers(..) | Call::Handoffs(..) if !self.takes_part() => Answer::Refused,
            Call::Lease(request) => {
                let asked = self.awaits_member(from, call);
                return self.act(step, |m, at| m.handle_lease_request(from, request, asked, at));
            }
            Call::Propose(proposal, within_ms) => {
                let write = self.awaits_member(from, call);
                return self
                    .act(step, |m, at| m.handle_write(write, *proposal, within_ms, false, at));
            }
            Call::Applied(index) => match self.replica.wait_applied(from, call, index) {
                Some(at) => Answer::Applied(at),
                None => return,
            },
            Call::Clocks(leader) => {
                let contact = self.replica.contacts.last_before(leader);
                let ago_ns = contact.map(|at| self.boot_now(step.now).since(at));
                Answer::Clocks(self.act(step, |member, at| member.own_clocks(at)), ago_ns)
            }
            Call::Introduce => Answer::Introduction(Box::new(self.introduction(step))),
            Call::Transfers(head, requests) => {
                let sender = self.receive(from, &head, step);
                let replies = sender.map(|sender| self.handle_requests(&sender, &requests, step));
                Answer::Transfers(self.head(from), replies.unwrap_or_default())
            }
            Call::Handoffs(head, handoffs) => {
                let sender = self.receive(from, &head, step).filter(|_| !self.is_stopping());
                let replies: Vec<_> = handoffs.into_iter().map(|handoff| handoff.reply).collect();
                Answer::Handoffs(match sender {
                    Some(sender) => self.handle_replies(&sender, &replies, step),
                    None => vec![false; replies.len()],
                })
            }
        };
        step.send(from, Message::Answer(call, answer));
    }

    /// A call that the member answers later.
    fn awaits_member(&mut self, from: NodeId, call: CallId) -> member::CallId {
        let waiter = self.member.next_call();
        self.askers.insert(waiter, Asker::Node(from, call));
        waiter
    }

    /// A call is over: tells the one that waits for it.
    pub(super) fn handle_outcome(
        &mut self,
        call: CallId,
        waiter: Waiter,
        outcome: Option<Answer>,
        step: &mut Step<'_>,
    ) {
        match (waiter, outcome) {
            (Waiter::Lease(call), outcome) => {
                let answer = match outcome {
                    Some(Answer::Lease(answer)) => *answer,
                    Some(_) | None => LeaseAnswer::NoAnswer(String::new()),
                };
                self.act(step, |member, at| member.handle_lease_answer(call, answer, at));
            }
            (Waiter::Proof(waiter), _) => {
                self.replica.raft.forget_confirm(call);
                self.act(step, |member, at| member.handle_proof(waiter, None, at));
            }
            (Waiter::Clocks(call, _, heard), _) => {
                self.act(step, |member, at| member.handle_clocks(call, &heard, at));
            }
            (Waiter::Forward(call), outcome) => {
                let result = match outcome {
                    Some(Answer::Written(result)) => *result,
                    Some(Answer::Refused) => Err(SubmitError::NotLeader),
                    Some(_) | None => Err(SubmitError::Unknown),
                };
                self.act(step, |member, at| member.handle_forwarded(call, result, at));
            }
            (Waiter::Applied(peer), outcome) => {
                let at = match outcome {
                    Some(Answer::Applied(at)) => Some(at),
                    Some(_) | None => None,
                };
                self.act(step, |member, step| member.handle_applied_answer(peer, at, step));
            }
            (Waiter::Transfers(peer), outcome) => {
                if let Some(Answer::Transfers(head, replies)) = outcome {
                    self.handle_transfers(peer, &head, replies, step);
                } else {
                    self.member.note_silence(peer, outcome.is_some());
                    self.handle_no_transfers(peer, step);
                }
            }
            (Waiter::Handoffs, outcome) => {
                let result = match outcome {
                    Some(Answer::Handoffs(taken)) => HandedOff::Answered(taken),
                    Some(Answer::Refused) => HandedOff::NotDelivered,
                    Some(_) | None => HandedOff::Unknown,
                };
                self.stop_with(step, |stop, peers, out| {
                    stop.handle_handed_off(&result, peers, out)
                });
            }
            (Waiter::Introductions(_, heard), _) => self.handle_introductions(&heard, step),
        }
    }
}
