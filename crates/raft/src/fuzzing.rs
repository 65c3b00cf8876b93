//! The decoders of messages and of log records, opened for the fuzz targets.
//!
//! Each reads an envelope, converts it into openraft's types and back, and writes it again, so that
//! a target can check that a second pass changes nothing. Not part of any product build.

use fluxgate_engine::state::command::Batch;
use fluxgate_store::codec::{self, CodecError, Kind};
use fluxgate_wire::raft::{
    AppendReplyV1, AppendV1, EntryV1, LogIdV1, ProposeReplyV1, ProposeV1, SnapshotMetaV1,
    SnapshotPieceV1, SnapshotReplyV1, TransferV1, VoteCallV1, VoteReplyV1, VoteV1,
};
use fluxgate_wire::{CarryoverV1, Grown, ItemV1, VERSION, VERSION_2, VERSION_3, VERSION_4};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shapes::Shaped;
use crate::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};

/// Reads an envelope and writes what it read.
pub type Rewrite = fn(&[u8]) -> Result<Vec<u8>, CodecError>;

/// Calls and answers of consensus, and forwarded proposals.
pub const MESSAGES: &[Rewrite] = &[
    |bytes| grown::<AppendEntriesRequest<TypeConfig>>(Kind::PeerMessage, bytes),
    |bytes| by_openraft::<AppendEntriesResponse<TypeConfig>>(Kind::PeerMessage, bytes),
    |bytes| by_openraft::<VoteRequest<TypeConfig>>(Kind::PeerMessage, bytes),
    |bytes| by_openraft::<VoteResponse<TypeConfig>>(Kind::PeerMessage, bytes),
    |bytes| by_openraft::<TransferLeaderRequest<TypeConfig>>(Kind::PeerMessage, bytes),
    |bytes| plain::<SnapshotPieceV1>(Kind::PeerMessage, bytes),
    |bytes| plain::<SnapshotReplyV1>(Kind::PeerMessage, bytes),
    |bytes| ProposeV1::unpack(Kind::PeerMessage, bytes)?.pack(Kind::PeerMessage),
    |bytes| ProposeReplyV1::unpack(Kind::PeerMessage, bytes)?.pack(Kind::PeerMessage),
];

/// The records of the log and of snapshot files.
pub const RECORDS: &[(Kind, Rewrite)] = &[
    (Kind::Entry, |bytes| grown::<Entry>(Kind::Entry, bytes)),
    (Kind::Vote, |bytes| by_openraft::<Vote>(Kind::Vote, bytes)),
    (Kind::Committed, |bytes| by_openraft::<LogId>(Kind::Committed, bytes)),
    (Kind::LogId, |bytes| by_openraft::<LogId>(Kind::LogId, bytes)),
    (Kind::SnapshotHeader, |bytes| by_openraft::<SnapshotMeta>(Kind::SnapshotHeader, bytes)),
    (Kind::SnapshotChunk, |bytes| plain::<ItemV1>(Kind::SnapshotChunk, bytes)),
    (Kind::Holdings, |bytes| plain::<CarryoverV1>(Kind::Holdings, bytes)),
];

/// Visits every shape that is sent or stored, with its type.
pub trait Shapes {
    /// Visits one shape: its name, its envelope's kind, and the version that it is frozen as.
    fn shape<T: Serialize + DeserializeOwned>(&mut self, name: &str, kind: Kind, version: u8);
}

/// Visits every shape of this crate.
pub fn shapes(to: &mut impl Shapes) {
    to.shape::<EntryV1>("entry", Kind::Entry, VERSION);
    to.shape::<VoteV1>("vote", Kind::Vote, VERSION);
    to.shape::<LogIdV1>("committed", Kind::Committed, VERSION);
    to.shape::<LogIdV1>("log_id", Kind::LogId, VERSION);
    to.shape::<SnapshotMetaV1>("snapshot_header", Kind::SnapshotHeader, VERSION);
    to.shape::<ItemV1>("snapshot_item", Kind::SnapshotChunk, VERSION);
    to.shape::<AppendV1>("append", Kind::PeerMessage, VERSION);
    to.shape::<AppendReplyV1>("append_reply", Kind::PeerMessage, VERSION);
    to.shape::<VoteCallV1>("vote_call", Kind::PeerMessage, VERSION);
    to.shape::<VoteReplyV1>("vote_reply", Kind::PeerMessage, VERSION);
    to.shape::<TransferV1>("transfer_leader", Kind::PeerMessage, VERSION);
    to.shape::<SnapshotPieceV1>("snapshot_piece", Kind::PeerMessage, VERSION);
    to.shape::<SnapshotReplyV1>("snapshot_reply", Kind::PeerMessage, VERSION);
    to.shape::<ProposeV1>("propose", Kind::PeerMessage, VERSION);
    to.shape::<ProposeReplyV1>("propose_reply", Kind::PeerMessage, VERSION);
    to.shape::<EntryV1>("entry_2", Kind::Entry, VERSION_2);
    to.shape::<ItemV1>("snapshot_item_2", Kind::SnapshotChunk, VERSION_2);
    to.shape::<ProposeReplyV1>("propose_reply_2", Kind::PeerMessage, VERSION_2);
    to.shape::<EntryV1>("entry_3", Kind::Entry, VERSION_3);
    to.shape::<ItemV1>("snapshot_item_3", Kind::SnapshotChunk, VERSION_3);
    to.shape::<ProposeReplyV1>("propose_reply_3", Kind::PeerMessage, VERSION_3);
    to.shape::<EntryV1>("entry_4", Kind::Entry, VERSION_4);
    to.shape::<ItemV1>("snapshot_item_4", Kind::SnapshotChunk, VERSION_4);
    to.shape::<ProposeReplyV1>("propose_reply_4", Kind::PeerMessage, VERSION_4);
}

/// Encodes an entry with a batch, as the log stores it.
///
/// # Errors
/// When it is larger than an envelope may be.
pub fn entry(term: u64, index: u64, batch: &Batch) -> Result<Vec<u8>, CodecError> {
    EntryV1::of(term, index, batch.clone()).pack(Kind::Entry)
}

/// Decodes the batch of such an entry.
///
/// # Errors
/// When the bytes are no such entry.
pub fn batch(bytes: &[u8]) -> Result<Option<Batch>, CodecError> {
    EntryV1::unpack(Kind::Entry, bytes).map(EntryV1::into_batch)
}

fn plain<T: DeserializeOwned + Serialize>(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    let read: T = codec::decode(kind, VERSION, bytes)?;
    codec::encode(kind, VERSION, &read)
}

fn grown<O>(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, CodecError>
where
    O: Shaped<Shape: Grown>,
{
    O::from_shape(O::Shape::unpack(kind, bytes)?).to_shape().pack(kind)
}

fn by_openraft<O>(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, CodecError>
where
    O: Shaped<Shape: DeserializeOwned + Serialize>,
{
    let read: O::Shape = codec::decode(kind, VERSION, bytes)?;
    codec::encode(kind, VERSION, &O::from_shape(read).to_shape())
}
