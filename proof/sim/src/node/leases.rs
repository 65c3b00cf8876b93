//! Leases, cluster time, and what a leader owes the cluster: mirrors `node/lease` and
//! `node/leader`.

use fluxgate_engine::fault::Mutation;
use fluxgate_engine::lease::{Grant, Granter, LeaseTerms, PreviousLeader};
use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::share_map::ShareMapPlanner;
use fluxgate_engine::state::command::{Command, Outcome};
use fluxgate_types::{BootNs, ClusterMs, DirId, Limit, LogIndex, NodeId};

use super::writing::ProposalWaiter;
use super::{Granting, LeaderTerm, Node, Step};
use crate::messages::{CallId, Message, Timer};
use crate::mutation::DriverMutation;
use crate::plan::{MS, Us};

/// Longest wait for a leader's answer.
const ASK_TIMEOUT: Us = 500 * MS;
/// What a map begins later than it must, milliseconds.
const MAP_SLACK_MS: u64 = 1_000;

impl Node {
    fn renew_after(&mut self, after: Us, step: &mut Step<'_>) {
        self.renew_at = step.now + after;
        step.wake(after, Timer::Renew);
    }

    /// Renewal is due, or was.
    pub(super) fn renew(&mut self, step: &mut Step<'_>) {
        if step.now < self.renew_at {
            return;
        }
        let (terms, _) = self.look_at_terms(step);
        match self.raft.leader() {
            Some(node) if node == self.id => {
                if self.clock.is_synced() {
                    let token = step.number();
                    self.renewing = Some((token, self.boot_now(step.now)));
                    self.ask_grant(None, token, LogIndex(self.applied as u64), step);
                } else {
                    self.settle_time(step);
                }
                self.renew_after(terms.own_renew_ms() * MS, step);
            }
            Some(node) => {
                let call = step.number();
                self.renewing = Some((call, self.boot_now(step.now)));
                step.send(node, Message::Lease(call, LogIndex(self.applied as u64)));
                step.wake(ASK_TIMEOUT, Timer::Over(call));
                self.renew_after(terms.renew_ms() * MS, step);
            }
            None => self.renew_after(step.plan.heartbeat / 2, step),
        }
    }

    /// The terms in force, and the longest whose promises may not have ended.
    pub(super) fn look_at_terms(&mut self, step: &Step<'_>) -> (LeaseTerms, LeaseTerms) {
        let now = self.boot_now(step.now);
        self.terms.observe(now, &self.shared.cluster().terms);
        let file = step.plan.file(self.id, self.boot);
        if step.is(DriverMutation::TermsOfFile) {
            return (file, file);
        }
        (self.terms.in_force(), self.terms.cautious(now))
    }

    /// A leader that nobody told the time asks a quorum.
    fn settle_time(&mut self, step: &mut Step<'_>) {
        if self.settling.is_some() {
            return;
        }
        let call = step.number();
        self.settling = Some((call, 1, None, self.lower_bound_ns(step.now)));
        for (node, _) in self.incarnation.peers.clone() {
            step.send(node, Message::Time(call));
        }
        step.wake(ASK_TIMEOUT, Timer::Over(call));
        self.try_settle(step);
    }

    fn try_settle(&mut self, step: &Step<'_>) {
        let Some((_, heard, told, floor)) = self.settling else { return };
        let voters = self.incarnation.peers.len() + 1;
        if heard > voters / 2 {
            self.settling = None;
            let boot = self.boot_now(step.now);
            self.clock.begin_leadership(boot, told, floor);
        }
    }

    /// Another node says what time it is.
    pub(super) fn handle_time(
        &mut self,
        call: CallId,
        told: Option<u64>,
        floor: u64,
        step: &Step<'_>,
    ) {
        if let Some(settling) = self.settling.as_mut().filter(|settling| settling.0 == call) {
            settling.1 += 1;
            settling.2 = settling.2.max(told);
            settling.3 = settling.3.max(floor);
            self.try_settle(step);
        }
    }

    /// A node asks for a lease.
    pub(super) fn handle_lease(
        &mut self,
        from: NodeId,
        call: CallId,
        applied: LogIndex,
        step: &mut Step<'_>,
    ) {
        let token = step.number();
        self.ask_grant(Some((from, call)), token, applied, step);
    }

