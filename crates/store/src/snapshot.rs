//! Snapshot files: written, received, listed, cleaned up.
//!
//! Answers for: a file under its final name is whole and durable. A file is a header
//! frame, numbered chunk frames of at most 1 MiB, and a footer with the totals; each frame
//! is an envelope with its own checksum. Must never know what a snapshot contains.
//!
//! `snapshots/<index, 20 digits>-<id>.snap`; whatever ends in `.tmp` is litter of a crash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Kind};
use crate::data_dir::DataDir;
use crate::files::{self, TEMPORARY_SUFFIX};
use crate::snapshot_read::SnapshotReader;

/// Most bytes of one chunk.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Longest id, characters.
pub const ID_CHARS_MAX: usize = 64;
/// Most bytes that the caller may put into the header.
pub const META_BYTES_MAX: usize = 256 * 1024;
/// Snapshots that [`SnapshotStore::prune`] leaves.
pub const KEPT: usize = 2;

pub(crate) const VERSION: u8 = 1;
const SUFFIX: &str = ".snap";
/// Bytes of a chunk's number, before its data.
pub(crate) const SEQUENCE_BYTES: usize = 4;

/// First frame of a file. Frozen as version 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeaderV1 {
    pub(crate) index: u64,
    pub(crate) id: String,
    pub(crate) meta: Vec<u8>,
}

/// Last frame of a file. Frozen as version 1.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FooterV1 {
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("cannot {action} snapshot {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("snapshot {path} is damaged: {what}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The caller gave what no snapshot may have.
    #[error("not a snapshot: {0}")]
    Invalid(&'static str),
    /// A piece does not follow what has been received.
    #[error("piece at offset {found} where offset {expected} comes next")]
    Gap {
        /// Bytes received so far.
        expected: u64,
        /// The offset that was given.
        found: u64,
    },
}

impl SnapshotError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }

    pub(crate) fn codec(path: &Path) -> impl FnOnce(CodecError) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Damaged {
            path,
            what: error.to_string(),
        }
    }
}

/// A snapshot that is there, by its name. Its content is checked when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Index of the last entry that it covers.
    pub index: u64,
    /// The id that its writer gave it.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The snapshots of a data directory. A clone is a handle on the same ones.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
}

