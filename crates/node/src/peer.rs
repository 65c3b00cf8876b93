//! What nodes send each other besides Raft.
//!
//! Every message names the incarnation that sent it and the one that it is meant for. Lost,
//! repeated and reordered messages are harmless by design (`quota` and `lease` in the engine).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::join::{Introduction, RegisteredDirectory};
use fluxgate_engine::quota::{
    CounterGossip, Handoff, Repeats, Sender, TransferReply, TransferRequest,
};
use fluxgate_peer::{CallError, Question, process};
use fluxgate_raft::WriteHealth;
use fluxgate_types::{BootId, NodeId, caps};
use fluxgate_wire::peer::{
    About, AskMessage, GiveMessage, GossipMessage, GossipMessageV2, IntroduceReply, MessageHeader,
    More, Writes,
};

use crate::heard::level_of;
use crate::state::NodeState;

impl NodeState {
    /// The header of a message to a peer.
    pub fn head(&self, to: NodeId) -> MessageHeader {
        let incarnation = self.published.incarnation();
        MessageHeader { boot: self.start.boot(), to: incarnation.incarnations.of(to) }
    }

    /// Processes a message header: records the sender's incarnation. `None` for a late message, or
    /// one that is meant for another incarnation of this node: its reports must not count.
    pub fn receive(&self, from: NodeId, head: &MessageHeader) -> Option<Sender> {
        self.note_incarnation(from, head.boot);
        self.note_heard(from);
        self.published.incarnation().accepted(from, head.boot, head.to)
    }

    /// Records the incarnations that another node knows, including those of removed nodes.
    pub fn note_incarnations(&self, incarnations: &[(NodeId, BootId)]) {
        incarnations.iter().for_each(|(node, boot)| self.note_incarnation(*node, *boot));
    }

    /// What this node reports about itself.
    pub fn about(&self) -> About {
        let status = self.raft.status();
        let left = self.published.lease_until().since(crate::clock::boot_now());
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

    /// What this node reports about itself from version 2 on.
    pub fn more(&self) -> More {
        More {
            start_id: self.start.id(),
            digest: self.shared.digest(),
            writes: match self.raft.write_health() {
                WriteHealth::Fine => Writes::Fine,
                WriteHealth::DiskFull => Writes::DiskFull,
                WriteHealth::Stalled => Writes::Stalled,
            },
            free_bytes: self.raft.free_bytes(),
            configured: self.config.lease_terms(),
        }
    }

    /// Which start of which node this is, and what it knows of the cluster and of the time.
    pub async fn introduction(&self) -> IntroduceReply {
        let view = self.shared.view();
        let cluster = self.shared.cluster();
        let directories = view.nodes.iter().map(|(node, of)| RegisteredDirectory {
            node: *node,
            dir_id: of.dir_id,
            removed: of.removed,
        });
        IntroduceReply(Introduction {
            node: self.me,
            dir_id: self.start.dir_id,
            start_id: self.start.id(),
            formed: self.raft.has_history().await,
            directories: directories.collect(),
            start_ids: cluster.start_ids.iter().map(|(id, of)| (*id, *of)).collect(),
            heard: self.published.incarnation().incarnations.all(),
            time: self.clock.times(self.shared.last_stamp()),
        })
    }

    /// Processes what a node reports from version 2 on. If it names another start of this node, a
    /// copy of this node's directory runs or ran: the leader decides which start remains.
    pub fn note_more(&self, node: NodeId, more: More) {
        // A different program version may compute a different digest of the same state.
        let is_alike = self.heard.is_alike(node);
        if let Some((index, digest)) = more.digest.filter(|_| is_alike) {
            self.member.compare_state(node, index, digest);
        }
        self.heard.note_more(node, more);
    }
}

/// Sends all other nodes the same call at once; see [`Calls::ask_all`](crate::calls::Calls::ask_all).
pub async fn ask_all<Q: Question + Clone + 'static>(
    state: &NodeState,
    question: &Q,
    timeout: Duration,
) -> Vec<(NodeId, Option<Q::Answer>)> {
    let incarnation = state.published.incarnation();
    let others = incarnation.peers.iter().map(|peer| peer.id);
    state.calls.ask_all(others, question, timeout).await
}