    fn refuse(&mut self, to: Option<(NodeId, CallId)>, step: &mut Step<'_>) {
        match to {
            Some((node, call)) => step.send(node, Message::Leased(call, None)),
            None => self.renew_after(step.plan.heartbeat / 2, step),
        }
    }

    fn ask_grant(
        &mut self,
        to: Option<(NodeId, CallId)>,
        token: u64,
        applied: LogIndex,
        step: &mut Step<'_>,
    ) {
        let node = to.map_or(self.id, |(node, _)| node);
        if self.assume_leadership(step).is_none() {
            return self.refuse(to, step);
        }
        if !self.view().nodes.contains_key(&node) {
            let command = Command::RegisterNode { node, dir_id: DirId(node.0) };
            self.propose_own(command, ProposalWaiter::Unattended, step);
            return self.refuse(to, step);
        }
        // Read BEFORE the proof.
        let cluster_ns = self.cluster_ns(step.now);
        self.granting.insert(token, Granting { to, applied, cluster_ns });
        if step.is(DriverMutation::NoQuorum) {
            let at = self.raft.unproven();
            return self.handle_confirmed(token, at, step);
        }
        step.wake(ASK_TIMEOUT, Timer::Over(token));
        let mut out = Vec::new();
        self.raft.confirm(token, &mut out);
        self.consent(out, step);
    }

    /// A proof of leadership came, or cannot come.
    pub(super) fn handle_confirmed(&mut self, token: u64, at: Option<usize>, step: &mut Step<'_>) {
        let Some(Granting { to, applied, cluster_ns }) = self.granting.remove(&token) else {
            return;
        };
        let node = to.map_or(self.id, |(node, _)| node);
        let (terms, cautious) = self.look_at_terms(step);
        let applied_here = self.applied;
        let (now, leads) = (self.boot_now(step.now), self.raft.leads_in());
        let granter = self.leadership.as_mut().filter(|leadership| Some(leadership.term) == leads);
        // Applied BEFORE the terms were read.
        let (Some(at), Some(leadership)) = (at.filter(|at| *at <= applied_here), granter) else {
            return self.refuse(to, step);
        };
        let granter = &mut leadership.granter;
        granter.set_terms(terms, cautious);
        if to.is_some() && granter.lags(now, node, applied) {
            return self.refuse(to, step);
        }
        let grant = granter.grant(now, node, applied, LogIndex(at as u64), cluster_ns);
        self.look_at_barriers(step);
        match to {
            Some((node, call)) => step.send(node, Message::Leased(call, Some(grant))),
            None => {
                let sent = self.renewing.take().filter(|(of, _)| *of == token);
                if let Some((_, sent)) = sent {
                    self.take(sent, &grant, step);
                    let wall = self.machine.wall_ns(step.now);
                    self.clock.lead(now, wall);
                }
            }
        }
    }

    /// A leader has answered.
    pub(super) fn handle_leased(
        &mut self,
        call: CallId,
        grant: Option<&Grant>,
        step: &mut Step<'_>,
    ) {
        let Some((_, sent)) = self.renewing.take_if(|(of, _)| *of == call) else { return };
        let Some(grant) = grant else {
            return self.renew_after(step.plan.heartbeat / 2, step);
        };
        let received = self.boot_now(step.now);
        self.clock.follow(received, grant.cluster_ns + received.since(sent) / 2);
        self.take(sent, grant, step);
    }

    fn take(&mut self, sent: BootNs, grant: &Grant, step: &Step<'_>) {
        let sent =
            if step.is(DriverMutation::LeaseFromAnswer) { self.boot_now(step.now) } else { sent };
        self.holder.handle_grant(sent, grant, LogIndex(self.applied as u64));
        let first = self.holder.first();
        if self.incarnation.first_lease != first {
            self.change_incarnation(|incarnation: &mut Incarnation| {
                incarnation.first_lease = first
            });
        }
    }

