//! The write barrier: a committed write is acknowledged once every node has applied it, or holds no
//! lease under which it could answer without it.
//!
//! Answers for: only a leader term that is not older than the entry judges it, because only such a
//! term knows every grant. A node that lost the leadership before it could take over the entry's
//! term, or a later one, waits one whole lease instead: it grants nothing itself, earlier grants run
//! out within one lease, and every later grant requires the entry.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, LogIndex, NodeId};

use super::Member;
use super::effect::{CallId, Effect, Written};
use super::step::Step;
use crate::fault::Mutation;
use crate::state::command::Outcome;

/// Pause before a peer that did not report how far it has applied the log is asked again,
/// milliseconds. Its lease runs out by itself; until then it may come back.
const RETRY_MS: u64 = 20;
/// A barrier is looked at this long after the lease that it waits for has run out, milliseconds.
const SLACK_MS: u64 = 1;

/// Committed writes that wait, and how far peers reported to have applied the log.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    waiting: Vec<Barrier>,
    // When the next lease that one of them waits for runs out.
    check_at: Option<BootNs>,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Debug)]
struct Barrier {
    write: CallId,
    index: LogIndex,
    term: u64,
    since: BootNs,
    outcome: Outcome,
    // The nodes that held a lease without the entry at the first look.
    held_up_by: Option<Vec<NodeId>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    applied: LogIndex,
    asked: bool,
    // It did not answer: it is asked again then.
    retry_at: Option<BootNs>,
}

/// The state of one barrier, as the newest leader term judges it.
enum Standing {
    /// The write may be acknowledged.
    Passed { applied_on: Vec<NodeId> },
    /// These nodes hold it up, the last of them until then.
    HeldUp { by: Vec<NodeId>, until: BootNs },
}

impl Barriers {
    pub(super) fn poll_timeout(&self) -> BootNs {
        if self.waiting.is_empty() {
            return BootNs(u64::MAX);
        }
        let retries = self.peers.values().filter_map(|peer| peer.retry_at);
        retries.chain(self.check_at).min().unwrap_or(BootNs(u64::MAX))
    }

    /// The caller of this write has given up.
    pub(super) fn forget(&mut self, write: CallId) {
        self.waiting.retain(|barrier| barrier.write != write);
    }

    /// Removes the peers that have left the cluster: they may come back with an empty directory.
    pub(super) fn retain_peers(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        self.peers.retain(|peer, _| is_peer(*peer));
    }
}

impl Member {
    pub(super) fn begin_barrier(
        &mut self,
        write: CallId,
        index: LogIndex,
        term: u64,
        outcome: Outcome,
        step: &mut Step<'_>,
    ) {
        let since = step.now();
        let barrier = Barrier { write, index, term, since, outcome, held_up_by: None };
        self.barriers.waiting.push(barrier);
        self.look_at_barriers(step);
    }

    /// Acknowledges the writes that nothing holds up any more.
    pub(super) fn look_at_barriers(&mut self, step: &mut Step<'_>) {
        if self.barriers.waiting.is_empty() {
            return;
        }
        self.barriers.check_at = None;
        let mut held_up: BTreeMap<NodeId, LogIndex> = BTreeMap::new();
        for mut barrier in std::mem::take(&mut self.barriers.waiting) {
            match self.standing(&barrier, step) {
                Standing::Passed { applied_on } => self.pass(barrier, applied_on, step),
                Standing::HeldUp { by, until } => {
                    let at = until.plus_ms(SLACK_MS);
                    let next = self.barriers.check_at.map_or(at, |other| other.min(at));
                    self.barriers.check_at = Some(next);
                    for node in &by {
                        let wanted = held_up.entry(*node).or_default();
                        *wanted = (*wanted).max(barrier.index);
                    }
                    if !by.is_empty() {
                        barrier.held_up_by.get_or_insert(by);
                    }
                    self.barriers.waiting.push(barrier);
                }
            }
        }
        // A peer that holds nothing up any more is not asked again.
        for (_, peer) in self.barriers.peers.iter_mut().filter(|(id, _)| !held_up.contains_key(id))
        {
            peer.retry_at = None;
        }
        for (peer, index) in held_up {
            self.ask_applied(peer, index, step);
        }
    }

    fn standing(&mut self, barrier: &Barrier, step: &Step<'_>) -> Standing {
        let now = step.now();
        let cautious = self.lease_terms(step).cautious;
        let newest = self.leadership.newest();
        let knows = |term: u64| term >= barrier.term || Mutation::BarrierOfOlderTerm.active();
        match newest.filter(|(term, _)| knows(*term)) {
            Some((_, granter)) => {
                if !Mutation::FloorForgotten.active() {
                    granter.handle_committed(barrier.index);
                }
                let holders = granter.holders(barrier.index, now);
                match holders.iter().map(|(_, until)| *until).max() {
                    None => Standing::Passed { applied_on: granter.applied_on(barrier.index) },
                    Some(until) => {
                        let by = holders.into_iter().map(|(node, _)| node).collect();
                        Standing::HeldUp { by, until }
                    }
                }
            }
            // This node has not taken the leadership of the entry's term over, and may have lost it.
            None => {
                let until = barrier.since.plus_ms(cautious.lease_ms);
                if now > until || Mutation::DeposedAcknowledges.active() {
                    Standing::Passed { applied_on: vec![self.me] }
                } else {
                    Standing::HeldUp { by: Vec::new(), until }
                }
            }
        }
    }

    fn pass(&mut self, barrier: Barrier, applied_on: Vec<NodeId>, step: &mut Step<'_>) {
        let Barrier { write, since, outcome, held_up_by, .. } = barrier;
        let waited_ns = step.now().since(since);
        let waited_ms = waited_ns / 1_000_000;
        let has_applied = |node: &NodeId| applied_on.contains(node);
        let all_applied = held_up_by.iter().flatten().all(has_applied);
        step.push(Effect::BarrierPassed { waited_ns, all_applied });
        self.end_write(write, Ok(Written { outcome, applied_on, waited_ms }), step);
    }

    fn ask_applied(&mut self, node: NodeId, index: LogIndex, step: &mut Step<'_>) {
        let now = step.now();
        let peer = self.barriers.peers.entry(node).or_default();
        if peer.asked || peer.retry_at.is_some_and(|at| now < at) {
            return;
        }
        (peer.asked, peer.retry_at) = (true, None);
        step.push(Effect::AskApplied { peer: node, index });
    }

    /// A peer says how far it has applied the log; `None` if it did not answer.
    pub fn handle_applied_answer(
        &mut self,
        node: NodeId,
        applied: Option<LogIndex>,
        step: &mut Step<'_>,
    ) {
        let peer = self.barriers.peers.entry(node).or_default();
        peer.asked = false;
        match applied {
            Some(applied) => {
                peer.applied = peer.applied.max(applied);
                let applied = peer.applied;
                if let Some((_, granter)) = self.leadership.newest() {
                    granter.handle_applied(node, applied);
                }
            }
            None => peer.retry_at = Some(step.now().plus_ms(RETRY_MS)),
        }
        self.look_at_barriers(step);
    }
}
