//! Snapshot files: writing, receiving, listing, cleaning up.
//!
//! Answers for: a file under its final name is complete and durable. A file is a header frame,
//! numbered chunk frames of at most 1 MiB, and a footer with the totals; each frame is an envelope
//! with its own checksum. Must never interpret the content of a snapshot.
//!
//! `snapshots/<index, 20 digits>-<id>.snap`; files ending in `.tmp` are leftovers of a crash.

mod read;
mod transfer;
mod write;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::data_dir::DataDir;
use crate::files::{self, TEMPORARY_SUFFIX};

pub use read::SnapshotReader;
pub use transfer::{IncomingSnapshot, RawSnapshot};
pub use write::SnapshotWriter;

/// Largest chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Longest id, characters.
pub const ID_CHARS_MAX: usize = 64;
/// Largest caller-defined part of the header, bytes.
pub const META_BYTES_MAX: usize = 256 * 1024;
/// Number of snapshots that [`SnapshotStore::prune`] keeps.
pub const KEPT: usize = 2;

const VERSION: u8 = 1;
const SUFFIX: &str = ".snap";
/// Size of a chunk's number, which precedes its data, bytes.
const SEQUENCE_BYTES: usize = 4;

/// First frame of a file. Frozen as version 1.
#[derive(Debug, Serialize, Deserialize)]
struct HeaderV1 {
    index: u64,
    id: String,
    meta: Vec<u8>,
}

/// Last frame of a file. Frozen as version 1.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FooterV1 {
    chunks: u32,
    bytes: u64,
    crc: u32,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system returned an error.
    #[error("cannot {action} snapshot {path}: {source}", path = .path.display())]
    Io {
        /// The attempted action, for the message.
        action: &'static str,
        /// The path it was attempted on.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content of the file is not what was written.
    #[error("snapshot {path} is damaged: {what}", path = .path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it, for the message.
        what: String,
    },
    /// The caller passed an invalid id, chunk or file; the text says which rule it breaks.
    #[error("not a snapshot: {0}")]
    Invalid(&'static str),
    /// A piece does not continue what was received.
    #[error("piece at offset {found} where offset {expected} was expected")]
    Gap {
        /// Bytes received so far.
        expected: u64,
        /// The offset of the piece.
        found: u64,
    },
}

impl SnapshotError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    fn codec(path: &Path) -> impl FnOnce(CodecError) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Damaged { path, what: error.to_string() }
    }
}

/// A snapshot file, identified by its name. Its content is checked when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Index of the last entry that it covers.
    pub index: u64,
    /// The id that the writer chose.
    pub id: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Size of the file, bytes.
    pub bytes: u64,
}

/// The snapshots of a data directory. Clones refer to the same directory.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
}

