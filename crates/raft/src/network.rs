//! openraft's network over our transport.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_peer::process;
use fluxgate_peer::{Call, CallError, Transport};
use fluxgate_store::RawSnapshot;
use fluxgate_store::codec::Kind;
use fluxgate_types::{NodeId, caps};
use fluxgate_wire as wire;
use fluxgate_wire::Grown as _;
use fluxgate_wire::raft::{AppendReplyV1, SnapshotPieceV1, SnapshotReplyV1, VoteReplyV1};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shapes::Shaped;
use crate::snapshots::SnapshotHandle;
use crate::types::{TypeConfig, Vote};

/// Longest time for one piece of a snapshot.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the last piece: the receiver verifies and installs the whole snapshot.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes connections to nodes.
#[derive(Clone, Debug)]
pub(crate) struct Factory(pub(crate) Transport);

/// One connection to one node; openraft keeps several.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    target: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &openraft::BasicNode) -> Connection {
        let target = NodeId(target);
        if !node.addr.is_empty() {
            self.0.set_address(target, &node.addr);
        }
        Connection { transport: self.0.clone(), target }
    }
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

fn rpc_error(error: &CallError) -> RPCError<TypeConfig> {
    match error {
        // `Unreachable` makes openraft back off; it retries any other error at once.
        CallError::Unreachable { .. } | CallError::Timeout { .. } | CallError::Refused { .. } => {
            Unreachable::from_string(error).into()
        }
        CallError::Broken { .. } => NetworkError::from_string(error).into(),
    }
}

impl Connection {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: Call,
        question: &Q,
        timeout: Duration,
    ) -> Rpc<A> {
        let body = wire::encode(question).map_err(NetworkError::from_string)?;
        self.send(call, body, timeout).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        call: Call,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Rpc<A> {
        let answer = self.transport.call(self.target, call, body, timeout).await;
        let answer = answer.map_err(|error| rpc_error(&error))?;
        Ok(wire::decode(&answer).map_err(NetworkError::from_string)?)
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let body = rpc.to_shape().pack(Kind::PeerMessage);
        let body = body.map_err(NetworkError::from_string)?;
        let reply: AppendReplyV1 = self.send(Call::Append, body, option.soft_ttl()).await?;
        Ok(Shaped::from_shape(reply))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let question = rpc.to_shape();
        let reply: VoteReplyV1 = self.call(Call::Vote, &question, option.soft_ttl()).await?;
        Ok(Shaped::from_shape(reply))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let question = rpc.to_shape();
        let reply: VoteReplyV1 = self.call(Call::PreVote, &question, option.soft_ttl()).await?;
        Ok(Shaped::from_shape(reply))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let question = rpc.to_shape();
        let taken: bool = self.call(Call::TransferLeader, &question, option.soft_ttl()).await?;
        if taken {
            return Ok(Ok(()));
        }
        Err(Unreachable::from_string("the node did not take the leadership").into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, u64, openraft::BasicNode, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, &snapshot) => sent,
        }
    }
}

type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

impl Connection {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot<LeaderId, u64, openraft::BasicNode, SnapshotHandle>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: &dyn std::fmt::Display| NetworkError::<TypeConfig>::from_string(error);
        let source = snapshot.snapshot.0.clone();
        let file = process::on_disk(move || RawSnapshot::open(&source)).await;
        let file = file.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let file = Arc::new(file);
        // Index and term identify the content; a transfer that starts over begins at 0 and replaces
        // the old one.
        let stream = snapshot.snapshot.0.index ^ vote.leader_id.term.rotate_left(40);
        let mut offset = 0;
        loop {
            let source = Arc::clone(&file);
            let read = move || source.read_at(offset, caps::SNAPSHOT_CHUNK_BYTES);
            let bytes = process::on_disk(read).await.map_err(|error| failed(&error))?;
            let bytes = bytes.map_err(|error| failed(&error))?;
            let last = offset + bytes.len() as u64 >= file.bytes();
            let meta = snapshot.meta.to_shape();
            let piece =
                SnapshotPieceV1 { vote: vote.to_shape(), meta, stream, offset, bytes, last };
            let timeout = if last { INSTALL_TIMEOUT } else { PIECE_TIMEOUT };
            match self.call(Call::Snapshot, &piece, timeout).await? {
                SnapshotReplyV1::Next(next) => offset = next,
                SnapshotReplyV1::Done(vote) => {
                    return Ok(SnapshotResponse::new(Vote::from_shape(vote)));
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use fluxgate_store::SnapshotFile;

    use super::*;
    use crate::types::SnapshotMeta;
    use fluxgate_peer::TransportOptions;

    /// The transport of node 1, which knows no other.
    pub(crate) fn lone_transport() -> Transport {
        let options = TransportOptions {
            directory: fluxgate_types::DirId(1),
            me: NodeId(1),
            cluster: "test".to_owned(),
            secret: String::new(),
            addresses: BTreeMap::new(),
            tls: None,
            observer: Arc::new(|_, _, _, _| ()),
            trace_headers: Arc::new(Vec::new),
            #[cfg(feature = "sim")]
            link: None,
        };
        Transport::new(options).unwrap()
    }

    /// A snapshot on a disk that hangs (here: a pipe without a writer) delays its own transfer, and
    /// blocks no thread.
    #[tokio::test]
    async fn a_snapshot_that_cannot_be_read_ties_up_no_thread_of_the_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hangs");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let file = SnapshotFile { index: 1, id: "t1".to_owned(), path: path.clone(), bytes: 9 };
        let connection = Connection { transport: lone_transport(), target: NodeId(2) };
        let snapshot = Snapshot { meta: SnapshotMeta::default(), snapshot: SnapshotHandle(file) };
        let sending = connection.send_snapshot(Vote::new(1, 1), &snapshot);
        let within = tokio::time::timeout(Duration::from_millis(50), sending).await;
        // This runtime has one thread: if the open blocked it, the timeout would never come.
        assert!(within.is_err());
        // Releases the thread that waits for the pipe.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    }
}
