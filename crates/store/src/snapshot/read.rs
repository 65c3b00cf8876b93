//! Reads a snapshot file.
//!
//! Answers for: no byte is returned before the whole file was checked, including the footer and the
//! end of the file, and each chunk is checked again when it is returned. Must never trust a length
//! from the file beyond the fixed bounds.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use crate::codec::{self, Kind};
use crate::snapshot::{
    CHUNK_BYTES_MAX, FooterV1, HeaderV1, META_BYTES_MAX, SEQUENCE_BYTES, SnapshotError, VERSION,
};

/// Largest payload of any frame, bytes: a full chunk, or a header with a full meta.
const PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES_MAX + 1024;
const _: () = assert!(META_BYTES_MAX + 1024 <= PAYLOAD_BYTES_MAX);

/// A checked snapshot, positioned at its first chunk.
#[derive(Debug)]
pub struct SnapshotReader {
    frames: Frames,
    header: HeaderV1,
}

impl SnapshotReader {
    /// Opens a file and checks all of it.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let mut frames = Frames::open(path)?;
        frames.header()?;
        while frames.next_chunk()?.is_some() {}
        frames.rewind()?;
        let header = frames.header()?;
        Ok(Self { frames, header })
    }

    /// Index of the last entry that the snapshot covers.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.header.index
    }

    /// The id that its writer chose.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// The caller-defined part of the header.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.header.meta
    }

    /// The next chunk, as it was written; `None` after the last.
    ///
    /// # Errors
    /// When the file changed since it was opened, or cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        self.frames.next_chunk()
    }
}

/// The frames of a file, in order.
#[derive(Debug)]
struct Frames {
    path: PathBuf,
    file: BufReader<File>,
    seen: FooterV1,
    hasher: crc32fast::Hasher,
    ended: bool,
}

impl Frames {
    fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(SnapshotError::io("open", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(256 * 1024, file),
            seen: FooterV1::default(),
            hasher: crc32fast::Hasher::new(),
            ended: false,
        })
    }

    fn rewind(&mut self) -> Result<(), SnapshotError> {
        self.file.rewind().map_err(SnapshotError::io("read", &self.path))?;
        self.seen = FooterV1::default();
        self.hasher = crc32fast::Hasher::new();
        self.ended = false;
        Ok(())
    }

    fn damaged(&self, what: &str) -> SnapshotError {
        SnapshotError::damaged(&self.path, what)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.file.read_exact(bytes).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                self.damaged("it ends too early")
            } else {
                SnapshotError::io("read", &self.path)(error)
            }
        })
    }

    /// One whole frame; its checksum is not checked yet.
    fn frame(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let mut frame = vec![0u8; codec::HEADER_BYTES];
        self.read_exact(&mut frame)?;
        let bytes = codec::payload_bytes(&frame).map_err(SnapshotError::codec(&self.path))?;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("a frame is too large"));
        }
        frame.resize(codec::HEADER_BYTES + bytes, 0);
        self.read_exact(&mut frame[codec::HEADER_BYTES..])?;
        Ok(frame)
    }

    fn header(&mut self) -> Result<HeaderV1, SnapshotError> {
        let frame = self.frame()?;
        codec::decode(Kind::SnapshotHeader, VERSION, &frame)
            .map_err(SnapshotError::codec(&self.path))
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.frame()?;
        match codec::open(Kind::SnapshotChunk, &frame) {
            Ok((VERSION, payload)) => self.chunk(payload).map(Some),
            Ok((version, _)) => Err(self.damaged(&format!("unknown version {version}"))),
            Err(codec::CodecError::Kind { .. }) => self.footer(&frame).map(|()| None),
            Err(error) => Err(SnapshotError::codec(&self.path)(error)),
        }
    }

    fn chunk(&mut self, payload: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let Some((sequence, data)) = payload.split_first_chunk::<SEQUENCE_BYTES>() else {
            return Err(self.damaged("a chunk has no number"));
        };
        if u32::from_le_bytes(*sequence) != self.seen.chunks {
            return Err(self.damaged("a chunk is missing or repeated"));
        }
        let Some(chunks) = self.seen.chunks.checked_add(1) else {
            return Err(self.damaged("it has too many chunks"));
        };
        self.seen.chunks = chunks;
        self.seen.bytes += data.len() as u64;
        self.hasher.update(data);
        Ok(data.to_vec())
    }

    fn footer(&mut self, frame: &[u8]) -> Result<(), SnapshotError> {
        let footer: FooterV1 = codec::decode(Kind::SnapshotFooter, VERSION, frame)
            .map_err(SnapshotError::codec(&self.path))?;
        self.seen.crc = self.hasher.clone().finalize();
        if footer != self.seen {
            return Err(self.damaged("its totals do not match"));
        }
        let mut more = [0u8; 1];
        match self.file.read(&mut more) {
            Ok(0) => {
                self.ended = true;
                Ok(())
            }
            Ok(_) => Err(self.damaged("there are bytes after its footer")),
            Err(error) => Err(SnapshotError::io("read", &self.path)(error)),
        }
    }
}
