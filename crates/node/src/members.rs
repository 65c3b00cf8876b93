//! Changes of the members, the leadership and cluster time that an operator requests.
//!
//! Answers for: a mistake changes nothing. Adding a node never redirects a member, and a member is
//! not removed if the remaining ones would have no majority up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use fluxgate_engine::state::command::{Actor, Command, Outcome};
use fluxgate_peer::{CallError, process};
use fluxgate_raft::{MembershipError, NodeStatus};
use fluxgate_types::{ClusterMs, DirId, NodeId};
use fluxgate_wire::peer::{MembershipCallV2, MembershipReply};
use tokio::time::Instant;

use crate::clock::boot_now;
use crate::proposal::proposal;
use crate::state::NodeState;

/// Pause before a change is retried.
const RETRY: Duration = Duration::from_millis(20);
/// How long an added node may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(8);
/// How long a hand-over of the leadership may take.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How far cluster time may be set ahead of the members' wall clocks, milliseconds.
const SET_TIME_AHEAD_MS: u64 = 24 * 3_600 * 1_000;
/// How long a node may take to answer, and a name to be resolved.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(700);
/// How long an added node may take to come up.
const COME_UP: Duration = Duration::from_secs(3);
/// How long a removal may take before it is reported as unfinished.
const CHANGE: Duration = Duration::from_secs(5);

fn refused(why: impl Into<String>) -> MembershipError {
    MembershipError::Refused(why.into())
}

impl NodeState {
    /// Carries out a change, on the leader.
    pub async fn handle_membership(&self, call: MembershipCallV2) -> MembershipReply {
        let changed = match &call {
            MembershipCallV2::Add { node, address } => self.add_or_move(*node, address).await,
            MembershipCallV2::Remove { node, force } => self.remove_member(*node, *force).await,
            MembershipCallV2::HandOver { to } => self.hand_over(*to).await,
            MembershipCallV2::SetTime { to, from } => self.set_time(*to, from.clone()).await,
        };
        match changed {
            Ok(()) => MembershipReply::Done { leader: self.raft.leader() },
            Err(MembershipError::NotLeader) => MembershipReply::NotLeader,
            Err(MembershipError::Refused(why)) => MembershipReply::Refused(why),
        }
    }

    /// Adds a node, or changes a member's address to one at which that same node answers.
    async fn add_or_move(&self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        let member = self.raft.status().nodes.get(&node).cloned();
        let Some(member) = member.filter(|member| member.votes) else {
            self.is_reached_by_all(node, address).await?;
            self.is_there(node, address).await?;
            return self.raft.add_node(node, address, CATCH_UP).await;
        };
        if member.address == address {
            return match self.raft.status().changing {
                None => Ok(()),
                Some(_) => Err(refused("another change of the members is under way")),
            };
        }
        self.is_reached_by_all(node, address).await?;
        let directory = self.shared.view().nodes.get(&node).map(|known| known.dir_id);
        let said = self.calls.introduce(node, Some(address), ANSWER_TIMEOUT).await;
        match said {
            Ok(said) if said.node == node && Some(said.dir_id) == directory => {
                tracing::info!(node = node.0, address, "the member answers at a new address");
                self.raft.move_node(node, address).await
            }
            answer => Err(refused(not_that_node(node, &member, address, answer.err().as_ref()))),
        }
    }

    /// Rejects an address that means a different machine on every machine, such as `localhost` or
    /// `0.0.0.0`, unless all members run on one machine.
    async fn is_reached_by_all(&self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        #[cfg(feature = "sim")]
        if process::current().is_some() {
            // Simulated calls have no addresses.
            return Ok(());
        }
        let only_here = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified();
        let of = resolve(address).await;
        if of.is_empty() {
            return Err(refused(format!("{address} is no address that this node can look up")));
        }
        if of.iter().any(IpAddr::is_unspecified) {
            return Err(refused(format!("{address} is an address to listen on, not one to call")));
        }
        if !of.iter().all(only_here) {
            return Ok(());
        }
        let status = self.raft.status();
        for (other, member) in status.nodes.iter().filter(|(id, _)| **id != node) {
            if !resolve(&member.address).await.iter().all(only_here) {
                return Err(refused(format!(
                    "{address} is another machine for each node, and node {other} is at {}: give the \
                     address at which all of them reach node {node}",
                    member.address
                )));
            }
        }
        Ok(())
    }

