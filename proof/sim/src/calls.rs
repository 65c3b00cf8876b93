//! Calls to other nodes that have no answer yet: a stand-in for `crates/peer`.
//!
//! Answers for: a call ends once, with its answers, a refusal, or because its time is over.

use std::collections::BTreeMap;

use fluxgate_engine::join::Heard;
use fluxgate_engine::member::{self, ClocksHeard};
use fluxgate_types::{BootNs, NodeId};

use crate::messages::{Answer, CallId};

/// What waits for the answer to a call.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// The member, for a lease.
    Lease(member::CallId),
    /// The member, for a round to a quorum.
    Proof(member::CallId),
    /// The member, for clocks: what suffices, and those so far.
    Clocks(member::CallId, Option<usize>, ClocksHeard),
    /// The member, for a change that was forwarded to the leader.
    Forward(member::CallId),
    /// The member, for how far this peer has applied.
    Applied(NodeId),
    /// The counters, for transfers of this peer.
    Transfers(NodeId),
    /// The orderly stop.
    Handoffs,
    /// The process that joins: when it asked, and the introductions so far.
    Introductions(BootNs, BTreeMap<NodeId, Heard>),
}

/// A call that is over: who waits for it, and the answer; none if its time is over, or the answers of
/// several nodes are with the waiter.
pub(crate) type Over = (Waiter, Option<Answer>);

/// The calls that are open.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    // Each with the nodes that have not answered.
    open: BTreeMap<CallId, (Waiter, Vec<NodeId>)>,
}

impl Calls {
    /// Opens a call to these nodes.
    pub(crate) fn open(&mut self, call: CallId, nodes: &[NodeId], waiter: Waiter) {
        self.open.insert(call, (waiter, nodes.to_vec()));
    }

    /// A node answered at this moment of the caller's boot clock. The call's end, if this is it: a
    /// message may arrive twice, and some calls wait for several nodes.
    pub(crate) fn handle_answer(
        &mut self,
        call: CallId,
        from: NodeId,
        answer: Answer,
        now: BootNs,
    ) -> Option<Over> {
        let (waiter, missing) = self.open.get_mut(&call)?;
        let place = missing.iter().position(|node| *node == from)?;
        missing.remove(place);
        let is_over = match (waiter, answer) {
            (Waiter::Clocks(_, enough, heard), answer) => {
                if let Answer::Clocks(clocks, contact_ago_ns) = answer {
                    heard.add(clocks, contact_ago_ns, now);
                }
                missing.is_empty() || heard.suffice(*enough)
            }
            (Waiter::Introductions(sent, heard), answer) => {
                if let Answer::Introduction(said) = answer {
                    let at = BootNs(sent.0 + now.since(*sent) / 2);
                    heard.insert(from, Heard { said: *said, at });
                }
                missing.is_empty()
            }
            (_, answer) => {
                let (waiter, _) = self.open.remove(&call)?;
                return Some((waiter, Some(answer)));
            }
        };
        if is_over { self.close(call) } else { None }
    }

    /// The time of a call is over, or nothing more is awaited.
    pub(crate) fn close(&mut self, call: CallId) -> Option<Over> {
        self.open.remove(&call).map(|(waiter, _)| (waiter, None))
    }
}
