//! Changes of the members, the leadership and the time that the operator asks for.
//!
//! Answers for: a mistake changes nothing. A node that is added never redirects a member, and a
//! member is not removed where the rest would have no majority up.

use std::time::Duration;

use fluxgate_engine::registry::command::{Actor, Command, Outcome};
use fluxgate_raft::{Call, CallError, MembershipError, NodeStatus};
use fluxgate_types::{ClusterMs, NodeId};
use tokio::time::Instant;

use crate::clock::boot_now;
use crate::core::Core;
use crate::peer;
use crate::peer::messages::{MembershipCall, MembershipCallV2, MembershipReply};
use crate::time::wall_target_ns;
use crate::writes::proposal;

/// Pause before a change is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// How long a node that is added may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(8);
/// How long a hand-over of the leadership may take.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Cluster time may be set ahead of the members' wall clocks by so much, milliseconds.
const SET_TIME_AHEAD_MS: u64 = 24 * 3_600 * 1_000;
/// How long a member may take to answer at a new address.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(700);

impl From<MembershipCall> for MembershipCallV2 {
    fn from(call: MembershipCall) -> Self {
        match call {
            MembershipCall::Add { node, address } => Self::Add { node, address },
            // A program of version 0.1 knew of no refusal.
            MembershipCall::Remove { node } => Self::Remove { node, force: false },
            MembershipCall::HandOver { to } => Self::HandOver { to },
        }
    }
}

fn refused(why: impl Into<String>) -> MembershipError {
    MembershipError::Refused(why.into())
}

impl Core {
    /// Makes a change, on the leader.
    pub(crate) async fn handle_membership(&self, call: MembershipCallV2) -> MembershipReply {
        let changed = match &call {
            MembershipCallV2::Add { node, address } => self.add_or_move(*node, address).await,
            MembershipCallV2::Remove { node, force } => self.remove_member(*node, *force).await,
            MembershipCallV2::HandOver { to } => {
                self.cluster.hand_over(*to, HAND_OVER).await.map(drop)
            }
            MembershipCallV2::SetTime { to, from } => self.set_time(*to, from.clone()).await,
        };
        match changed {
            Ok(()) => MembershipReply::Done { leader: self.cluster.leader() },
            Err(MembershipError::NotLeader) => MembershipReply::NotLeader,
            Err(MembershipError::Refused(why)) => MembershipReply::Refused(why),
        }
    }

    /// Adds a node, or gives a member the address at which that very node answers.
    async fn add_or_move(&self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        let member = self.cluster.status().nodes.get(&node).cloned();
        let Some(member) = member.filter(|member| member.votes) else {
            return self.cluster.add_node(node, address, CATCH_UP).await;
        };
        if member.address == address {
            return Ok(());
        }
        let directory = self.shared.view().nodes.get(&node).map(|known| known.dir_id);
        let said = peer::introduce(self, node, Some(address), ANSWER_TIMEOUT).await;
        match said {
            Ok(said) if said.node == node && Some(said.dir_id) == directory => {
                tracing::info!(node = node.0, address, "the member answers at a new address");
                self.cluster.move_node(node, address).await
            }
            answer => Err(refused(not_that_node(node, &member, address, answer.err().as_ref()))),
        }
    }

    /// Removes a member, unless the rest would have no majority up.
    async fn remove_member(&self, node: NodeId, force: bool) -> Result<(), MembershipError> {
        let status = self.cluster.status();
        let stay = status.nodes.iter().filter(|(id, member)| **id != node && member.votes);
        let (up, down): (Vec<NodeId>, Vec<NodeId>) =
            stay.map(|(id, _)| *id).partition(|id| *id == self.me || self.heard_lately(*id));
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
                 with `--force` node {node} is removed all the same",
                up.len(),
            )));
        }
        self.cluster.remove_node(node).await?;
        let command = Command::RemoveNode { node };
        let recorded =
            self.write(proposal(Actor::Operator, None, command), self.config.request_timeout);
        match recorded.await {
            Ok(_) => Ok(()),
            Err(_) => Err(refused(
                "the node was removed, but the record was not kept: remove it again once the cluster \
                 has a leader",
            )),
        }
    }

    /// Sets cluster time forward, and this leader's clock with it: the others follow by their leases.
    async fn set_time(
        &self,
        to: Option<ClusterMs>,
        from: Option<Box<str>>,
    ) -> Result<(), MembershipError> {
        if self.shared.cluster().level < 2 {
            return Err(refused("not before every node runs version 0.2 or later"));
        }
        let (now, target) = (self.now(), ClusterMs(wall_target_ns(self) / 1_000_000));
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
        let made =
            self.write(proposal(Actor::Operator, from, command), self.config.request_timeout);
        match made.await.map(|written| written.outcome) {
            // Committed BEFORE the clock jumps: a new leader begins no earlier.
            Ok(Outcome::Done) => {
                tracing::warn!(from = %now, %to, "cluster time was set forward by the operator");
                let boot = boot_now();
                self.clock.steer(|clock| clock.catch_up(boot, to.0.saturating_mul(1_000_000)));
                self.renew_now.notify_one();
                Ok(())
            }
            Ok(Outcome::Refused(refusal)) => Err(refused(refusal.to_string())),
            Ok(Outcome::Key(_) | Outcome::Put(_)) => Err(refused("no such answer")),
            Err(_) => Err(MembershipError::NotLeader),
        }
    }

    /// Makes a change, wherever the leader is.
    pub(crate) async fn change_membership(
        &self,
        call: MembershipCallV2,
    ) -> Result<Option<NodeId>, String> {
        let deadline = Instant::now() + self.config.request_timeout;
        while Instant::now() < deadline {
            let reply = match self.cluster.leader() {
                Some(node) if node == self.me => self.handle_membership(call.clone()).await,
                Some(node) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match peer::call_2(self, node, Call::Membership, &call, left).await {
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
                MembershipReply::NotLeader => self.cluster.changed(RETRY).await,
            }
        }
        Err(String::new())
    }
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
