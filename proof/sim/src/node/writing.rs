//! Writes and the barrier: mirrors `node/writes`.

use fluxgate_engine::state::command::{Actor, Applied, Batch, Command, Outcome, Proposal};
use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};

use super::{Node, Step};
use crate::messages::{CallId, Message, Seen, Timer, Written};
use crate::plan::{MS, SECOND, Us};

/// A write that finds no leader, or no answer, for so long is given up.
const WRITE_TIMEOUT: Us = 10 * SECOND;
/// Pause before a proposal is tried again.
const RETRY: Us = 20 * MS;
/// How long one wait for an applied entry may take.
const APPLIED_WAIT: Us = 2_500 * MS;

/// A write under way at the node that a client asked.
#[derive(Clone, Debug)]
pub struct Write {
    proposal: Proposal,
    deadline: Us,
    unknown: bool,
}

/// What waits for a proposal.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProposalWaiter {
    /// A write of this node's own clients.
    Here(u64),
    /// Another node, by its call.
    Node(NodeId, CallId),
    /// The leader itself: a share map from then on, in that term.
    Map(ClusterMs, u64),
    /// No caller: the node proposed it for itself.
    Unattended,
}

/// A committed write that waits for lease holders.
pub(super) struct Barrier {
    index: LogIndex,
    term: u64,
    outcome: Outcome,
    origin: ProposalWaiter,
    since: BootNs,
}

impl Node {
    /// A client asks for a change.
    pub fn write(&mut self, id: u64, proposal: Proposal, step: &mut Step<'_>) {
        let deadline = step.now + WRITE_TIMEOUT;
        self.writes.insert(id, Write { proposal, deadline, unknown: false });
        self.pursue_write(id, step);
    }

    /// Tries a write, or gives it up.
    pub(super) fn pursue_write(&mut self, id: u64, step: &mut Step<'_>) {
        let Some(write) = self.writes.get(&id) else { return };
        if step.now >= write.deadline {
            let came = if write.unknown { Written::Unknown } else { Written::NotLeader };
            self.writes.remove(&id);
            step.see(Seen::Wrote(id, came));
            return;
        }
        let proposal = write.proposal.clone();
        match self.raft.leader() {
            Some(node) if node == self.id => self.propose(proposal, ProposalWaiter::Here(id), step),
            Some(node) => {
                let (call, left) = (step.number(), write.deadline - step.now);
                self.carried.insert(call, id);
                step.send(node, Message::Propose(call, Box::new(proposal)));
                // A leader that hangs is given up: the request id makes the repeat harmless.
                step.wake(left.min(2 * SECOND), Timer::Over(call));
            }
            None => step.wake(step.plan.heartbeat.max(RETRY), Timer::Write(id)),
        }
    }

    /// The leader's answer to a proposal that was carried there.
    pub(super) fn handle_proposed(&mut self, call: CallId, came: Written, step: &mut Step<'_>) {
        if let Some(id) = self.carried.remove(&call) {
            self.finish(ProposalWaiter::Here(id), came, step);
        }
    }

    fn finish(&mut self, origin: ProposalWaiter, came: Written, step: &mut Step<'_>) {
        match origin {
            ProposalWaiter::Here(id) => match came {
                Written::Done(_) => {
                    if self.writes.remove(&id).is_some() {
                        step.see(Seen::Wrote(id, came));
                    }
                }
                Written::NotLeader | Written::Unknown => {
                    if let Some(write) = self.writes.get_mut(&id) {
                        write.unknown |= matches!(came, Written::Unknown);
                        step.wake(step.plan.heartbeat.max(RETRY), Timer::Write(id));
                    }
                }
            },
            ProposalWaiter::Node(node, call) => step.send(node, Message::Proposed(call, came)),
            ProposalWaiter::Map(..) | ProposalWaiter::Unattended => {}
        }
    }

    /// Proposes something of the cluster's own.
    pub(super) fn propose_own(
        &mut self,
        command: Command,
        origin: ProposalWaiter,
        step: &mut Step<'_>,
    ) {
        let request = u128::from(step.rng.draw()) << 64 | u128::from(step.rng.draw());
        let proposal =
            Proposal { request, actor: Actor::System, presented: None, from: None, command };
        self.propose(proposal, origin, step);
    }

    /// Proposes here, where this node leads.
    pub(super) fn propose(
        &mut self,
        proposal: Proposal,
        origin: ProposalWaiter,
        step: &mut Step<'_>,
    ) {
        let at = self.cluster_now(step.now);
        let mut out = Vec::new();
        let batch = Batch { at, proposals: vec![proposal] };
        // The stamp of the entry: a clock that nobody has set must not stamp.
        let synced = self.clock.is_synced();
        let proposed = if synced { self.raft.propose(batch, &mut out) } else { None };
        match proposed {
            Some((term, index)) => self.proposals.push((index, term, origin)),
            None => self.finish(origin, Written::NotLeader, step),
        }
        self.consent(out, step);
    }

