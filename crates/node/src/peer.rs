//! What nodes say to each other besides Raft.
//!
//! Every message names the life that it comes from and the one that it is meant for. Losing,
//! repeating and reordering them is harmless by design (`engine/counters`, `engine/lease`).

pub(crate) mod listener;
pub(crate) mod messages;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::counters::{Ask, Gift, Reply, Sender, Told};
use fluxgate_raft::{Call, CallError, process, wire};
use fluxgate_types::{BootId, NodeId, caps};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::Core;
use crate::counters::Telling;
use messages::{
    About, AskMessage, GiveMessage, GiveReply, GossipMessage, GossipReply, Head, ReplyMessage,
};

/// Calls a node with a message of ours and reads its answer.
pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
    core: &Core,
    peer: NodeId,
    call: Call,
    question: &Q,
    timeout: Duration,
) -> Result<A, CallError> {
    let broken = |cause: String| CallError::Broken { node: peer, cause };
    let body = wire::encode(question).map_err(|error| broken(error.to_string()))?;
    let answer = core.transport.call(peer, call, body, timeout).await?;
    wire::decode(&answer).map_err(|error| broken(error.to_string()))
}

/// Asks every other node the same at once; `None` from one that did not answer in time, or does
/// not know the call yet.
pub(crate) async fn ask_all<Q, A>(
    core: &Arc<Core>,
    call: Call,
    question: &Q,
    timeout: Duration,
) -> Vec<(NodeId, Option<A>)>
where
    Q: Serialize + Clone + Send + Sync + 'static,
    A: DeserializeOwned + Send + 'static,
{
    let mut asking = tokio::task::JoinSet::new();
    for (node, _) in core.life().peers.iter().copied() {
        let (core, question) = (Arc::clone(core), question.clone());
        asking.spawn(process::bind(async move {
            let reply = self::call(&core, node, call, &question, timeout).await;
            (node, reply.ok())
        }));
    }
    let mut replies = asking.join_all().await;
    replies.sort_by_key(|(node, _)| *node);
    replies
}

impl Core {
    /// The head of a message to a peer.
    pub(crate) fn head(&self, to: NodeId) -> Head {
        let life = self.life();
        Head { boot: self.boot, to: life.lives.of(to) }
    }

    /// Takes a head in: notes the sender's life. `None` for a late message, or one that was meant
    /// for another life of this node: its figures must not count.
    pub(crate) fn receive(&self, from: NodeId, head: &Head) -> Option<Sender> {
        let newest = self.note_life(from, head.boot);
        self.note_reachable(from, true);
        let mine = head.to.is_none_or(|boot| boot == self.boot);
        (newest && mine).then_some(Sender { node: from, boot: head.boot })
    }

    /// Notes the lives that another node knows of, also of nodes that are gone by now.
    pub(crate) fn note_lives(&self, lives: &[(NodeId, BootId)]) {
        for (node, boot) in lives.iter().filter(|(node, _)| *node != self.me) {
            self.note_life(*node, *boot);
        }
    }

    /// What this node says of itself.
    pub(crate) fn about(&self) -> About {
        let status = self.cluster.status();
        let left = self.lease_until().since(crate::clock::boot_now());
        About {
            role: status.role.as_str().to_owned(),
            term: status.term,
            applied: status.applied.0,
            lease_remaining_ms: left / 1_000_000,
            ready: self.not_ready().is_none(),
            clock_offset_ms: self.clock.offset_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heard_ms: self.now().0,
        }
    }

    /// Whether a node last said that it would answer validates: one that stops does not.
    pub(crate) fn said_ready(&self, node: NodeId) -> bool {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        heard.get(&node).is_some_and(|about| about.ready)
    }

    pub(crate) fn note_about(&self, node: NodeId, about: About) {
        let about = About { heard_ms: self.now().0, ..about };
        self.heard.write().unwrap_or_else(PoisonError::into_inner).insert(node, about);
    }
}

/// Sends asks; returns who answered, and the replies.
pub(crate) async fn ask(
    core: &Core,
    peer: NodeId,
    asks: Vec<Ask>,
    timeout: Duration,
) -> Result<(Sender, Vec<Reply>), CallError> {
    let message = AskMessage { head: core.head(peer), asks };
    let reply: ReplyMessage = call(core, peer, Call::Ask, &message, timeout).await?;
    let late = || CallError::Broken { node: peer, cause: "answer of another life".to_owned() };
    let sender = core.receive(peer, &reply.head).ok_or_else(late)?;
    Ok((sender, reply.replies))
}

/// Hands tokens over; returns whether each was taken.
pub(crate) async fn give(
    core: &Core,
    to: &Sender,
    gifts: &[Gift],
    timeout: Duration,
) -> Result<Vec<bool>, CallError> {
    let gifts = gifts.iter().map(|gift| gift.reply.clone()).collect();
    // The totals are those of one life: another one that began meanwhile must refuse them.
    let head = Head { to: Some(to.boot), ..core.head(to.node) };
    let message = GiveMessage { head, gifts };
    let reply: GiveReply = call(core, to.node, Call::Give, &message, timeout).await?;
    Ok(reply.taken)
}

/// Tells a peer what was spent here, again and again. Also how nodes learn each other's lives,
/// and whether they can be reached.
pub(crate) async fn run_gossip(core: Arc<Core>) {
    let period = Duration::from_millis(core.config.gossip_ms);
    let timeout = Duration::from_millis(core.config.transfer_timeout_ms);
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut peers: BTreeMap<NodeId, Telling> = BTreeMap::new();
    loop {
        every.tick().await;
        let fresh = core.take_told();
        let about = core.about();
        let members: Vec<NodeId> = core.life().peers.iter().map(|(node, _)| *node).collect();
        peers.retain(|peer, _| members.contains(peer));
        let mut sending = tokio::task::JoinSet::new();
        for peer in members {
            let core = Arc::clone(&core);
            // What is new comes first; what was missed has the rest of the message.
            let rest = caps::PEER_ITEMS_MAX - fresh.len();
            let missed = core.tell_again(peer, peers.entry(peer).or_default(), rest).await;
            let told: Vec<Told> = fresh.iter().cloned().chain(missed).collect();
            assert!(told.len() <= caps::PEER_ITEMS_MAX, "a message is bounded");
            let (head, lives) = (core.head(peer), core.life().lives.all());
            let message = GossipMessage { head, told, lives, about: about.clone() };
            let telling = async move { (peer, tell(&core, peer, &message, timeout).await) };
            sending.spawn(process::bind(telling));
        }
        // A slow peer must not hold up the others for longer than its time-out.
        for (peer, delivered) in sending.join_all().await {
            peers.entry(peer).or_default().note(delivered, core.said_ready(peer));
        }
    }
}

/// Tells one peer; false where that brought no answer.
async fn tell(core: &Core, peer: NodeId, message: &GossipMessage, timeout: Duration) -> bool {
    let answer = call::<_, GossipReply>(core, peer, Call::Gossip, message, timeout).await;
    let delivered = answer.is_ok();
    match answer {
        Ok(reply) => {
            core.receive(peer, &reply.head);
            core.note_lives(&reply.lives);
            core.note_about(peer, reply.about);
        }
        Err(error) => {
            tracing::debug!(%error, "gossip was not delivered");
            core.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
        }
    }
    delivered
}
