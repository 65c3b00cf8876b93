//! Transfer of snapshot files between nodes, as plain bytes.
//!
//! Answers for: a received file gets its final name only after every byte was checked. Must never
//! accept a piece that does not continue the previous one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::snapshot::{Pending, SnapshotError, SnapshotFile, SnapshotReader, is_id};

/// A snapshot file being received piece by piece. Dropped unfinished, it leaves no file.
#[derive(Debug)]
pub struct IncomingSnapshot {
    dir: PathBuf,
    pending: Pending,
    file: File,
    received: u64,
    bytes_max: u64,
}

impl IncomingSnapshot {
    pub(super) fn new(dir: PathBuf, pending: Pending, file: File, bytes_max: u64) -> Self {
        Self { dir, pending, file, received: 0, bytes_max }
    }

    /// Bytes received so far: the offset expected next.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Appends the piece at `offset`, which must equal [`Self::received`].
    ///
    /// # Errors
    /// If the offset differs, the file would grow too large, or writing fails.
    pub fn write_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received {
            return Err(SnapshotError::Gap { expected: self.received, found: offset });
        }
        let grown = self.received.saturating_add(piece.len() as u64);
        if grown > self.bytes_max {
            return Err(SnapshotError::Invalid("it is larger than the receiver accepts"));
        }
        self.file
            .write_all_at(piece, offset)
            .map_err(SnapshotError::io("write", &self.pending.0))?;
        self.received = grown;
        Ok(())
    }

    /// Makes the file durable, checks all of it, and gives it its final name.
    ///
    /// # Errors
    /// When it is damaged or incomplete, or the system's error; the file is removed.
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        let Self { dir, pending, file, received, .. } = self;
        file.sync_all().map_err(SnapshotError::io("write", &pending.0))?;
        let reader = SnapshotReader::open(&pending.0)?;
        if !is_id(reader.id()) {
            return Err(SnapshotError::damaged(
                &pending.0,
                "its id has invalid characters or a wrong length",
            ));
        }
        let (index, id) = (reader.index(), reader.id().to_owned());
        pending.publish(&dir, index, &id, received)
    }
}

/// A snapshot file as bytes, for sending. The receiver checks it.
#[derive(Debug)]
pub struct RawSnapshot {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl RawSnapshot {
    /// Opens a snapshot for sending. It stays readable even if it is pruned meanwhile.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(file: &SnapshotFile) -> Result<Self, SnapshotError> {
        let path = file.path.clone();
        let file = File::open(&path).map_err(SnapshotError::io("open", &path))?;
        let bytes = file.metadata().map_err(SnapshotError::io("open", &path))?.len();
        Ok(Self { file, path, bytes })
    }

    /// Size of the file, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The piece at `offset`, of at most `bytes_max` bytes; empty at the end.
    ///
    /// # Errors
    /// The system's error.
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