impl SnapshotStore {
    /// Opens the snapshots of a data directory and removes unfinished ones.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(dir: &DataDir) -> Result<Self, SnapshotError> {
        Self::open_at(&dir.path().join("snapshots"))
    }

    /// The same, in any directory.
    ///
    /// # Errors
    /// What the system said.
    pub fn open_at(dir: &Path) -> Result<Self, SnapshotError> {
        if !dir.is_dir() {
            DirBuilder::new()
                .mode(0o700)
                .create(dir)
                .and_then(|()| files::sync_parent(dir))
                .map_err(SnapshotError::io("create the directory of", dir))?;
        }
        remove_unfinished(dir).map_err(SnapshotError::io("clean up", dir))?;
        Ok(Self {
            dir: dir.to_path_buf(),
        })
    }

    /// Starts a new snapshot. `id` becomes part of the file's name: letters, digits and
    /// `-`, `_`, `.`. `meta` is for the caller.
    ///
    /// # Errors
    /// When the id or the meta is not acceptable, or the system refuses.
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
    /// What the system said.
    pub fn list(&self) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let mut found = Vec::new();
        self.collect(&mut found)
            .map_err(SnapshotError::io("list", &self.dir))?;
        found.sort_by(|a, b| (b.index, &b.id).cmp(&(a.index, &a.id)));
        Ok(found)
    }

    fn collect(&self, found: &mut Vec<SnapshotFile>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some((index, id)) = entry.file_name().to_str().and_then(parse_name) {
                let bytes = entry.metadata()?.len();
                found.push(SnapshotFile {
                    index,
                    id,
                    path: entry.path(),
                    bytes,
                });
            }
        }
        Ok(())
    }

    /// The newest snapshot whose every byte is right, ready to be read. Damaged ones are
    /// passed over, with a line in the log, and left where they are.
    ///
    /// # Errors
    /// What the system said.
    pub fn newest_valid(&self) -> Result<Option<(SnapshotFile, SnapshotReader)>, SnapshotError> {
        for file in self.list()? {
            match SnapshotReader::open(&file.path) {
                Ok(reader) => return Ok(Some((file, reader))),
                Err(error @ SnapshotError::Damaged { .. }) => {
                    tracing::error!(%error, "snapshot passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes all but the newest [`KEPT`]; gives the number of those removed.
    ///
    /// # Errors
    /// What the system said.
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

    /// Starts to receive a snapshot file of at most `bytes_max` bytes from elsewhere.
    ///
    /// # Errors
    /// What the system said.
    pub fn receive(&self, bytes_max: u64) -> Result<IncomingSnapshot, SnapshotError> {
        let (path, file) = temporary(&self.dir, "incoming")?;
        let dir = self.dir.clone();
        Ok(IncomingSnapshot {
            dir,
            pending: Pending(path),
            file,
            received: 0,
            bytes_max,
        })
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
        if entry
            .file_name()
            .to_string_lossy()
            .ends_with(TEMPORARY_SUFFIX)
        {
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
    let path = dir.join(format!(
        "{what}-{}-{number}{TEMPORARY_SUFFIX}",
        std::process::id()
    ));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(SnapshotError::io("create", &path))?;
    Ok((path, file))
}

/// A temporary file; removed when it is dropped, unless it got its name.
#[derive(Debug)]
struct Pending(PathBuf);

impl Pending {
    /// Gives a synced file its name, durably.
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
        Ok(SnapshotFile {
            index,
            id: id.to_owned(),
            path,
            bytes,
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a rename there is nothing; what stays for another reason goes at open.
        let _ = fs::remove_file(&self.0);
    }
}

/// A snapshot being written. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotWriter {
    dir: PathBuf,
    pending: Pending,
    file: BufWriter<File>,
    index: u64,
    id: String,
    footer: FooterV1,
    hasher: crc32fast::Hasher,
    file_bytes: u64,
}

impl SnapshotWriter {
    fn create(dir: &Path, index: u64, id: &str, meta: &[u8]) -> Result<Self, SnapshotError> {
        if !is_id(id) {
            return Err(SnapshotError::Invalid(
                "its id has characters that no file name may have",
            ));
        }
        if meta.len() > META_BYTES_MAX {
            return Err(SnapshotError::Invalid("its meta is larger than 256 KiB"));
        }
        let (path, file) = temporary(dir, "writing")?;
        let mut writer = Self {
            dir: dir.to_path_buf(),
            pending: Pending(path),
            file: BufWriter::with_capacity(256 * 1024, file),
            index,
            id: id.to_owned(),
            footer: FooterV1::default(),
            hasher: crc32fast::Hasher::new(),
            file_bytes: 0,
        };
        let header = HeaderV1 {
            index,
            id: id.to_owned(),
            meta: meta.to_vec(),
        };
        let frame = codec::encode(Kind::SnapshotHeader, VERSION, &header);
        writer.put(frame)?;
        Ok(writer)
    }

    fn put(&mut self, frame: Result<Vec<u8>, CodecError>) -> Result<(), SnapshotError> {
        let path = &self.pending.0;
        let frame = frame.map_err(SnapshotError::codec(path))?;
        self.file
            .write_all(&frame)
            .map_err(SnapshotError::io("write", path))?;
        self.file_bytes += frame.len() as u64;
        Ok(())
    }

    /// Adds a chunk, which a reader gets back as one piece.
    ///
    /// # Errors
    /// When it is empty or larger than [`CHUNK_BYTES_MAX`], or the system refuses.
    pub fn write_chunk(&mut self, data: &[u8]) -> Result<(), SnapshotError> {
        if data.is_empty() || data.len() > CHUNK_BYTES_MAX {
            return Err(SnapshotError::Invalid("a chunk has 1 byte to 1 MiB"));
        }
        let Some(chunks) = self.footer.chunks.checked_add(1) else {
            return Err(SnapshotError::Invalid("it has too many chunks"));
        };
        let mut payload = Vec::with_capacity(SEQUENCE_BYTES + data.len());
        payload.extend_from_slice(&self.footer.chunks.to_le_bytes());
        payload.extend_from_slice(data);
        self.put(codec::seal(Kind::SnapshotChunk, VERSION, &payload))?;
        self.hasher.update(data);
        self.footer.chunks = chunks;
        self.footer.bytes += data.len() as u64;
        Ok(())
    }

    /// Ends the file. When this returns it is durable under its name.
    ///
    /// # Errors
    /// What the system said; the snapshot is then gone.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        self.footer.crc = self.hasher.clone().finalize();
        self.put(codec::encode(Kind::SnapshotFooter, VERSION, &self.footer))?;
        let Self {
            dir,
            pending,
            file,
            index,
            id,
            file_bytes,
            ..
        } = self;
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(SnapshotError::io("write", &pending.0))?;
        pending.publish(&dir, index, &id, file_bytes)
    }
}

/// A snapshot file being received, piece after piece. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct IncomingSnapshot {
    dir: PathBuf,
    pending: Pending,
    file: File,
    received: u64,
    bytes_max: u64,
}

impl IncomingSnapshot {
    /// Bytes received so far: the offset that comes next.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Adds the piece at `offset`, which must be the one that comes next.
    ///
    /// # Errors
    /// When it is another, the file grows too large, or the system refuses.
    pub fn write_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received {
            return Err(SnapshotError::Gap {
                expected: self.received,
                found: offset,
            });
        }
        let grown = self.received.saturating_add(piece.len() as u64);
        if grown > self.bytes_max {
            return Err(SnapshotError::Invalid(
                "it is larger than what is received here",
            ));
        }
        self.file
            .write_all_at(piece, offset)
            .map_err(SnapshotError::io("write", &self.pending.0))?;
        self.received = grown;
        Ok(())
    }

    /// Makes the file durable, checks all of it, and gives it its name.
    ///
    /// # Errors
    /// When it is damaged or incomplete, or the system refuses; it is then gone.
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        let Self {
            dir,
            pending,
            file,
            received,
            ..
        } = self;
        file.sync_all()
            .map_err(SnapshotError::io("write", &pending.0))?;
        let reader = SnapshotReader::open(&pending.0)?;
        if !is_id(reader.id()) {
            return Err(SnapshotError::damaged(&pending.0, "its id is no id"));
        }
        let (index, id) = (reader.index(), reader.id().to_owned());
        pending.publish(&dir, index, &id, received)
    }
}

/// A snapshot file as bytes, to be sent elsewhere. The receiver checks it.
#[derive(Debug)]
pub struct RawSnapshot {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl RawSnapshot {
    /// Opens a snapshot for sending. It stays readable when it is pruned meanwhile.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(file: &SnapshotFile) -> Result<Self, SnapshotError> {
        let path = file.path.clone();
        let file = File::open(&path).map_err(SnapshotError::io("open", &path))?;
        let bytes = file
            .metadata()
            .map_err(SnapshotError::io("open", &path))?
            .len();
        Ok(Self { file, path, bytes })
    }

    /// Size of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The piece at `offset`, of at most `bytes_max` bytes; empty at the end.
    ///
    /// # Errors
    /// What the system said.
    pub fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>, SnapshotError> {
        let left = self.bytes.saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max);
        let mut piece = vec![0u8; size];
        self.file
            .read_exact_at(&mut piece, offset)
            .map_err(SnapshotError::io("read", &self.path))?;
        Ok(piece)
    }
}
