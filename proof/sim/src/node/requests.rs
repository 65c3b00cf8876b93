//! Requests of clients: changes and validates.

use fluxgate_engine::fault::Mutation;
use fluxgate_engine::state::command::Proposal;
use fluxgate_engine::state::record::Status;
use fluxgate_types::NodeId;

use super::Node;
use super::step::Step;
use crate::messages::{CallId, Request, Seen};

/// The one that waits for a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteWaiter {
    /// A client of this node.
    Client(u64),
    /// Another node, which forwarded it.
    Node(NodeId, CallId),
}

impl Node {
    /// A client asks for a change.
    pub fn write(&mut self, id: u64, proposal: Proposal, step: &mut Step<'_>) {
        let call = self.member.next_call();
        self.writes.insert(call, WriteWaiter::Client(id));
        let within_ms = step.plan.write_timeout_ms();
        self.act(step, |m, at| m.handle_write(call, proposal, within_ms, true, at));
    }

    /// A validate arrives.
    pub fn validate(&mut self, request: Request, step: &mut Step<'_>) {
        let now = step.now;
        let leased = self.is_leased(now) || Mutation::SpendWithoutLease.active();
        if !leased {
            step.see(Seen::Unavailable(request));
            return;
        }
        let at = self.cluster_now(now);
        let active =
            self.shared.table.with(&request.key, |entry| entry.record.status(at) == Status::Active);
        let limits = self.key_limits(&request.key);
        let (Some(true), Some(limits)) = (active, limits) else {
            step.see(Seen::Rejected(request));
            return;
        };
        self.request(request, &limits, step);
    }
}
