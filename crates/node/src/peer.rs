//! What nodes send each other besides Raft.
//!
//! Every message names the incarnation that sent it and the one that it is meant for. Lost,
//! repeated and reordered messages are harmless by design (`quota` and `lease` in the engine).

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::join::{self, Introduction};
use fluxgate_engine::lease::{LeaderId, LeaseTerms};
use fluxgate_engine::quota::{Handoff, Sender, TransferReply, TransferRequest};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::cluster_state::level_of;
use fluxgate_peer::{CallError, Question};
use fluxgate_raft::{RaftHandle, WriteHealth};
use fluxgate_types::{BootId, NodeId};
use fluxgate_wire::peer::{
    About, AskMessage, ClocksReply, GiveMessage, GossipMessage, GossipMessageV2, IntroduceReply,
    MessageHeader, More, Writes,
};

use crate::calls::Calls;
use crate::clock::{Clock, boot_now};
use crate::config::Config;
use crate::heard::Heard;
use crate::member::MemberDriver;
use crate::own_start::OwnStart;
use crate::published::Published;

/// The parts of the node that messages to and from peers read and change.
#[derive(Debug)]
pub struct PeerParts {
    pub raft: RaftHandle,
    pub shared: Arc<Shared>,
    pub clock: Arc<Clock>,
    pub start: Arc<OwnStart>,
    pub published: Arc<Published>,
    pub heard: Arc<Heard>,
    pub calls: Calls,
    pub member: Arc<MemberDriver>,
}

/// What this node and its peers say to each other.
#[derive(Debug)]
pub struct Peers {
    parts: PeerParts,
    // The lease terms of this node's configuration.
    terms: LeaseTerms,
}

impl Peers {
    pub fn new(config: &Config, parts: PeerParts) -> Self {
        Self { terms: config.lease_terms(), parts }
    }

    /// The header of a message to a peer.
    pub fn head(&self, to: NodeId) -> MessageHeader {
        let incarnation = self.parts.published.incarnation();
        MessageHeader { boot: self.parts.start.boot(), to: incarnation.incarnations.of(to) }
    }

    /// Processes a message header: records the sender's incarnation. `None` for a late message, or
    /// one that is meant for another incarnation of this node: its reports must not count.
    pub fn receive(&self, from: NodeId, head: &MessageHeader) -> Option<Sender> {
        self.note_incarnation(from, head.boot);
        self.note_heard(from);
        self.parts.published.incarnation().accepted(from, head.boot, head.to)
    }

    /// Records the incarnations that another node knows, including those of removed nodes.
    pub fn note_incarnations(&self, incarnations: &[(NodeId, BootId)]) {
        incarnations.iter().for_each(|(node, boot)| self.note_incarnation(*node, *boot));
    }

    /// What this node reports about itself.
    pub fn about(&self) -> About {
        let status = self.parts.raft.status();
        let left = self.parts.published.lease_until().since(boot_now());
        About {
            role: status.role.as_str().to_owned(),
            term: status.term,
            applied: status.applied.0,
            lease_remaining_ms: left / 1_000_000,
            ready: self.parts.member.not_ready().is_none(),
            clock_offset_ms: self.parts.clock.offset_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heard_ms: self.parts.clock.now().0,
        }
    }

    /// What this node reports about itself from version 2 on.
    pub fn more(&self) -> More {
        More {
            start_id: self.parts.start.id(),
            digest: self.parts.shared.digest(),
            writes: match self.parts.raft.write_health() {
                WriteHealth::Fine => Writes::Fine,
                WriteHealth::DiskFull => Writes::DiskFull,
                WriteHealth::Stalled => Writes::Stalled,
            },
            free_bytes: self.parts.raft.free_bytes(),
            configured: self.terms,
        }
    }

