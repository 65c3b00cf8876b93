//! Drives node leases: this node's own, and, on the leader, those of the others.

mod jumps;
mod start;
mod told;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::{
    Grant, Granter, LeaseRefusal, PreviousLeader, StartStanding, standing_of,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{Actor, Command, Outcome};
use fluxgate_peer::CallError;
use fluxgate_types::{BootId, BootNs, NodeId};
use fluxgate_wire::peer::{LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2};
use jumps::JumpDriver;
use start::StartNote;
use tokio::sync::watch;
use tokio::time::Instant;
use told::{Refused, ToldWhy};

use crate::clock::{boot_now, nanos};
use crate::node::NodeError;
use crate::peer;
use crate::state::{LeaderTerm, NodeState};
use crate::time::{settle_time, wall_target_ns};

/// Longest wait for a leader's answer.
pub const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_millis(50);
/// Why a node that has not heard from the others has no lease.
const WAITS_FOR_OTHERS: &str = "this node has not heard from enough other nodes yet";
/// Why a node that cannot store committed entries has no lease: it would delay every write.
const LACKS_ENTRIES: &str = "its disk is full, and it lacks entries that are committed";

/// Renews this node's lease for as long as the node runs.
pub async fn run_renewals(state: Arc<NodeState>) {
    let mut told = ToldWhy::default();
    let mut jumps = JumpDriver::default();
    let mut start = StartNote::default();
    // Listen BEFORE checking: a change in between must not be missed.
    let mut news = state.raft.subscribe();
    loop {
        let leader = state.raft.leader();
        jumps.look(&state);
        let renewed = match leader {
            // No request is sent before it is known that this directory may act for its node.
            _ if !state.may_vote() => Err(WAITS_FOR_OTHERS.to_owned()),
            _ if state.raft.lacks_entries() => Err(LACKS_ENTRIES.to_owned()),
            None => Err("no leader is known".to_owned()),
            Some(node) => match start.ask(&state).await {
                Ok(()) if node == state.me => renew_own(&state, &mut jumps).await,
                Ok(()) => renew_with(&state, node, &mut jumps).await,
                Err(error) => Err(format!("this start cannot be noted on the disk: {error}")),
            },
        };
        if renewed.is_ok() {
            start.registered(&state).await;
        }
        let terms = state.terms_in_force();
        let pause = match &renewed {
            Ok(()) if leader == Some(state.me) => Duration::from_millis(terms.own_renew_ms()),
            Ok(()) => Duration::from_millis(terms.renew_ms()),
            Err(_) => RETRY,
        };
        told.tell(renewed.err().map(|error| Refused::of(&state, error)));
        tokio::select! {
            biased;
            () = state.renew_now.notified() => {}
            () = wait_for_news(&state, &mut news, leader, pause) => {}
        }
    }
}

/// Waits for the next renewal, or for a change of leader.
async fn wait_for_news(
    state: &NodeState,
    news: &mut watch::Receiver<()>,
    leader: Option<NodeId>,
    pause: Duration,
) {
    let until = Instant::now() + pause;
    while state.raft.leader() == leader {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::timeout(left, news.changed()).await.ok();
    }
}

fn lease_call(state: &NodeState) -> LeaseCallV2 {
    let first =
        LeaseCall { boot: state.boot(), dir_id: state.dir_id, applied: state.raft.applied() };
    LeaseCallV2 { first, nonce: state.nonce }
}

/// Requests a lease from another node, in the version that it speaks.
async fn ask(state: &NodeState, leader: NodeId) -> Result<LeaseReplyV2, CallError> {
    let call = lease_call(state);
    if state.speaks_2(leader) {
        return peer::ask_2(state, leader, &call, ASK_TIMEOUT).await;
    }
    let answer = state.transport.ask(leader, &call.first, ASK_TIMEOUT).await?;
    Ok(match answer {
        LeaseReply::Granted(grant) => LeaseReplyV2::Granted(grant),
        LeaseReply::NotLeader => LeaseReplyV2::NotLeader,
        LeaseReply::Refused(why) => LeaseReplyV2::Refused(LeaseRefusal::Other(why)),
    })
}

async fn renew_with(
    state: &Arc<NodeState>,
    leader: NodeId,
    jumps: &mut JumpDriver,
) -> Result<(), String> {
    // The lease counts from BEFORE the request is sent: the leader counts from after it arrived.
    let sent = boot_now();
    let answer = ask(state, leader).await;
    let jumped = jumps.look(state);
    let result = match answer {
        // The clock jumped, so the time that the answer took is unknown: the next request decides.
        Ok(LeaseReplyV2::Granted(_)) if jumped => Err("the clock jumped meanwhile".to_owned()),
        Ok(LeaseReplyV2::Granted(grant)) => {
            let received = boot_now();
            let estimate = grant.cluster_ns.saturating_add(received.since(sent) / 2);
            jumps.look_at_leader(state, received, estimate, received.since(sent));
            state.clock.adjust(|clock| clock.follow(received, estimate));
            take(state, sent, &grant);
            Ok(())
        }
        Ok(LeaseReplyV2::NotLeader) => Err(format!("node {leader} is not the leader")),
        Ok(LeaseReplyV2::Refused(why)) => Err(refused(state, why)),
        Err(error) => Err(error.to_string()),
    };
    state.metrics.renewed(match &result {
        Ok(()) => "granted",
        Err(_) => "failed",
    });
    result
}

/// Acts on a rejection by the leader. The leader's state is committed: a directory that it knows to
/// be older must not continue.
fn refused(state: &NodeState, why: LeaseRefusal) -> String {
    let text = why.to_string();
    match &why {
        LeaseRefusal::Older { newest, .. } => {
            state.end(NodeError::OlderDirectory { node: state.me, newest: *newest })
        }
        LeaseRefusal::OtherDirectory(_) => state.end(NodeError::OtherDirectory(state.me)),
        LeaseRefusal::Behind
        | LeaseRefusal::Removed(_)
        | LeaseRefusal::Differs
        | LeaseRefusal::Other(_) => {}
        LeaseRefusal::CountOn { newest, .. } => state.count_on_from(BootId(newest.0 + 1)),
    }
    *state.lease_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    text
}

async fn renew_own(state: &Arc<NodeState>, jumps: &mut JumpDriver) -> Result<(), String> {
    if !state.clock.is_synced() {
        settle_time(state).await?;
    }
    let sent = boot_now();
    let call = lease_call(state);
    let granted = tokio::time::timeout(ASK_TIMEOUT, state.grant(state.me, &call)).await;
    let result = match granted {
        Ok(LeaseReplyV2::Granted(_)) if jumps.look(state) => {
            Err("the clock jumped meanwhile".to_owned())
        }
        Ok(LeaseReplyV2::Granted(grant)) => {
            take(state, sent, &grant);
            let (now, target) = (boot_now(), wall_target_ns(state));
            // Includes a clock jump that was committed but whose answer was lost.
            let stamp_ns = state.shared.last_stamp().0.saturating_mul(1_000_000);
            state.clock.adjust(|clock| {
                clock.catch_up(now, stamp_ns);
                clock.lead(now, target);
            });
            Ok(())
        }
        Ok(LeaseReplyV2::NotLeader) => Err("this node does not lead yet".to_owned()),
        Ok(LeaseReplyV2::Refused(why)) => Err(refused(state, why)),
        Err(_) => Err("no quorum answered".to_owned()),
    };
    state.metrics.renewed(if result.is_ok() { "granted" } else { "failed" });
    result
}

fn take(state: &NodeState, sent: BootNs, grant: &Grant) {
    {
        let mut holder = state.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_grant(sent, grant, state.raft.applied());
        state.publish_lease(&holder);
    }
    *state.lease_refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Reports the applied index to the lease holder, so that grants which wait for it take effect.
pub async fn run_applied(state: Arc<NodeState>) {
    let mut applied = state.raft.watch_applied();
    loop {
        let index = *applied.borrow_and_update();
        {
            let mut holder = state.holder.lock().unwrap_or_else(PoisonError::into_inner);
            holder.handle_applied(index);
            state.publish_lease(&holder);
        }
        let error_ms = state.terms().1.clock_error_ms_max;
        if state.incarnation().clock_error_ms_max != error_ms {
            state.change_incarnation(|incarnation| {
                incarnation.clock_error_ms_max = error_ms;
                true
            });
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

impl NodeState {
    /// Serves a node's request for a lease.
    pub async fn handle_lease(&self, from: NodeId, call: LeaseCallV2) -> LeaseReplyV2 {
        self.grant(from, &call).await
    }

    /// The same for a follower of version 0.1, which sends no nonce.
    pub async fn handle_lease_v1(&self, from: NodeId, call: LeaseCall) -> LeaseReply {
        if self.shared.cluster().level >= 2 {
            // A newer node retries with a nonce in a moment; a start without a nonce is not
            // registered.
            return LeaseReply::Refused("this call has no nonce".to_owned());
        }
        match self.grant(from, &LeaseCallV2 { first: call, nonce: 0 }).await {
            LeaseReplyV2::Granted(grant) => LeaseReply::Granted(grant),
            LeaseReplyV2::NotLeader => LeaseReply::NotLeader,
            LeaseReplyV2::Refused(why) => LeaseReply::Refused(why.to_string()),
        }
    }

    /// Grants a lease, if this node leads and can prove it.
    async fn grant(&self, node: NodeId, call: &LeaseCallV2) -> LeaseReplyV2 {
        let Some(term) = self.assume_leadership() else { return LeaseReplyV2::NotLeader };
        if self.agreement.differs() {
            return LeaseReplyV2::Refused(LeaseRefusal::Differs);
        }
        if let Err(refusal) = self.check_start(node, call).await {
            return refusal;
        }
        // Read BEFORE the proof: a pause in between must not promise more than was proven.
        let cluster_ns = self.clock.now_ns();
        // Proven AFTER the request arrived: no entry committed before it can be missing.
        let Ok(read_index) = self.raft.confirm_leadership().await else {
            return LeaseReplyV2::NotLeader;
        };
        // Applied BEFORE the terms are read: a change of the terms that was committed before the
        // proof must count for this grant (`engine/lease/terms`).
        self.raft.wait_applied(read_index).await;
        let (terms, cautious) = self.terms();
        let mut leadership = self.leadership.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(leadership) = leadership.as_mut().filter(|leadership| leadership.term == term)
        else {
            return LeaseReplyV2::NotLeader;
        };
        leadership.granter.set_terms(terms, cautious);
        let applied = call.first.applied;
        if node != self.me && leadership.granter.lags(boot_now(), node, applied) {
            return LeaseReplyV2::Refused(LeaseRefusal::Behind);
        }
        let grant = leadership.granter.grant(boot_now(), node, applied, read_index, cluster_ns);
        self.granted.notify_waiters();
        LeaseReplyV2::Granted(grant)
    }

    /// Accepts one data directory per node id, and only its newest start: any other has forgotten
    /// what the node promised.
    async fn check_start(&self, node: NodeId, call: &LeaseCallV2) -> Result<(), LeaseReplyV2> {
        let (dir_id, view, cluster) =
            (call.first.dir_id, self.shared.view(), self.shared.cluster());
        let start_id = StartId { boot: call.first.boot, nonce: call.nonce };
        match standing_of(&view, &cluster, node, dir_id, start_id) {
            StartStanding::Registered => return Ok(()),
            StartStanding::Rejected(refusal) => return Err(LeaseReplyV2::Refused(refusal)),
            StartStanding::Unknown => {}
        }
        let command = if cluster.level < 2 {
            Command::RegisterNode { node, dir_id }
        } else {
            Command::RegisterStart { node, dir_id, start_id }
        };
        let proposal = crate::writes::proposal(Actor::System, None, command);
        match self.raft.submit(proposal).await {
            Ok(done) => match done.outcome {
                Outcome::Done | Outcome::Key(_) | Outcome::Put(_) => Ok(()),
                Outcome::Refused(refusal) => {
                    let removed = view.nodes.get(&node).is_some_and(|known| known.removed);
                    Err(LeaseReplyV2::Refused(LeaseRefusal::of_command(refusal, removed)))
                }
            },
            Err(_) => Err(LeaseReplyV2::NotLeader),
        }
    }

    /// Returns this node's leader term, and begins it if the node was just elected. `None` if it
    /// does not lead, or its first entry is not committed yet: before that it may grant nothing.
    pub fn assume_leadership(&self) -> Option<u64> {
        // A clock that is not synchronized must not promise anything: see `settle_time`.
        let term = self.raft.leads_in().filter(|_| self.clock.is_synced())?;
        let (now, before) = self.raft.leaderships();
        let now = now.filter(|leadership| leadership.term == term && leadership.node == self.me)?;
        let mut slot = self.leadership.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|leadership| leadership.term == now.term) {
            return Some(now.term);
        }
        let at = boot_now();
        let previous = before.map(|leadership| PreviousLeader {
            node: leadership.node,
            // The monotonic clock does not count suspends, so this is late at worst: safe.
            seen_since: BootNs(at.0.saturating_sub(nanos(leadership.seen_since.elapsed()))),
        });
        let view = self.shared.view();
        let members = self.raft.status().nodes;
        let nodes = view.nodes.keys().chain(members.keys()).copied();
        let (terms, cautious) = self.terms();
        let mut granter = Granter::new(cautious, self.me, at, nodes, previous);
        granter.set_terms(terms, cautious);
        *slot = Some(LeaderTerm { term: now.term, granter });
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_elected(at, &terms);
        self.publish_lease(&holder);
        drop(holder);
        // Includes a jump of cluster time that was committed.
        let stamp_ns = self.shared.last_stamp().0.saturating_mul(1_000_000);
        self.clock.adjust(|clock| clock.catch_up(at, stamp_ns));
        self.metrics.elected(self.raft.was_handed());
        match previous.map(|previous| previous.node).filter(|node| *node != self.me) {
            Some(node) => {
                tracing::info!(term = now.term, previous = node.0, "this node leads the cluster")
            }
            None => tracing::info!(term = now.term, "this node leads the cluster"),
        }
        Some(now.term)
    }
}
