//! An orderly stop: what a node does before its process ends, and in which order.
//!
//! One machine without I/O: each `handle_*` takes what happened and lists what comes next as
//! [`Effect`]s, which its driver carries out in order.
//!
//! Answers for: other nodes and gateways hear of the stop before this node stops answering; it
//! spends nothing any more BEFORE it hands its balances over; a handoff that may have arrived is
//! never taken back; what no peer accepted is in the file for the next incarnation; a leader hands
//! the leadership over last, so that a change of leaders finds nothing undone here; and tokens that
//! arrive meanwhile, late answers to requests of this node, are written too.

use fluxgate_types::NodeId;

use crate::quota::{Handoff, Sender};

/// For so many gossip periods a stopping node reports that it leaves, before it stops answering.
pub const LEAVE_GOSSIPS: u64 = 3;
/// How long one peer may take to accept a message of handoffs, milliseconds.
pub const HANDOFF_TIMEOUT_MS: u64 = 2_000;
/// How long a stopping leader waits for another node to lead, milliseconds.
pub const LEADER_TIMEOUT_MS: u64 = 1_500;

/// What a step of the stop asks its driver to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Report to peers and gateways that this node leaves, and continue to answer for this long, or
    /// until the operator does not want to wait any more. Answer with `handle_announced`.
    Announce {
        /// How long, milliseconds.
        for_ms: u64,
    },
    /// Spend nothing any more.
    BeginDrain,
    /// Take up to one message of handoffs for this peer out of the counters, from where the last
    /// one to it ended. Answer with `handle_drained`.
    Drain {
        /// The peer.
        to: Sender,
    },
    /// Send handoffs to this peer. Answer with `handle_handed_off` after [`HANDOFF_TIMEOUT_MS`] at
    /// the latest.
    HandOff {
        /// The peer.
        to: Sender,
        /// The handoffs.
        handoffs: Vec<Handoff>,
    },
    /// Put a handoff's tokens back into the balance that they came from.
    TakeBack {
        /// The peer that did not accept it.
        from: Sender,
        /// The handoff.
        handoff: Handoff,
    },
    /// Write what this incarnation leaves to the next one to the disk. Answer with `handle_saved`,
    /// also if it failed.
    Save,
    /// This node leads: let another one lead. Answer with `handle_leader_gone` after
    /// [`LEADER_TIMEOUT_MS`] at the latest.
    HandLeadershipOver,
    /// Nothing is left to do: the process may end.
    End,
}

/// What became of a message of handoffs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandedOff {
    /// The peer says of each whether it accepted it.
    Answered(Vec<bool>),
    /// It certainly did not arrive.
    NotDelivered,
    /// It may have arrived: to count the tokens here too would spend them twice.
    Unknown,
}

/// An orderly stop under way.
#[derive(Debug)]
pub struct Stop {
    stage: Stage,
    // Peers that did not accept everything.
    tried: Vec<NodeId>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Announcing,
    Draining(Sender),
    HandingOff(Sender, Vec<Handoff>),
    Saving,
    HandingLeadershipOver,
    SavingAgain,
    Ended,
}

impl Stop {
    /// Begins the stop. `gossip_ms` is the gossip period, `drain_ms` the least time for which the
    /// node continues to answer: a load balancer that polls `/readyz` needs it to turn away.
    #[must_use]
    pub fn begin(gossip_ms: u64, drain_ms: u64, out: &mut Vec<Effect>) -> Self {
        out.push(Effect::Announce { for_ms: drain_ms.max(LEAVE_GOSSIPS * gossip_ms) });
        Self { stage: Stage::Announcing, tried: Vec::new() }
    }

    /// The others know. `peers` are those that can be reached and would answer requests, in order.
    pub fn handle_announced(&mut self, peers: &[Sender], out: &mut Vec<Effect>) {
        if self.stage == Stage::Announcing {
            out.push(Effect::BeginDrain);
            self.drain_to_next(peers, out);
        }
    }

    /// What the counters had for the peer; empty if nothing is left.
    pub fn handle_drained(&mut self, handoffs: Vec<Handoff>, out: &mut Vec<Effect>) {
        let Stage::Draining(to) = self.stage else { return };
        if handoffs.is_empty() {
            return self.save(out);
        }
        self.stage = Stage::HandingOff(to, handoffs.clone());
        out.push(Effect::HandOff { to, handoffs });
    }