    /// Checks that this node answers at the address, or comes up soon.
    async fn is_there(&self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        let begun = Instant::now();
        loop {
            let why = match self.calls.introduce(node, Some(address), ANSWER_TIMEOUT).await {
                Ok(said) if said.node == node && self.was_removed(node, said.dir_id) => {
                    return Err(refused(format!(
                        "node {node} was removed and still has the data directory of that time: stop \
                         it, empty the directory, start it, and add it again"
                    )));
                }
                Ok(said) if said.node == node => return Ok(()),
                Ok(said) => format!("node {} answers at {address}", said.node),
                Err(CallError::Refused { status: 404, .. }) if self.shared.cluster().level < 2 => {
                    // Version 0.1 does not know the call.
                    return Ok(());
                }
                Err(CallError::Refused { status, .. }) => format!(
                    "what answers at {address} is not the peer listener of that node of this cluster \
                     (status {status})"
                ),
                Err(_) if begun.elapsed() < COME_UP => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => format!("it does not answer at {address} ({error})"),
            };
            return Err(refused(format!(
                "node {node} was not added: {why}. Start it first, and give the address of its peer \
                 listener"
            )));
        }
    }

    /// Whether this directory ran under this id and was removed: it has forgotten its promises.
    fn was_removed(&self, node: NodeId, dir_id: DirId) -> bool {
        let view = self.shared.view();
        view.nodes.get(&node).is_some_and(|known| known.removed && known.dir_id == dir_id)
    }