/// Sends transfer requests; returns who answered, and the replies.
pub async fn ask(
    state: &NodeState,
    peer: NodeId,
    asks: Vec<TransferRequest>,
    timeout: Duration,
) -> Result<(Sender, Vec<TransferReply>), CallError> {
    let message = AskMessage { head: state.head(peer), asks };
    let reply = state.transport.ask(peer, &message, timeout).await?;
    let late =
        || CallError::Broken { node: peer, cause: "the answer of another incarnation".to_owned() };
    let sender = state.receive(peer, &reply.head).ok_or_else(late)?;
    Ok((sender, reply.replies))
}

/// Hands tokens over; returns whether each handoff was accepted.
pub async fn give(
    state: &NodeState,
    to: &Sender,
    handoffs: &[Handoff],
    timeout: Duration,
) -> Result<Vec<bool>, CallError> {
    let gifts = handoffs.iter().map(|handoff| handoff.reply.clone()).collect();
    // The totals belong to one incarnation: one that began meanwhile must reject them.
    let head = MessageHeader { to: Some(to.boot), ..state.head(to.node) };
    let message = GiveMessage { head, gifts };
    let reply = state.transport.ask(to.node, &message, timeout).await?;
    Ok(reply.taken)
}

/// Gossips what was spent here to every peer, each period. This is also how nodes learn each
/// other's incarnations, and whether they can be reached.
pub async fn run_gossip(state: Arc<NodeState>) {
    let period = Duration::from_millis(state.config.gossip_ms);
    let timeout = Duration::from_millis(state.config.transfer_timeout_ms);
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut peers: BTreeMap<NodeId, Repeats> = BTreeMap::new();
    loop {
        every.tick().await;
        // Nothing is sent before it is known that this directory may act for its node.
        if !state.lifecycle.may_vote() {
            continue;
        }
        let fresh = state.take_gossip();
        let about = state.about();
        let members: Vec<NodeId> =
            state.published.incarnation().peers.iter().map(|peer| peer.id).collect();
        peers.retain(|peer, _| members.contains(peer));
        let mut sending = tokio::task::JoinSet::new();
        for peer in members {
            let state = Arc::clone(&state);
            // New reports come first; missed ones fill the rest of the message.
            let rest = caps::PEER_ITEMS_MAX - fresh.len();
            let missed = state.repeat_gossip(peer, peers.entry(peer).or_default(), rest).await;
            let reports: Vec<CounterGossip> = fresh.iter().cloned().chain(missed).collect();
            assert!(reports.len() <= caps::PEER_ITEMS_MAX, "a message is bounded");
            let (head, incarnations) =
                (state.head(peer), state.published.incarnation().incarnations.all());
            let message = GossipMessage { head, told: reports, incarnations, about: about.clone() };
            let telling = async move { (peer, tell(&state, peer, message, timeout).await) };
            sending.spawn(process::bind(telling));
        }
        // A slow peer must not delay the others for longer than its timeout.
        for (peer, delivered) in sending.join_all().await {
            peers.entry(peer).or_default().note_outcome(delivered, state.heard.said_ready(peer));
        }
    }
}

/// Gossips to one peer; false if it did not answer.
async fn tell(state: &NodeState, peer: NodeId, message: GossipMessage, timeout: Duration) -> bool {
    let answer = if state.heard.speaks_2(peer) {
        let message = GossipMessageV2 { first: message, more: state.more() };
        let reply = state.calls.ask_2(peer, &message, timeout).await;
        reply.map(|reply| (reply.first, Some(reply.more)))
    } else {
        let reply = state.transport.ask(peer, &message, timeout).await;
        reply.map(|reply| (reply, None))
    };
    let delivered = answer.is_ok();
    match answer {
        Ok((reply, more)) => {
            state.receive(peer, &reply.head);
            state.note_incarnations(&reply.incarnations);
            // It may run a newer program since the last message.
            state.heard.note_speaks_2(peer, more.is_some() || level_of(&reply.about.version) >= 2);
            state.heard.note_about(peer, reply.about);
            if let Some(more) = more {
                state.note_more(peer, more);
            }
        }
        Err(error) => {
            tracing::debug!(%error, "gossip was not delivered");
            state.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
        }
    }
    delivered
}
