//! Drives node leases: this node's own, and, on the leader, those of the others.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::{Former, Grant, Granter};
use fluxgate_engine::registry::command::{Actor, Command, Outcome};
use fluxgate_raft::{Call, process};
use fluxgate_types::{BootNs, NodeId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::{boot_now, wall_ns};
use crate::core::{Core, InOffice};
use crate::peer;
use crate::peer::messages::{LeaseCall, LeaseReply, StatusReply};

/// Longest wait for a leader's answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_millis(50);

/// Renews this node's lease for as long as it runs.
pub(crate) async fn run_renewals(core: Arc<Core>) {
    let mut last_refusal = String::new();
    // Listening BEFORE looking: a change in between must not be missed.
    let mut news = core.cluster.news();
    loop {
        let leader = core.cluster.leader();
        let renewed = match leader {
            Some(node) if node == core.me => renew_own(&core).await,
            Some(node) => renew_with(&core, node).await,
            None => Err("no leader is known".to_owned()),
        };
        let pause = match &renewed {
            Ok(()) if leader == Some(core.me) => Duration::from_millis(core.terms.own_renew_ms()),
            Ok(()) => Duration::from_millis(core.terms.renew_ms()),
            Err(_) => RETRY,
        };
        let refusal = renewed.err().unwrap_or_default();
        if refusal != last_refusal {
            if refusal.is_empty() {
                tracing::info!("the lease is renewed");
            } else {
                tracing::warn!(reason = %refusal, "the lease is not renewed");
            }
            last_refusal = refusal;
        }
        wait_for_news(&core, &mut news, leader, pause).await;
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

async fn renew_with(core: &Arc<Core>, leader: NodeId) -> Result<(), String> {
    let call = LeaseCall { boot: core.boot, dir_id: core.dir_id, applied: core.cluster.applied() };
    // The lease counts from BEFORE the request leaves: the leader counts from after it came.
    let sent = boot_now();
    let answer = peer::call(core, leader, Call::Lease, &call, ASK_TIMEOUT).await;
    let result = match answer {
        Ok(LeaseReply::Granted(grant)) => {
            let received = boot_now();
            let estimate = grant.cluster_ns + received.since(sent) / 2;
            core.clock.steer(|clock| clock.follow(received, estimate));
            take(core, sent, &grant);
            Ok(())
        }
        Ok(LeaseReply::NotLeader) => Err("the node asked does not lead".to_owned()),
        Ok(LeaseReply::Refused(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    };
    core.metrics.renewed(match &result {
        Ok(()) => "granted",
        Err(_) => "failed",
    });
    result
}

/// A leader that was told the time by no other leader asks a quorum, before it grants or stamps
/// anything: its wall clock may be behind what the cluster had reached.
async fn settle_time(core: &Arc<Core>) -> Result<(), String> {
    let members = core.cluster.status().nodes;
    let voters: Vec<NodeId> = members.iter().filter(|(_, n)| n.votes).map(|(id, _)| *id).collect();
    let quorum = voters.len() / 2 + 1;
    let mut asking = JoinSet::new();
    for node in voters.into_iter().filter(|node| *node != core.me) {
        let core = Arc::clone(core);
        asking.spawn(process::bind(async move {
            let sent = boot_now();
            let reply =
                peer::call::<_, StatusReply>(&core, node, Call::Status, &(), ASK_TIMEOUT).await;
            let received = boot_now();
            // As of `received`: half the round trip is the best guess at the way back.
            let told = |ns| (ns + received.since(sent) / 2, received);
            reply.map(|reply| (reply.told_ns.map(told), reply.floor_ns))
        }));
    }
    let (mut heard, mut told_at, mut floor_ns) = (1, Vec::new(), core.clock_floor_ns());
    while heard < quorum {
        match asking.join_next().await {
            Some(Ok(Ok((told, floor)))) => {
                heard += 1;
                told_at.extend(told);
                floor_ns = floor_ns.max(floor);
            }
            Some(_) => {}
            None => return Err("no quorum says what time the cluster has reached".to_owned()),
        }
    }
    let now = boot_now();
    let told_ns = told_at.into_iter().map(|(ns, at): (u64, BootNs)| ns + now.since(at)).max();
    core.clock.steer(|clock| clock.begin_office(now, told_ns, floor_ns));
    Ok(())
}

async fn renew_own(core: &Arc<Core>) -> Result<(), String> {
    if !core.clock.is_synced() {
        settle_time(core).await?;
    }
    let sent = boot_now();
    let call = LeaseCall { boot: core.boot, dir_id: core.dir_id, applied: core.cluster.applied() };
    let granted = tokio::time::timeout(ASK_TIMEOUT, core.grant(core.me, &call)).await;
    let result = match granted {
        Ok(LeaseReply::Granted(grant)) => {
            take(core, sent, &grant);
            let now = boot_now();
            core.clock.steer(|clock| clock.lead(now, wall_ns()));
            Ok(())
        }
        Ok(LeaseReply::NotLeader) => Err("this node does not lead yet".to_owned()),
        Ok(LeaseReply::Refused(why)) => Err(why),
        Err(_) => Err("no quorum answered".to_owned()),
    };
    core.metrics.renewed(if result.is_ok() { "granted" } else { "failed" });
    result
}

fn take(core: &Core, sent: BootNs, grant: &Grant) {
    let first = {
        let mut holder = core.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_grant(sent, grant, core.cluster.applied());
        core.publish_lease(&holder);
        holder.first()
    };
    if core.life().first_lease != first {
        core.change_life(|life| {
            life.first_lease = first;
            true
        });
    }
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
        if applied.changed().await.is_err() {
            return;
        }
    }
}

impl Core {
    /// Serves a follower's request for a lease.
    pub(crate) async fn handle_lease(&self, from: NodeId, call: LeaseCall) -> LeaseReply {
        self.grant(from, &call).await
    }

    /// Grants a lease, if this node leads and can prove it.
    async fn grant(&self, node: NodeId, call: &LeaseCall) -> LeaseReply {
        let Some(term) = self.take_office() else { return LeaseReply::NotLeader };
        if let Err(refusal) = self.check_directory(node, call).await {
            return refusal;
        }
        // Read BEFORE the proof: a pause in between must not promise more than was proven.
        let cluster_ns = self.clock.now_ns();
        // Proven AFTER the request came in: nothing committed before it can be missing.
        let Ok(read_index) = self.cluster.confirm_leadership().await else {
            return LeaseReply::NotLeader;
        };
        let mut office = self.office.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(office) = office.as_mut().filter(|office| office.term == term) else {
            return LeaseReply::NotLeader;
        };
        if node != self.me && office.granter.lags(boot_now(), node, call.applied) {
            let why =
                "this node has not applied what its last lease told it to: it must catch up first";
            return LeaseReply::Refused(why.to_owned());
        }
        let grant = office.granter.grant(boot_now(), node, call.applied, read_index, cluster_ns);
        self.granted.notify_waiters();
        LeaseReply::Granted(grant)
    }

    /// One data directory per node id, for ever: another one has forgotten what this id promised.
    async fn check_directory(&self, node: NodeId, call: &LeaseCall) -> Result<(), LeaseReply> {
        match self.shared.view().nodes.get(&node) {
            Some(known) if known.dir_id == call.dir_id && !known.removed => return Ok(()),
            Some(known) => {
                let why = if known.removed {
                    "was removed from the cluster"
                } else {
                    "ran on another data directory"
                };
                let why =
                    format!("node {node} {why}: add the node with a new id and an empty directory");
                return Err(LeaseReply::Refused(why));
            }
            None => {}
        }
        let command = Command::RegisterNode { node, dir_id: call.dir_id };
        let proposal = crate::writes::proposal(Actor::System, None, command);
        match self.cluster.submit(proposal).await {
            Ok(done) => match done.outcome {
                Outcome::Done | Outcome::Key(_) | Outcome::Put(_) => Ok(()),
                Outcome::Refused(refusal) => Err(LeaseReply::Refused(refusal.to_string())),
            },
            Err(_) => Err(LeaseReply::NotLeader),
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
        let granter = Granter::new(self.terms, self.me, at, nodes, former);
        *slot = Some(InOffice { term: now.term, granter });
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.handle_elected(at, &self.terms);
        self.publish_lease(&holder);
        tracing::info!(term = now.term, former = ?former.map(|f| f.node.0), "this node leads");
        Some(now.term)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