    /// Entry `index` is applied here.
    pub(super) fn handle_applied(
        &mut self,
        index: usize,
        term: u64,
        applied: Option<Applied>,
        step: &mut Step<'_>,
    ) {
        let at = LogIndex(index as u64);
        let mut open = std::mem::take(&mut self.proposals);
        for (_, proposed_in, origin) in open.extract_if(.., |(of, ..)| *of <= index) {
            let outcome = applied.as_ref().filter(|_| proposed_in == term);
            let outcome = outcome.and_then(|applied| applied.outcomes.first());
            if let ProposalWaiter::Map(from, of) = origin {
                self.handle_map_outcome(from, of, outcome.map(|outcome| (at, outcome)));
            }
            match outcome.cloned() {
                // Nothing changed, so there is nothing that a node could miss.
                Some(outcome @ Outcome::Refused(_)) => {
                    self.finish(origin, Written::Done(Box::new(outcome)), step);
                }
                Some(outcome) => {
                    let since = self.boot_now(step.now);
                    self.barriers.push(Barrier { index: at, term, outcome, origin, since });
                }
                None => self.finish(origin, Written::Unknown, step),
            }
        }
        open.append(&mut self.proposals);
        self.proposals = open;
        let mut waits = std::mem::take(&mut self.applied_waits);
        for (node, call, _) in waits.extract_if(.., |(_, _, wanted)| *wanted <= at) {
            step.send(node, Message::AppliedAt(call, at));
        }
        self.applied_waits = waits;
        self.look_at_barriers(step);
    }

    /// Ends the barriers that nothing holds up any more.
    pub(super) fn look_at_barriers(&mut self, step: &mut Step<'_>) {
        if self.barriers.is_empty() {
            return;
        }
        self.assume_leadership(step);
        let now = self.boot_now(step.now);
        let (_, cautious) = self.look_at_terms(step);
        let mut again: Option<Us> = None;
        let mut done = Vec::new();
        for (place, barrier) in self.barriers.iter().enumerate() {
            let leadership =
                self.leadership.as_mut().filter(|leadership| leadership.term >= barrier.term);
            let Some(leadership) = leadership else {
                let lease_ns = cautious.lease_ms * 1_000_000;
                if now.since(barrier.since) > lease_ns {
                    done.push(place);
                } else {
                    again = Some(step.plan.leader_look);
                }
                continue;
            };
            leadership.granter.handle_committed(barrier.index);
            let holders = leadership.granter.holders(barrier.index, now);
            match holders.iter().map(|(_, until)| *until).max() {
                None => done.push(place),
                Some(until) => {
                    self.wanted = self.wanted.max(barrier.index);
                    let left = until.since(now) / 1_000 + MS;
                    again = Some(again.map_or(left, |other| other.min(left)));
                }
            }
        }
        for place in done.into_iter().rev() {
            let Barrier { outcome, origin, .. } = self.barriers.remove(place);
            self.finish(origin, Written::Done(Box::new(outcome)), step);
        }
        for (peer, _) in self.incarnation.peers.clone() {
            self.ask_applied(peer, step);
        }
        if let Some(after) = again {
            let after = after.min(step.plan.leader_look);
            let at = step.now + after;
            // One such wake-up is enough, as long as it is not a later one.
            if self.barrier_at <= step.now || at < self.barrier_at {
                self.barrier_at = at;
                step.wake(after, Timer::Barrier);
            }
        }
    }

    fn ask_applied(&mut self, peer: NodeId, step: &mut Step<'_>) {
        let known = self.known_applied.get(&peer).copied().unwrap_or(LogIndex(0));
        let asked = self.applied_calls.values().any(|node| *node == peer);
        if self.wanted <= known || asked || self.barriers.is_empty() {
            return;
        }
        let call = step.number();
        self.applied_calls.insert(call, peer);
        step.send(peer, Message::Applied(call, self.wanted));
        step.wake(APPLIED_WAIT, Timer::Over(call));
    }

    /// The leader asks how far this node has applied, and waits for an entry.
    pub(super) fn handle_applied_ask(
        &mut self,
        from: NodeId,
        call: CallId,
        index: LogIndex,
        step: &mut Step<'_>,
    ) {
        let at = LogIndex(self.applied as u64);
        if at >= index {
            step.send(from, Message::AppliedAt(call, at));
        } else {
            self.applied_waits.retain(|(node, ..)| *node != from);
            self.applied_waits.push((from, call, index));
        }
    }

    /// A node says how far it has applied.
    pub(super) fn handle_applied_at(
        &mut self,
        from: NodeId,
        call: CallId,
        at: LogIndex,
        step: &mut Step<'_>,
    ) {
        if self.applied_calls.remove(&call).is_none() {
            return;
        }
        let known = self.known_applied.entry(from).or_insert(LogIndex(0));
        *known = (*known).max(at);
        if let Some(leadership) = self.leadership.as_mut() {
            leadership.granter.handle_applied(from, at);
        }
        self.look_at_barriers(step);
    }

    /// A node did not say: its lease runs out by itself, until then it may come back.
    pub(super) fn applied_failed(&mut self, _node: NodeId, step: &mut Step<'_>) {
        if !self.barriers.is_empty() {
            step.wake(RETRY, Timer::Barrier);
        }
    }
}