    /// What became of the last handoffs. `peers` as for [`Stop::handle_announced`].
    pub fn handle_handed_off(
        &mut self,
        result: &HandedOff,
        peers: &[Sender],
        out: &mut Vec<Effect>,
    ) {
        let Stage::HandingOff(to, handoffs) = &mut self.stage else { return };
        let (to, handoffs) = (*to, std::mem::take(handoffs));
        let accepted = match result {
            HandedOff::Answered(accepted) => accepted.as_slice(),
            HandedOff::NotDelivered | HandedOff::Unknown => &[],
        };
        // A report without tokens that a peer cannot use is no reason to give it no balances.
        let is_taken = |(handoff, taken): (&Handoff, &bool)| *taken || handoff.tokens == 0;
        let goes_on =
            accepted.len() == handoffs.len() && handoffs.iter().zip(accepted).all(is_taken);
        for (at, handoff) in handoffs.into_iter().enumerate() {
            let taken = match result {
                HandedOff::Answered(accepted) => accepted.get(at).copied(),
                HandedOff::NotDelivered => Some(false),
                HandedOff::Unknown => None,
            };
            // One of which the answer says nothing may have been accepted.
            if taken == Some(false) && handoff.tokens > 0 {
                out.push(Effect::TakeBack { from: to, handoff });
            }
        }
        if goes_on {
            self.stage = Stage::Draining(to);
            out.push(Effect::Drain { to });
        } else {
            self.tried.push(to.node);
            self.drain_to_next(peers, out);
        }
    }

    fn drain_to_next(&mut self, peers: &[Sender], out: &mut Vec<Effect>) {
        match peers.iter().find(|peer| !self.tried.contains(&peer.node)) {
            Some(to) => {
                self.stage = Stage::Draining(*to);
                out.push(Effect::Drain { to: *to });
            }
            None => self.save(out),
        }
    }

    fn save(&mut self, out: &mut Vec<Effect>) {
        self.stage = Stage::Saving;
        out.push(Effect::Save);
    }

    /// The file is written, or could not be. `leads`: this node leads now. `peers` as for
    /// [`Stop::handle_announced`]: without any no other node can lead.
    pub fn handle_saved(&mut self, leads: bool, peers: &[Sender], out: &mut Vec<Effect>) {
        match self.stage {
            Stage::Saving if !leads || peers.is_empty() => self.end(out),
            Stage::Saving => {
                self.stage = Stage::HandingLeadershipOver;
                out.push(Effect::HandLeadershipOver);
            }
            Stage::SavingAgain => self.end(out),
            Stage::Announcing
            | Stage::Draining(_)
            | Stage::HandingOff(..)
            | Stage::HandingLeadershipOver
            | Stage::Ended => {}
        }
    }

    /// Another node leads, or did not take the leadership in time.
    pub fn handle_leader_gone(&mut self, out: &mut Vec<Effect>) {
        if self.stage == Stage::HandingLeadershipOver {
            self.stage = Stage::SavingAgain;
            out.push(Effect::Save);
        }
    }

