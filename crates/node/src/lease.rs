//! Drives node leases: this node's own, and, on the leader, those of the others.

mod jumps;
mod refusals;
mod start;
mod told;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::{Former, Grant, Granter};
use fluxgate_engine::registry::cluster_state::Incarnation;
use fluxgate_engine::registry::command::{Actor, Command, Outcome};
use fluxgate_raft::{Call, CallError};
use fluxgate_types::{BootId, BootNs, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{boot_now, nanos};
use crate::core::{Core, InOffice};
use crate::node::NodeError;
use crate::peer;
use crate::peer::messages::{LeaseCall, LeaseCallV2, LeaseRefusal, LeaseReply, LeaseReplyV2};
use crate::time::{settle_time, wall_target_ns};
use jumps::{JumpWatch, drop_after_a_stop};
use refusals::{lease_refusal, refused_by};
use start::StartNote;
use told::{Refused, ToldWhy};

/// Longest wait for a leader's answer.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_millis(50);
/// Why a node without a word from the others has no lease.
const WAITS_FOR_OTHERS: &str = "this node has not heard from enough other nodes yet";
/// Why a node that cannot store what was committed has none: it would hold up every write.
const LACKS_ENTRIES: &str = "its disk is full, and it lacks entries that are committed";

/// Renews this node's lease for as long as it runs.
pub(crate) async fn run_renewals(core: Arc<Core>) {
    let mut told = ToldWhy::default();
    let mut jumps = JumpWatch::default();
    let mut start = StartNote::default();
    // Listening BEFORE looking: a change in between must not be missed.
    let mut news = core.cluster.news();
    loop {
        let leader = core.cluster.leader();
        jumps.look(&core);
        let renewed = match leader {
            // Nothing is asked before it is known that this directory may speak for its node.
            _ if !core.may_vote() => Err(WAITS_FOR_OTHERS.to_owned()),
            _ if core.cluster.lacks_entries() => Err(LACKS_ENTRIES.to_owned()),
            None => Err("no leader is known".to_owned()),
            Some(node) => match start.ask(&core).await {
                Ok(()) if node == core.me => renew_own(&core, &mut jumps).await,
                Ok(()) => renew_with(&core, node, &mut jumps).await,
                Err(error) => Err(format!("this start cannot be noted on the disk: {error}")),
            },
        };
        if renewed.is_ok() {
            start.registered(&core).await;
        }
        let terms = core.terms_in_force();
        let pause = match &renewed {
            Ok(()) if leader == Some(core.me) => Duration::from_millis(terms.own_renew_ms()),
            Ok(()) => Duration::from_millis(terms.renew_ms()),
            Err(_) => RETRY,
        };
        told.tell(renewed.err().map(|error| Refused::of(&core, error)));
        tokio::select! {
            biased;
            () = core.renew_now.notified() => {}
            () = wait_for_news(&core, &mut news, leader, pause) => {}
        }
    }
}

/// Waits for the next renewal, or for another leader.
async fn wait_for_news(
    core: &Core,
    news: &mut watch::Receiver<()>,
    leader: Option<NodeId>,
    pause: Duration,
) {
    let until = Instant::now() + pause;
    while core.cluster.leader() == leader {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::timeout(left, news.changed()).await.ok();
    }
}

fn lease_call(core: &Core) -> LeaseCallV2 {
    let first =
        LeaseCall { boot: core.boot(), dir_id: core.dir_id, applied: core.cluster.applied() };
    LeaseCallV2 { first, nonce: core.nonce }
}

/// Asks another node for a lease, in the version that it knows.
async fn ask(core: &Core, leader: NodeId) -> Result<LeaseReplyV2, CallError> {
    let call = lease_call(core);
    if core.speaks_2(leader) {
        return peer::call_2(core, leader, Call::Lease, &call, ASK_TIMEOUT).await;
    }
    let answer = peer::call(core, leader, Call::Lease, &call.first, ASK_TIMEOUT).await?;
    Ok(match answer {
        LeaseReply::Granted(grant) => LeaseReplyV2::Granted(grant),
        LeaseReply::NotLeader => LeaseReplyV2::NotLeader,
        LeaseReply::Refused(why) => LeaseReplyV2::Refused(LeaseRefusal::Other(why)),
    })
}

async fn renew_with(core: &Arc<Core>, leader: NodeId, jumps: &mut JumpWatch) -> Result<(), String> {
    // The lease counts from BEFORE the request leaves: the leader counts from after it came.
    let sent = boot_now();
    let answer = ask(core, leader).await;
    let jumped = jumps.look(core);
    let result = match answer {
        // How long the answer took cannot be said: the next one tells.
        Ok(LeaseReplyV2::Granted(_)) if jumped => Err("the clock jumped meanwhile".to_owned()),
        Ok(LeaseReplyV2::Granted(grant)) => {
            let received = boot_now();
            let estimate = grant.cluster_ns.saturating_add(received.since(sent) / 2);
            drop_after_a_stop(core, jumps, received, estimate, received.since(sent));
            core.clock.steer(|clock| clock.follow(received, estimate));
            take(core, sent, &grant);
            Ok(())
        }
        Ok(LeaseReplyV2::NotLeader) => Err(format!("node {leader} is not the leader")),
        Ok(LeaseReplyV2::Refused(why)) => Err(refused(core, why)),
        Err(error) => Err(error.to_string()),
    };
    core.metrics.renewed(match &result {
        Ok(()) => "granted",
        Err(_) => "failed",
    });
    result
}

/// What a refusal by the leader means for this node. What the leader's state says is committed: a
/// directory that it knows to be older must not go on.
fn refused(core: &Core, why: LeaseRefusal) -> String {
    let text = why.to_string();
    match &why {
        LeaseRefusal::Older { newest, .. } => {
            core.end(NodeError::OlderDirectory { node: core.me, newest: *newest })
        }
        LeaseRefusal::OtherDirectory(_) => core.end(NodeError::OtherDirectory(core.me)),
        LeaseRefusal::Behind
        | LeaseRefusal::Removed(_)
        | LeaseRefusal::Differs
        | LeaseRefusal::Other(_) => {}
        LeaseRefusal::CountOn { newest, .. } => core.count_on_from(BootId(newest.0 + 1)),
    }
    *core.lease_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    text
}

async fn renew_own(core: &Arc<Core>, jumps: &mut JumpWatch) -> Result<(), String> {
    if !core.clock.is_synced() {
        settle_time(core).await?;
    }
    let sent = boot_now();
    let call = lease_call(core);
    let granted = tokio::time::timeout(ASK_TIMEOUT, core.grant(core.me, &call)).await;
    let result = match granted {
        Ok(LeaseReplyV2::Granted(_)) if jumps.look(core) => {
            Err("the clock jumped meanwhile".to_owned())
        }
        Ok(LeaseReplyV2::Granted(grant)) => {
            take(core, sent, &grant);
            let (now, target) = (boot_now(), wall_target_ns(core));
            // A jump that was committed, and whose answer was lost, counts too.
            let stamp_ns = core.shared.last_stamp().0.saturating_mul(1_000_000);
            core.clock.steer(|clock| {
                clock.catch_up(now, stamp_ns);
                clock.lead(now, target);
            });
            Ok(())
        }
        Ok(LeaseReplyV2::NotLeader) => Err("this node does not lead yet".to_owned()),
        Ok(LeaseReplyV2::Refused(why)) => Err(refused(core, why)),
        Err(_) => Err("no quorum answered".to_owned()),
    };
    core.metrics.renewed(if result.is_ok() { "granted" } else { "failed" });
    result
}

fn take(core: &Core, sent: BootNs, grant: &Grant) {
    {
        let mut holder = core.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_grant(sent, grant, core.cluster.applied());
        core.publish_lease(&holder);
    }
    *core.lease_refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Tells the holder what has been applied, so that grants which wait for it count.
pub(crate) async fn run_applied(core: Arc<Core>) {
    let mut applied = core.cluster.watch_applied();
    loop {
        let index = *applied.borrow_and_update();
        {
            let mut holder = core.holder.lock().unwrap_or_else(PoisonError::into_inner);
            holder.handle_applied(index);
            core.publish_lease(&holder);
        }
        let error_ms = core.terms().1.clock_error_ms_max;
        if core.life().clock_error_ms_max != error_ms {
            core.change_life(|life| {
                life.clock_error_ms_max = error_ms;
                true
            });
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

impl Core {
    /// Serves a follower's request for a lease.
    pub(crate) async fn handle_lease(&self, from: NodeId, call: LeaseCallV2) -> LeaseReplyV2 {
        self.grant(from, &call).await
    }

    /// The same for a follower of version 0.1, which has no nonce.
    pub(crate) async fn handle_lease_v1(&self, from: NodeId, call: LeaseCall) -> LeaseReply {
        if self.shared.cluster().level >= 2 {
            // One that knows better asks again in a moment; a start without its nonce is not kept.
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
        let Some(term) = self.take_office() else { return LeaseReplyV2::NotLeader };
        if self.agreement.differs() {
            return LeaseReplyV2::Refused(LeaseRefusal::Differs);
        }
        if let Err(refusal) = self.check_start(node, call).await {
            return refusal;
        }
        // Read BEFORE the proof: a pause in between must not promise more than was proven.
        let cluster_ns = self.clock.now_ns();
        // Proven AFTER the request came in: nothing committed before it can be missing.
        let Ok(read_index) = self.cluster.confirm_leadership().await else {
            return LeaseReplyV2::NotLeader;
        };
        // Applied BEFORE the terms are read: a change of the terms that was committed before the
        // proof must count for this grant (`engine/lease/terms`).
        self.cluster.wait_applied(read_index).await;
        let (terms, cautious) = self.terms();
        let mut office = self.office.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(office) = office.as_mut().filter(|office| office.term == term) else {
            return LeaseReplyV2::NotLeader;
        };
        office.granter.set_terms(terms, cautious);
        let applied = call.first.applied;
        if node != self.me && office.granter.lags(boot_now(), node, applied) {
            return LeaseReplyV2::Refused(LeaseRefusal::Behind);
        }
        let grant = office.granter.grant(boot_now(), node, applied, read_index, cluster_ns);
        self.granted.notify_waiters();
        LeaseReplyV2::Granted(grant)
    }

    /// One data directory per node id, and of this the newest start: another one has forgotten what
    /// the node promised.
    async fn check_start(&self, node: NodeId, call: &LeaseCallV2) -> Result<(), LeaseReplyV2> {
        let (dir_id, view, cluster) =
            (call.first.dir_id, self.shared.view(), self.shared.cluster());
        let incarnation = Incarnation { boot: call.first.boot, nonce: call.nonce };
        let known = view.nodes.get(&node).is_some_and(|known| {
            known.dir_id == dir_id
                && !known.removed
                && (cluster.level < 2 || cluster.incarnations.get(&node) == Some(&incarnation))
        });
        if known {
            return Ok(());
        }
        if let Some(refusal) = refused_by(&view, &cluster, node, dir_id, incarnation) {
            return Err(LeaseReplyV2::Refused(refusal));
        }
        let command = if cluster.level < 2 {
            Command::RegisterNode { node, dir_id }
        } else {
            Command::RegisterIncarnation { node, dir_id, incarnation }
        };
        let proposal = crate::writes::proposal(Actor::System, None, command);
        match self.cluster.submit(proposal).await {
            Ok(done) => match done.outcome {
                Outcome::Done | Outcome::Key(_) | Outcome::Put(_) => Ok(()),
                Outcome::Refused(refusal) => {
                    let removed = view.nodes.get(&node).is_some_and(|known| known.removed);
                    Err(LeaseReplyV2::Refused(lease_refusal(refusal, removed)))
                }
            },
            Err(_) => Err(LeaseReplyV2::NotLeader),
        }
    }

    /// The term of this node's office, entered now if it was just elected. `None` where it does
    /// not lead, or its first entry is not committed yet: before that it may grant nothing.
    pub(crate) fn take_office(&self) -> Option<u64> {
        // A clock that nobody has set must not promise anything: see `settle_time`.
        let term = self.cluster.leads_in().filter(|_| self.clock.is_synced())?;
        let (now, before) = self.cluster.offices();
        let now = now.filter(|office| office.term == term && office.node == self.me)?;
        let mut slot = self.office.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|office| office.term == now.term) {
            return Some(now.term);
        }
        let at = boot_now();
        let former = before.map(|office| Former {
            node: office.node,
            // The monotonic clock does not count suspends, so this is late at worst: safe.
            seen_since: BootNs(at.0.saturating_sub(nanos(office.seen_since.elapsed()))),
        });
        let view = self.shared.view();
        let members = self.cluster.status().nodes;
        let nodes = view.nodes.keys().chain(members.keys()).copied();
        let (terms, cautious) = self.terms();
        let mut granter = Granter::new(cautious, self.me, at, nodes, former);
        granter.set_terms(terms, cautious);
        *slot = Some(InOffice { term: now.term, granter });
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_elected(at, &terms);
        self.publish_lease(&holder);
        drop(holder);
        // A jump of cluster time that was committed counts here too.
        let stamp_ns = self.shared.last_stamp().0.saturating_mul(1_000_000);
        self.clock.steer(|clock| clock.catch_up(at, stamp_ns));
        self.metrics.elected(self.cluster.was_handed());
        match former.map(|former| former.node).filter(|node| *node != self.me) {
            Some(node) => {
                tracing::info!(term = now.term, previous = node.0, "this node leads the cluster")
            }
            None => tracing::info!(term = now.term, "this node leads the cluster"),
        }
        Some(now.term)
    }
}