    /// The term of this node's office, entered now if it was just elected.
    pub(super) fn assume_leadership(&mut self, step: &Step<'_>) -> Option<u64> {
        let term = self.raft.leads_in().filter(|_| self.clock.is_synced())?;
        let (now, before) = self.leaderships;
        now.filter(|leadership| leadership.term == term && leadership.node == self.id)?;
        if self.leadership.as_ref().is_some_and(|leadership| leadership.term == term) {
            return Some(term);
        }
        let at = self.boot_now(step.now);
        let previous = before.map(|o| PreviousLeader { node: o.node, seen_since: o.since });
        let view = self.view();
        let peers = self.incarnation.peers.iter().map(|(node, _)| *node);
        let nodes: Vec<NodeId> = view.nodes.keys().copied().chain(peers).chain([self.id]).collect();
        let (terms, cautious) = self.look_at_terms(step);
        let mut granter = Granter::new(cautious, self.id, at, nodes, previous);
        granter.set_terms(terms, cautious);
        self.leadership = Some(LeaderTerm { term, granter, planner: ShareMapPlanner::default() });
        self.holder.handle_elected(at, &terms);
        Some(term)
    }

    /// What the leader does every now and then.
    pub(super) fn look_after(&mut self, step: &mut Step<'_>) {
        step.wake(step.plan.leader_look, Timer::Look);
        self.look_at_barriers(step);
        let Some(term) = self.assume_leadership(step).filter(|_| self.stopping == 0) else {
            return;
        };
        let view = self.view();
        let limit = |(n, &(tokens, period_ms)): (usize, &(u64, u64))| Limit {
            name: format!("l{n}").into(),
            tokens,
            period_ms,
        };
        if view.defaults.is_empty() {
            let limits = step.plan.limits.iter().enumerate().map(limit).collect();
            self.propose_own(Command::SetDefaults { limits }, ProposalWaiter::Unattended, step);
        }
        let file = step.plan.file(self.id, self.boot);
        if self.shared.cluster().terms() != Some(file) {
            self.propose_own(Command::SetTerms { terms: file }, ProposalWaiter::Unattended, step);
        }
        let Some(last) = view.share_maps.last() else {
            let nodes = (1..=step.plan.nodes).map(|node| (NodeId(node), 1)).collect();
            let map = ShareMap { from: ClusterMs(0), nodes };
            self.propose_own(Command::SetShareMap { map, term }, ProposalWaiter::Unattended, step);
            return;
        };
        let (now, cluster) = (self.boot_now(step.now), self.cluster_now(step.now));
        let (in_force, terms) = self.look_at_terms(step);
        let applied = LogIndex(self.applied as u64);
        let Some(leadership) = self.leadership.as_mut() else { return };
        leadership.granter.set_terms(in_force, terms);
        if leadership.granter.map_pending().is_some_and(|from| from <= last.from) {
            leadership.granter.handle_map_committed(applied);
        }
        let members = (1..=step.plan.nodes).map(|node| (NodeId(node), true));
        let next = leadership.planner.next(now, &terms, &leadership.granter, members, &view);
        let Some(nodes) = next.filter(|_| leadership.granter.map_pending().is_none()) else {
            return;
        };
        if step.is(DriverMutation::LostForEver) && nodes.len() > last.nodes.len() {
            return;
        }
        let mut from = cluster + (terms.map_ahead_ms() + MAP_SLACK_MS);
        if Mutation::MapAtOnce.active() {
            // For the windows that run, too.
            from = ClusterMs(cluster.0.saturating_sub(60_000)).max(last.from + 1);
        }
        if leadership.granter.handle_map_proposed(cluster, from) {
            let map = ShareMap { from, nodes };
            let command = Command::SetShareMap { map, term };
            self.propose_own(command, ProposalWaiter::Map(from, term), step);
        }
    }

    /// A share map's proposal has an outcome.
    pub(super) fn handle_map_outcome(
        &mut self,
        from: ClusterMs,
        term: u64,
        applied: Option<(LogIndex, &Outcome)>,
    ) {
        let Some(leadership) =
            self.leadership.as_mut().filter(|leadership| leadership.term == term)
        else {
            return;
        };
        match applied {
            Some((_, Outcome::Refused(_))) => leadership.granter.handle_map_dropped(from),
            Some((index, _)) => leadership.granter.handle_map_committed(index),
            // It may yet be committed.
            None => {}
        }
    }
}
