//! Bytes at rest: the log, the vote, the node's identity and the snapshot files.
//!
//! Answers for: everything reported durable survives a power cut, and damaged or lost data is
//! rejected instead of served. Must never interpret the bytes: votes, entries and markers are
//! opaque here. Must never repair silently, retry a failed sync, or panic on anything that a disk
//! may hold.
//!
//! Call order: [`DataDir::open`], [`SnapshotStore::open`], [`LogStore::open`]; at the end
//! [`LogStore::close`]. Dropping the [`DataDir`] releases its lock.

pub mod addresses;
pub mod backend;
pub mod codec;
pub mod data_dir;
pub mod durable;
mod entry_read;
pub mod error;
pub mod files;
pub mod hard_state;
pub mod last_uses;
mod layout;
pub mod log;
pub mod memory;
pub mod recording;
mod recover;
mod sled_backend;
pub mod snapshot;
pub mod starts;
pub mod stops;
mod tail;
mod writer;

pub use backend::{LogBackend, LogRead};
pub use codec::{CodecError, Kind};
pub use data_dir::{ClockNote, DataDir, HOLDINGS_PART_BYTES_MAX, HOLDINGS_PARTS_MAX, Identity};
pub use error::{OpenError, StoreError};
pub use hard_state::HardStateFile;
pub use log::{Done, Driver, Entry, LogStore, Observer, Options, Wake};
pub use memory::Memory;
pub use recording::Recording;
pub use recover::Recovered;
pub use snapshot::{
    IncomingSnapshot, RawSnapshot, SnapshotError, SnapshotFile, SnapshotReader, SnapshotStore,
    SnapshotWriter,
};
