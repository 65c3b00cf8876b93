//! Calls to other nodes: in the version of messages that each speaks, and to several at once.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::join::{Introduction, RegisteredDirectory, Times};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_peer::{CallError, Question, Transport, process};
use fluxgate_types::{BootId, DirId, NodeId};
use fluxgate_wire::peer::{
    ClocksCall, ClocksReply, IntroduceCall, IntroduceReply, StatusCall, StatusReply,
};

use crate::heard::Heard;

#[derive(Clone, Debug)]
pub struct Calls {
    pub transport: Transport,
    heard: Arc<Heard>,
}

impl Calls {
    pub fn new(transport: Transport, heard: Arc<Heard>) -> Self {
        Self { transport, heard }
    }

    /// Sends a call of version 2. A node that speaks only version 1 rejects it, which is recorded:
    /// the next message to it is of version 1.
    pub async fn ask_2<Q: Question>(
        &self,
        peer: NodeId,
        question: &Q,
        timeout: Duration,
    ) -> Result<Q::Answer, CallError> {
        let answer = self.transport.ask(peer, question, timeout).await;
        if matches!(&answer, Err(CallError::Refused { status: 400, .. })) {
            self.heard.note_speaks_2(peer, false);
        }
        answer
    }

    /// Asks which start of which node answers, at `address` or at the node's known address.
    pub async fn introduce(
        &self,
        node: NodeId,
        address: Option<&str>,
        timeout: Duration,
    ) -> Result<Introduction, CallError> {
        match self.transport.ask_at(node, address, &IntroduceCall, timeout).await {
            Ok(IntroduceReply(introduction)) => Ok(introduction),
            // Version 0.1 does not know the call; its status holds all that it could report.
            Err(CallError::Refused { status: 404, .. }) if address.is_none() => {
                let status = self.transport.ask(node, &StatusCall, timeout).await?;
                Ok(introduction_of(node, status))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks a node for its clocks, as the leader of a term. A node that does not know the call, or
    /// knows this one's directory no more, introduces itself, and says nothing of earlier leaders: for
    /// that it has what the first answer left of `timeout`.
    pub async fn clocks(
        &self,
        node: NodeId,
        term: u64,
        timeout: Duration,
    ) -> Result<ClocksReply, CallError> {
        let begun = tokio::time::Instant::now();
        match self.transport.ask(node, &ClocksCall { term }, timeout).await {
            Err(CallError::Refused { .. }) => {
                let left = timeout.saturating_sub(begun.elapsed());
                let said = self.introduce(node, None, left).await?;
                Ok(ClocksReply { time: said.time, contact_ago_ns: None })
            }
            answer => answer,
        }
    }

    /// Sends nodes the same call at once; `None` for one that did not answer in time, or does not
    /// know the call.
    pub async fn ask_all<Q: Question + Clone + 'static>(
        &self,
        nodes: impl Iterator<Item = NodeId>,
        question: &Q,
        timeout: Duration,
    ) -> Vec<(NodeId, Option<Q::Answer>)> {
        let mut asking = tokio::task::JoinSet::new();
        for node in nodes {
            let (transport, question) = (self.transport.clone(), question.clone());
            asking.spawn(process::bind(async move {
                (node, transport.ask(node, &question, timeout).await.ok())
            }));
        }
        let mut replies = asking.join_all().await;
        replies.sort_by_key(|(node, _)| *node);
        replies
    }
}

/// The introduction of a node of version 0.1.
fn introduction_of(node: NodeId, status: StatusReply) -> Introduction {
    let directory = |(node, dir_id, removed)| RegisteredDirectory { node, dir_id, removed };
    let directories: Vec<_> = status.directories.into_iter().map(directory).collect();
    let known = directories.iter().find(|known| known.node == node);
    let unknown = StartId { boot: BootId(0), nonce: 0 };
    Introduction {
        node,
        dir_id: known.map_or(DirId(0), |known| known.dir_id),
        start_id: unknown,
        formed: status.formed,
        directories,
        start_ids: Vec::new(),
        heard: Vec::new(),
        time: Times {
            synced_ns: status.synced_ns,
            stamp_ns: status.lower_bound_ns,
            carried_ns: None,
            wall_ns: crate::clock::wall_ns(),
            plausible: true,
        },
    }
}
