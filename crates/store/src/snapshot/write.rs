//! Writes a snapshot file.
//!
//! Answers for: a file gets its final name only when it is complete and durable.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::codec::{self, CodecError, Kind};
use crate::snapshot::{
    CHUNK_BYTES_MAX, FooterV1, HeaderV1, META_BYTES_MAX, Pending, SEQUENCE_BYTES, SnapshotError,
    SnapshotFile, VERSION, is_id, temporary,
};

/// A snapshot being written. Dropped unfinished, it leaves no file.
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
    pub(super) fn create(
        dir: &Path,
        index: u64,
        id: &str,
        meta: &[u8],
    ) -> Result<Self, SnapshotError> {
        if !is_id(id) {
            return Err(SnapshotError::Invalid("its id has invalid characters or a wrong length"));
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
        let header = HeaderV1 { index, id: id.to_owned(), meta: meta.to_vec() };
        let frame = codec::encode(Kind::SnapshotHeader, VERSION, &header);
        writer.put(frame)?;
        Ok(writer)
    }

    fn put(&mut self, frame: Result<Vec<u8>, CodecError>) -> Result<(), SnapshotError> {
        let path = &self.pending.0;
        let frame = frame.map_err(SnapshotError::codec(path))?;
        self.file.write_all(&frame).map_err(SnapshotError::io("write", path))?;
        self.file_bytes += frame.len() as u64;
        Ok(())
    }

    /// Adds a chunk, which a reader gets back as one unit.
    ///
    /// # Errors
    /// When it is empty or larger than [`CHUNK_BYTES_MAX`], or the system's error.
    pub fn write_chunk(&mut self, data: &[u8]) -> Result<(), SnapshotError> {
        if data.is_empty() || data.len() > CHUNK_BYTES_MAX {
            return Err(SnapshotError::Invalid("a chunk must have 1 byte to 1 MiB"));
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

    /// Completes the file. When this returns it is durable under its final name.
    ///
    /// # Errors
    /// The system's error; the file is removed.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        self.footer.crc = self.hasher.clone().finalize();
        self.put(codec::encode(Kind::SnapshotFooter, VERSION, &self.footer))?;
        let Self { dir, pending, file, index, id, file_bytes, .. } = self;
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(SnapshotError::io("write", &pending.0))?;
        pending.publish(&dir, index, &id, file_bytes)
    }
}