    /// Those of these nodes that answer now. The last gossip of them may be seconds old.
    async fn answer_now(&self, nodes: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let asked = nodes.map(|node| async move {
            let here =
                node == self.me || self.calls.introduce(node, None, ANSWER_TIMEOUT).await.is_ok();
            here.then_some(node)
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Hands the leadership over to a node that answers.
    async fn hand_over(&self, to: Option<NodeId>) -> Result<(), MembershipError> {
        if let Some(to) = to.filter(|to| *to != self.me) {
            let votes = self.raft.status().nodes.get(&to).is_some_and(|member| member.votes);
            if !votes {
                return Err(refused(format!("node {to} is no voter of this cluster")));
            }
            if self.answer_now([to].into_iter()).await.is_empty() {
                return Err(refused(format!(
                    "node {to} does not answer, so it cannot lead: nothing was changed"
                )));
            }
        }
        self.raft.transfer_leadership(to, HAND_OVER).await.map(drop)
    }

    /// Removes a member, unless the remaining ones would have no majority up.
    async fn remove_member(&self, node: NodeId, force: bool) -> Result<(), MembershipError> {
        let status = self.raft.status();
        let stay: Vec<NodeId> = status
            .nodes
            .iter()
            .filter(|(id, member)| **id != node && member.votes)
            .map(|(id, _)| *id)
            .collect();
        let answer = self.answer_now(stay.iter().copied()).await;
        let (up, down): (Vec<NodeId>, Vec<NodeId>) =
            stay.into_iter().partition(|id| answer.contains(id));
        let voters = up.len() + down.len();
        let votes = status.nodes.get(&node).is_some_and(|member| member.votes);
        if votes && !force && voters > 0 && up.len() * 2 <= voters {
            let (names, them) = match down.as_slice() {
                [one] => (format!("node {one} does"), "it"),
                more => {
                    let names: Vec<String> = more.iter().map(NodeId::to_string).collect();
                    (format!("nodes {} do", names.join(", ")), "them")
                }
            };
            return Err(refused(format!(
                "{names} not answer: without node {node} only {} of {voters} voters would be up, which \
                 is no majority, and the cluster would stop. Bring {them} back, or remove {them} first; \
                 with `--force` node {node} is removed nevertheless",
                up.len(),
            )));
        }
        // The removal continues if it takes longer than the caller waits: half a change is worse
        // than none.
        let cluster = self.raft.clone();
        let removal = process::bind(async move { cluster.remove_node(node).await });
        match tokio::time::timeout(CHANGE, tokio::spawn(removal)).await {
            Ok(Ok(removed)) => removed?,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => {
                return Err(refused(format!(
                    "the removal of node {node} was begun and has not ended: it takes a majority of \
                     the members with node {node} and of those without it. It ends by itself once \
                     enough of them are up; then remove it again, so that it is recorded"
                )));
            }
        }
        let command = Command::RemoveNode { node };
        let recorded = self
            .writes
            .write(proposal(Actor::Operator, None, command), self.config.request_timeout);
        match recorded.await {
            Ok(_) => Ok(()),
            Err(_) => Err(refused(
                "the node was removed, but the record was not kept: remove it again once the cluster \
                 has a leader",
            )),
        }
    }

    /// The median of the members' wall clocks, asked for now: their last gossip is relative to
    /// cluster time, which may have been set since.
    async fn wall_clocks_say(&self) -> ClusterMs {
        let members: Vec<NodeId> = self.raft.status().nodes.into_keys().collect();
        let asked = members.into_iter().filter(|node| *node != self.me).map(|node| async move {
            let sent = boot_now();
            let said = self.calls.introduce(node, None, ANSWER_TIMEOUT).await.ok()?;
            // Half the round trip is the best estimate of the way back.
            Some(said.time.wall_ns.saturating_add(boot_now().since(sent) / 2))
        });
        let others = futures_util::future::join_all(asked).await;
        let mut walls: Vec<u64> = others.into_iter().flatten().collect();
        walls.push(crate::clock::wall_ns());
        walls.sort_unstable();
        ClusterMs(walls[(walls.len() - 1) / 2] / 1_000_000)
    }

    /// Sets cluster time forward, and this leader's clock with it: the others follow with their
    /// leases.
    async fn set_time(
        &self,
        to: Option<ClusterMs>,
        from: Option<Box<str>>,
    ) -> Result<(), MembershipError> {
        if self.shared.cluster().level < 2 {
            return Err(refused("not before every node runs version 0.2 or later"));
        }
        let (now, target) = (self.now(), self.wall_clocks_say().await);
        let to = to.unwrap_or(target);
        if to <= now {
            return Err(refused(format!(
                "cluster time is {now} and never goes back; the wall clocks of the members say {target}"
            )));
        }
        if to > target + SET_TIME_AHEAD_MS {
            return Err(refused(format!(
                "{to} is more than a day ahead of {target}, which the wall clocks of the members say: \
                 cluster time could not be set back"
            )));
        }
        let command = Command::SetTime { to };
        let made = self
            .writes
            .write(proposal(Actor::Operator, from, command), self.config.request_timeout);
        match made.await.map(|written| written.outcome) {
            // Committed BEFORE the clock jumps: a new leader begins no earlier.
            Ok(Outcome::Done) => {
                tracing::warn!(from = %now, %to, "cluster time was set forward by the operator");
                let to_ns = to.0.saturating_mul(1_000_000);
                self.member.step(|member, step| member.handle_time_set(to_ns, step));
                Ok(())
            }
            Ok(Outcome::Refused(refusal)) => Err(refused(refusal.to_string())),
            Ok(Outcome::Key(_) | Outcome::Put(_) | Outcome::Named(_)) => {
                Err(refused("no such answer"))
            }
            Err(_) => Err(MembershipError::NotLeader),
        }
    }

    /// Carries out a change, wherever the leader is.
    pub async fn change_membership(
        &self,
        call: MembershipCallV2,
    ) -> Result<Option<NodeId>, String> {
        let deadline = Instant::now() + self.config.request_timeout;
        while Instant::now() < deadline {
            let reply = match self.raft.leader() {
                Some(node) if node == self.me => self.handle_membership(call.clone()).await,
                Some(node) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.calls.ask_2(node, &call, left).await {
                        Ok(reply) => reply,
                        Err(CallError::Refused { status: 400, .. }) => {
                            return Err(format!(
                                "node {node} leads and runs an older program: upgrade it first"
                            ));
                        }
                        Err(_) => MembershipReply::NotLeader,
                    }
                }
                None => MembershipReply::NotLeader,
            };
            match reply {
                MembershipReply::Done { leader } => return Ok(leader),
                MembershipReply::Refused(why) => return Err(why),
                MembershipReply::NotLeader => self.raft.wait_for_change(RETRY).await,
            }
        }
        Err(String::new())
    }
}

/// The addresses to which a host and port resolve here; empty if they do not resolve in time.
async fn resolve(address: &str) -> Vec<IpAddr> {
    let looked_up = tokio::time::timeout(ANSWER_TIMEOUT, tokio::net::lookup_host(address)).await;
    looked_up.ok().and_then(Result::ok).into_iter().flatten().map(|at| at.ip()).collect()
}

fn not_that_node(
    node: NodeId,
    member: &NodeStatus,
    address: &str,
    error: Option<&CallError>,
) -> String {
    let why = match error {
        None => format!("another data directory answers at {address}"),
        Some(CallError::Refused { .. }) => format!("another node answers at {address}"),
        Some(_) => format!("it does not answer at {address}"),
    };
    format!(
        "node {node} is a member at {}, and {why}: nothing was changed. A member that was moved must \
         run at its new address before this is asked",
        member.address
    )
}