impl SnapshotStore {
    /// Opens the snapshots of a data directory and removes unfinished ones. Before the incarnation
    /// has begun nothing is changed: opening the log cleans up once the log proved sound.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(dir: &DataDir) -> Result<Self, SnapshotError> {
        let path = dir.path().join("snapshots");
        if dir.begun() { Self::open_at(&path) } else { Ok(Self { dir: path }) }
    }

    /// The same for any directory.
    ///
    /// # Errors
    /// The system's error.
    pub fn open_at(dir: &Path) -> Result<Self, SnapshotError> {
        if !dir.is_dir() {
            DirBuilder::new()
                .mode(0o700)
                .create(dir)
                .and_then(|()| files::sync_parent(dir))
                .map_err(SnapshotError::io("create the directory of", dir))?;
        }
        remove_unfinished(dir).map_err(SnapshotError::io("clean up", dir))?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Starts a new snapshot. `id` becomes part of the file name: letters, digits and `-`, `_`,
    /// `.`. `meta` is for the caller.
    ///
    /// # Errors
    /// When the id or the meta is invalid, or the system's error.
    pub fn create(
        &self,
        index: u64,
        id: &str,
        meta: &[u8],
    ) -> Result<SnapshotWriter, SnapshotError> {
        SnapshotWriter::create(&self.dir, index, id, meta)
    }

    /// All snapshots, newest first.
    ///
    /// # Errors
    /// The system's error.
    pub fn list(&self) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let mut found = Vec::new();
        self.collect(&mut found).map_err(SnapshotError::io("list", &self.dir))?;
        found.sort_by(|a, b| (b.index, &b.id).cmp(&(a.index, &a.id)));
        Ok(found)
    }

    fn collect(&self, found: &mut Vec<SnapshotFile>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some((index, id)) = entry.file_name().to_str().and_then(parse_name) {
                let bytes = entry.metadata()?.len();
                found.push(SnapshotFile { index, id, path: entry.path(), bytes });
            }
        }
        Ok(())
    }

    /// Opens the newest undamaged snapshot for reading. Damaged ones are skipped, logged, and left
    /// in place.
    ///
    /// # Errors
    /// The system's error.
    pub fn newest_valid(&self) -> Result<Option<(SnapshotFile, SnapshotReader)>, SnapshotError> {
        for file in self.list()? {
            match SnapshotReader::open(&file.path) {
                Ok(reader) => return Ok(Some((file, reader))),
                Err(error @ SnapshotError::Damaged { .. }) => {
                    tracing::error!(%error, "damaged snapshot skipped");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes all but the newest [`KEPT`]; returns the number of removed files.
    ///
    /// # Errors
    /// The system's error.
    pub fn prune(&self) -> Result<usize, SnapshotError> {
        let old = self.list()?.split_off_past(KEPT);
        for file in &old {
            fs::remove_file(&file.path).map_err(SnapshotError::io("remove", &file.path))?;
        }
        if !old.is_empty() {
            files::sync_dir(&self.dir).map_err(SnapshotError::io("remove", &self.dir))?;
        }
        Ok(old.len())
    }

    /// Starts to receive a snapshot file of at most `bytes_max` bytes from another node.
    ///
    /// # Errors
    /// The system's error.
    pub fn receive(&self, bytes_max: u64) -> Result<IncomingSnapshot, SnapshotError> {
        let (path, file) = temporary(&self.dir, "incoming")?;
        let dir = self.dir.clone();
        Ok(IncomingSnapshot::new(dir, Pending(path), file, bytes_max))
    }
}

trait SplitOffPast {
    fn split_off_past(self, kept: usize) -> Self;
}

impl SplitOffPast for Vec<SnapshotFile> {
    fn split_off_past(mut self, kept: usize) -> Self {
        let kept = kept.min(self.len());
        self.split_off(kept)
    }
}

fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY_SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn file_name(index: u64, id: &str) -> String {
    format!("{index:020}-{id}{SUFFIX}")
}

fn parse_name(name: &str) -> Option<(u64, String)> {
    let (index, id) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let index: u64 = (index.len() == 20).then(|| index.parse().ok())??;
    is_id(id).then(|| (index, id.to_owned()))
}

fn is_id(id: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

fn temporary(dir: &Path, what: &str) -> Result<(PathBuf, File), SnapshotError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("{what}-{}-{number}{TEMPORARY_SUFFIX}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(SnapshotError::io("create", &path))?;
    Ok((path, file))
}

/// A temporary file; removed when dropped, unless it was published.
#[derive(Debug)]
struct Pending(PathBuf);

impl Pending {
    /// Renames a synced file to its final name, durably.
    fn publish(
        self,
        dir: &Path,
        index: u64,
        id: &str,
        bytes: u64,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = dir.join(file_name(index, id));
        fs::rename(&self.0, &path)
            .and_then(|()| files::sync_dir(dir))
            .map_err(SnapshotError::io("finish", &path))?;
        Ok(SnapshotFile { index, id: id.to_owned(), path, bytes })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a rename this finds nothing; the next open removes any other leftover.
        let _ = fs::remove_file(&self.0);
    }
}
