//! Snapshot files: the engine's items in the store's chunks.

use std::io;

use fluxgate_engine::state::snapshot::{Frozen, Item, Restore};
use fluxgate_store::codec::{self, CodecError, Kind};
use fluxgate_store::{SnapshotFile, SnapshotReader, SnapshotStore};
use fluxgate_wire::{self as wire, Shaped as _, VERSION, version_for};

use crate::shapes::Shaped as _;
use crate::types::SnapshotMeta;

/// A snapshot as openraft passes it around: a durable file.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotHandle(pub(crate) SnapshotFile);

fn damaged(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Writes a snapshot durably and removes the oldest ones.
pub(crate) fn write(
    store: &SnapshotStore,
    meta: &SnapshotMeta,
    frozen: &Frozen,
) -> Result<SnapshotFile, io::Error> {
    let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
    let header = codec::encode(Kind::SnapshotHeader, VERSION, &meta.to_shape());
    let header = header.map_err(damaged)?;
    let mut writer = store.create(index, &format!("t{term}"), &header).map_err(io::Error::other)?;
    let version = version_for(frozen.level());
    frozen.write(|item| {
        let bytes =
            codec::encode(Kind::SnapshotChunk, version, &item.to_shape()).map_err(damaged)?;
        writer.write_chunk(&bytes).map_err(io::Error::other)
    })?;
    let file = writer.finish().map_err(io::Error::other)?;
    // Snapshots that remain only cost space.
    if let Err(error) = store.prune() {
        tracing::warn!(%error, "old snapshots were not removed");
    }
    Ok(file)
}

/// What a snapshot file says that it covers.
pub(crate) fn meta(reader: &SnapshotReader) -> Result<SnapshotMeta, io::Error> {
    let header = codec::decode(Kind::SnapshotHeader, VERSION, reader.meta()).map_err(damaged)?;
    Ok(SnapshotMeta::from_shape(header))
}

fn item(chunk: &[u8]) -> Result<Item, CodecError> {
    wire::read_grown(Kind::SnapshotChunk, chunk).map(Item::from_shape)
}

/// Reads a whole snapshot. Nothing of it takes effect before its last item is read.
pub(crate) fn read(mut reader: SnapshotReader) -> Result<(SnapshotMeta, Restore), io::Error> {
    let meta = meta(&reader)?;
    let mut restore = Restore::default();
    while let Some(chunk) = reader.next_chunk().map_err(damaged)? {
        restore.take(item(&chunk).map_err(damaged)?).map_err(damaged)?;
    }
    if restore.is_complete() {
        Ok((meta, restore))
    } else {
        Err(damaged("snapshot without a head"))
    }
}