    fn end(&mut self, out: &mut Vec<Effect>) {
        self.stage = Stage::Ended;
        out.push(Effect::End);
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::{BootId, KeyId};

    use super::*;
    use crate::quota::{CounterId, CounterReport, TransferReply};

    const FIRST: Sender = Sender { node: NodeId(2), boot: BootId(1) };
    const SECOND: Sender = Sender { node: NodeId(3), boot: BootId(1) };

    fn handoff(window: u64) -> Handoff {
        let key: KeyId = "key_abcdefghijkl".parse().expect("an id");
        let counter = CounterId { subject: key.into(), limit: 1, window };
        let mine = Some(CounterReport::default());
        Handoff { reply: TransferReply { counter, given: 5, mine, known: Vec::new() }, tokens: 5 }
    }

    /// A stop whose first handoffs to the first peer are on their way.
    fn handing_off(peers: &[Sender]) -> Stop {
        let mut out = Vec::new();
        let mut stop = Stop::begin(100, 0, &mut out);
        stop.handle_announced(peers, &mut out);
        stop.handle_drained(vec![handoff(1), handoff(2)], &mut out);
        assert_eq!(
            out,
            [
                Effect::Announce { for_ms: 300 },
                Effect::BeginDrain,
                Effect::Drain { to: FIRST },
                Effect::HandOff { to: FIRST, handoffs: vec![handoff(1), handoff(2)] },
            ]
        );
        stop
    }

    fn after(stop: &mut Stop, result: &HandedOff) -> Vec<Effect> {
        let mut out = Vec::new();
        stop.handle_handed_off(result, &[FIRST, SECOND], &mut out);
        out
    }

    #[test]
    fn a_node_answers_for_as_long_as_the_load_balancer_needs() {
        let mut out = Vec::new();
        let _stop = Stop::begin(100, 5_000, &mut out);
        assert_eq!(out, [Effect::Announce { for_ms: 5_000 }]);
    }

    #[test]
    fn a_report_that_a_peer_cannot_use_keeps_no_balances_from_it() {
        let mut out = Vec::new();
        let mut stop = Stop::begin(100, 0, &mut out);
        stop.handle_announced(&[FIRST, SECOND], &mut out);
        let report = Handoff { tokens: 0, ..handoff(2) };
        stop.handle_drained(vec![handoff(1), report], &mut out);
        let effects = after(&mut stop, &HandedOff::Answered(vec![true, false]));
        assert_eq!(effects, [Effect::Drain { to: FIRST }]);
    }

    #[test]
    fn a_peer_that_accepts_everything_gets_the_rest_too() {
        let mut stop = handing_off(&[FIRST, SECOND]);
        let effects = after(&mut stop, &HandedOff::Answered(vec![true, true]));
        assert_eq!(effects, [Effect::Drain { to: FIRST }]);
        let mut out = Vec::new();
        stop.handle_drained(Vec::new(), &mut out);
        assert_eq!(out, [Effect::Save], "nothing is left");
    }

    #[test]
    fn what_a_peer_rejects_is_offered_to_the_next_one() {
        let mut stop = handing_off(&[FIRST, SECOND]);
        let effects = after(&mut stop, &HandedOff::Answered(vec![true, false]));
        let back = Effect::TakeBack { from: FIRST, handoff: handoff(2) };
        assert_eq!(effects, [back, Effect::Drain { to: SECOND }]);
    }

    #[test]
    fn what_certainly_did_not_arrive_is_taken_back() {
        let mut stop = handing_off(&[FIRST, SECOND]);
        let back = [1, 2].map(|window| Effect::TakeBack { from: FIRST, handoff: handoff(window) });
        let [one, two] = back;
        let effects = after(&mut stop, &HandedOff::NotDelivered);
        assert_eq!(effects, [one, two, Effect::Drain { to: SECOND }]);
    }

    #[test]
    fn what_may_have_arrived_is_not_taken_back() {
        let mut stop = handing_off(&[FIRST, SECOND]);
        assert_eq!(after(&mut stop, &HandedOff::Unknown), [Effect::Drain { to: SECOND }]);
        let mut stop = handing_off(&[FIRST, SECOND]);
        let short = HandedOff::Answered(vec![true]);
        assert_eq!(after(&mut stop, &short), [Effect::Drain { to: SECOND }]);
    }

    #[test]
    fn the_file_is_written_before_the_leadership_goes_and_that_before_the_end() {
        let mut out = Vec::new();
        let mut stop = Stop::begin(100, 0, &mut out);
        out.clear();
        stop.handle_announced(&[], &mut out);
        assert_eq!(out, [Effect::BeginDrain, Effect::Save], "no peer takes anything");
        out.clear();
        stop.handle_leader_gone(&mut out);
        assert_eq!(out, [], "not yet");
        stop.handle_saved(true, &[FIRST], &mut out);
        stop.handle_leader_gone(&mut out);
        let late = "tokens that arrived meanwhile are written too";
        assert_eq!(out, [Effect::HandLeadershipOver, Effect::Save], "{late}");
        out.clear();
        stop.handle_leader_gone(&mut out);
        stop.handle_saved(true, &[FIRST], &mut out);
        assert_eq!(out, [Effect::End]);
    }

    #[test]
    fn a_node_without_a_peer_that_would_answer_keeps_the_leadership() {
        let mut out = Vec::new();
        let mut stop = Stop::begin(100, 0, &mut out);
        stop.handle_announced(&[], &mut out);
        out.clear();
        stop.handle_saved(true, &[], &mut out);
        assert_eq!(out, [Effect::End]);
    }

    #[test]
    fn a_node_that_does_not_lead_writes_its_file_once() {
        let mut out = Vec::new();
        let mut stop = Stop::begin(100, 0, &mut out);
        stop.handle_announced(&[], &mut out);
        out.clear();
        stop.handle_saved(false, &[FIRST], &mut out);
        assert_eq!(out, [Effect::End]);
    }

    #[test]
    fn an_answer_that_comes_twice_counts_once() {
        let mut stop = handing_off(&[FIRST, SECOND]);
        after(&mut stop, &HandedOff::NotDelivered);
        assert_eq!(after(&mut stop, &HandedOff::NotDelivered), []);
    }
}
