//! Serves Raft's own peer calls, bytes in and bytes out.
//!
//! The node has checked the secret, the cluster and the addressee before it calls this.

use std::sync::atomic::Ordering;

use fluxgate_peer::{Call, ConsensusCall, process};
use fluxgate_store::codec::{CodecError, Kind};
use fluxgate_store::{IncomingSnapshot, SnapshotReader};
use fluxgate_wire as wire;
use fluxgate_wire::Grown as _;
use fluxgate_wire::raft::{
    AppendV1, SnapshotPieceV1, SnapshotReplyV1, TransferV1, VoteCallV1, VoteV1,
};
use openraft::storage::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RaftHandle;
use super::receiving::Taken;
use crate::shapes::Shaped;
use crate::snapshots::{self, SnapshotHandle};
use crate::types::Vote;

/// Why a peer call was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    #[error("malformed message: {0}")]
    Malformed(String),
    #[error("not a call of consensus")]
    NotOurs,
    #[error("{0}")]
    Failed(String),
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, HandleError> {
    wire::decode(body).map_err(|error| HandleError::Malformed(error.to_string()))
}

fn malformed(error: CodecError) -> HandleError {
    HandleError::Malformed(error.to_string())
}

fn write<T: Serialize>(answer: &T) -> Result<Vec<u8>, HandleError> {
    wire::encode(answer).map_err(|error| HandleError::Failed(error.to_string()))
}

fn failed(error: impl std::fmt::Display) -> HandleError {
    HandleError::Failed(error.to_string())
}

impl RaftHandle {
    /// Serves one peer call of consensus.
    ///
    /// # Errors
    /// When the message is malformed, not Raft's, or consensus has stopped.
    pub async fn handle(&self, call: Call, body: &[u8]) -> Result<Vec<u8>, HandleError> {
        let raft = &self.inner.raft;
        match call.as_consensus().ok_or(HandleError::NotOurs)? {
            ConsensusCall::Append => {
                let rpc = AppendV1::unpack(Kind::PeerMessage, body).map_err(malformed)?;
                self.inner.contacts.note_message(rpc.vote);
                if rpc.carries_entries() {
                    let has_room = self.inner.disk.has_room().await;
                    let lacks = !has_room && rpc.carries_committed();
                    self.inner.lacks_entries.store(lacks, Ordering::Relaxed);
                    if !has_room {
                        // Rejected BEFORE anything is written: the leader retries later.
                        return Err(HandleError::Failed("the disk is full".to_owned()));
                    }
                }
                *self.inner.last_append.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(tokio::time::Instant::now());
                let reply = raft.append_entries(Shaped::from_shape(rpc)).await.map_err(failed)?;
                write(&reply.to_shape())
            }
            ConsensusCall::Vote => {
                let rpc: VoteCallV1 = read(body)?;
                write(&raft.vote(Shaped::from_shape(rpc)).await.map_err(failed)?.to_shape())
            }
            ConsensusCall::PreVote => {
                let rpc: VoteCallV1 = read(body)?;
                write(&raft.pre_vote(Shaped::from_shape(rpc)).await.map_err(failed)?.to_shape())
            }
            ConsensusCall::TransferLeader => {
                let rpc: TransferV1 = read(body)?;
                if rpc.is_for(self.me()) {
                    self.note_handed();
                }
                let taken =
                    raft.handle_transfer_leader(Shaped::from_shape(rpc)).await.map_err(failed)?;
                write(&taken.is_ok())
            }
            ConsensusCall::Snapshot => write(&self.receive(read(body)?).await?),
        }
    }

    async fn receive(&self, piece: SnapshotPieceV1) -> Result<SnapshotReplyV1, HandleError> {
        let vote = piece.vote;
        self.inner.contacts.note_message(vote);
        match self.inner.incoming.take(piece).await.map_err(failed)? {
            Taken::Next(next) => Ok(SnapshotReplyV1::Next(next)),
            Taken::Whole(file) => self.install(vote, file).await,
        }
    }

    async fn install(
        &self,
        vote: VoteV1,
        file: IncomingSnapshot,
    ) -> Result<SnapshotReplyV1, HandleError> {
        let check = move || {
            let file = file.finish().map_err(failed)?;
            let reader = SnapshotReader::open(&file.path).map_err(failed)?;
            Ok((snapshots::meta(&reader).map_err(failed)?, SnapshotHandle(file)))
        };
        // The file's header says which entries it covers; the message may be wrong.
        let (meta, handle) = process::on_disk(check).await.map_err(failed)??;
        let snapshot = Snapshot { meta, snapshot: handle };
        let installed =
            self.inner.raft.install_full_snapshot(Vote::from_shape(vote), snapshot).await;
        let response = installed.map_err(failed)?;
        Ok(SnapshotReplyV1::Done(response.vote.to_shape()))
    }
}