    /// Which start of which node this is, and what it knows of the cluster and of the time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn introduction(&self) -> std::io::Result<IntroduceReply> {
        let parts = &self.parts;
        // Read BEFORE the state: what is applied meanwhile is in both.
        let not_applied = parts.raft.registrations_not_applied().await?;
        let (view, cluster) = (parts.shared.view(), parts.shared.cluster());
        let (directories, start_ids) = join::registered(&view, &cluster, not_applied);
        Ok(IntroduceReply(Introduction {
            node: parts.raft.me(),
            dir_id: parts.start.dir_id,
            start_id: parts.start.id(),
            formed: parts.raft.has_history().await,
            directories,
            start_ids,
            heard: parts.published.incarnation().incarnations.all(),
            time: parts.clock.times(parts.shared.last_stamp()),
        }))
    }

    /// What this node knows of the time, and of its last contact with a leader before this one.
    pub fn clocks(&self, asks: LeaderId) -> ClocksReply {
        let parts = &self.parts;
        let contact = parts.raft.last_contact(asks);
        ClocksReply {
            time: parts.clock.times(parts.shared.last_stamp()),
            contact_ago_ns: contact.map(|at| boot_now().since(at)),
        }
    }

    /// Processes what a node reports from version 2 on. If it names another start of this node, a
    /// copy of this node's directory runs or ran: the leader decides which start remains.
    pub fn note_more(&self, node: NodeId, more: More) {
        // A different program version may compute a different digest of the same state.
        let is_alike = self.parts.heard.is_alike(node);
        if let Some((index, digest)) = more.digest.filter(|_| is_alike) {
            self.parts.member.compare_state(node, index, digest);
        }
        self.parts.heard.note_more(node, more);
    }

    /// Records a peer's incarnation.
    pub fn note_incarnation(&self, node: NodeId, boot: BootId) {
        // Most messages come from one that is known: they take no lock.
        if self.parts.published.incarnation().incarnations.of(node).is_none_or(|known| known < boot)
        {
            self.parts.member.step(|member, _| member.note_incarnation(node, boot));
        }
    }

    /// A peer call brought no answer; `refused`: nothing listens there.
    pub fn note_silence(&self, node: NodeId, refused: bool) {
        self.parts.member.step(|member, _| member.note_silence(node, refused));
    }

    /// A message from a peer arrived.
    pub fn note_heard(&self, node: NodeId) {
        // Most messages find nothing to forget: they take no lock.
        if self.parts.published.has_silences() {
            self.parts.member.step(|member, _| member.note_heard(node));
        }
    }

    /// Sends all other nodes the same call at once; see [`Calls::ask_all`].
    pub async fn ask_all<Q: Question + Clone + 'static>(
        &self,
        question: &Q,
        timeout: Duration,
    ) -> Vec<(NodeId, Option<Q::Answer>)> {
        let incarnation = self.parts.published.incarnation();
        let others = incarnation.peers.iter().map(|peer| peer.id);
        self.parts.calls.ask_all(others, question, timeout).await
    }

    /// Sends transfer requests; returns who answered, and the replies.
    pub async fn ask(
        &self,
        peer: NodeId,
        asks: Vec<TransferRequest>,
        timeout: Duration,
    ) -> Result<(Sender, Vec<TransferReply>), CallError> {
        let message = AskMessage { head: self.head(peer), asks };
        let reply = self.parts.calls.transport.ask(peer, &message, timeout).await?;
        let late = || CallError::Broken {
            node: peer,
            cause: "the answer of another incarnation".to_owned(),
        };
        let sender = self.receive(peer, &reply.head).ok_or_else(late)?;
        Ok((sender, reply.replies))
    }

    /// Hands tokens over; returns whether each handoff was accepted.
    pub async fn give(
        &self,
        to: &Sender,
        handoffs: &[Handoff],
        timeout: Duration,
    ) -> Result<Vec<bool>, CallError> {
        let gifts = handoffs.iter().map(|handoff| handoff.reply.clone()).collect();
        // The totals belong to one incarnation: one that began meanwhile must reject them.
        let head = MessageHeader { to: Some(to.boot), ..self.head(to.node) };
        let message = GiveMessage { head, gifts };
        let reply = self.parts.calls.transport.ask(to.node, &message, timeout).await?;
        Ok(reply.taken)
    }

    /// Gossips to one peer; false if it did not answer.
    pub async fn gossip_to(&self, peer: NodeId, message: GossipMessage, timeout: Duration) -> bool {
        let answer = if self.parts.heard.speaks_2(peer) {
            let message = GossipMessageV2 { first: message, more: self.more() };
            let reply = self.parts.calls.ask_2(peer, &message, timeout).await;
            reply.map(|reply| (reply.first, Some(reply.more)))
        } else {
            let reply = self.parts.calls.transport.ask(peer, &message, timeout).await;
            reply.map(|reply| (reply, None))
        };
        let delivered = answer.is_ok();
        match answer {
            Ok((reply, more)) => {
                self.receive(peer, &reply.head);
                self.note_incarnations(&reply.incarnations);
                // It may run a newer program since the last message.
                self.parts
                    .heard
                    .note_speaks_2(peer, more.is_some() || level_of(&reply.about.version) >= 2);
                self.parts.heard.note_about(peer, reply.about);
                if let Some(more) = more {
                    self.note_more(peer, more);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "gossip was not delivered");
                self.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
            }
        }
        delivered
    }
}
