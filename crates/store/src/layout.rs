//! Keys and values of the database: how an entry is split into parts and reassembled.
//!
//! `L <index u64 BE> <part u16 BE>` holds a slice of an entry; part 0 starts with the entry's
//! length, its checksum and the checksum of the previous entry. Each checksum covers the previous
//! one, so an older version of an entry that damage brings back breaks the chain. `M <name>` holds
//! a single value. Must never trust a length read from disk.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Kind};
use crate::error::StoreError;
use crate::hard_state::NumberedVote;
use crate::sled_backend::VALUE_BYTES_MAX;

/// Largest entry, bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(crate) const VOTE: &[u8] = b"Mvote";
pub(crate) const PURGED: &[u8] = b"Mpurged";
pub(crate) const COMMITTED: &[u8] = b"Mcommitted";
/// Index of the first entry, when the log did not begin right after its purge marker.
pub(crate) const START: &[u8] = b"Mstart";
pub(crate) const PROBE: &[u8] = b"Mprobe";

/// Bounds of a scan over all keys.
pub(crate) const ALL: (&[u8], &[u8]) = (b"", &[0xff; 12]);

const KEY_BYTES: usize = 11;
const ENTRY_HEADER_BYTES: usize = 12;
const VERSION: u8 = 1;
/// The previous checksum in the first entry of a log.
pub(crate) const CHAIN_START: u32 = 0;

const _: () = assert!(ENTRY_BYTES_MAX / VALUE_BYTES_MAX < u16::MAX as usize);

/// The key of one part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartKey {
    pub(crate) index: u64,
    pub(crate) part: u16,
}

impl PartKey {
    /// The key of an entry's first part: also the lower bound of a scan that starts there.
    pub(crate) const fn first(index: u64) -> Self {
        Self { index, part: 0 }
    }

    pub(crate) fn bytes(self) -> [u8; KEY_BYTES] {
        let mut key = [0u8; KEY_BYTES];
        key[0] = b'L';
        key[1..9].copy_from_slice(&self.index.to_be_bytes());
        key[9..].copy_from_slice(&self.part.to_be_bytes());
        key
    }

    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        let (tag, rest) = key.split_first()?;
        let (index, part) = rest.split_at(8);
        (*tag == b'L').then_some(Self {
            index: u64::from_be_bytes(index.try_into().ok()?),
            part: u16::from_be_bytes(part.try_into().ok()?),
        })
    }
}

/// Upper bound of a scan that ends with entry `index`.
pub(crate) fn after(index: u64) -> Vec<u8> {
    match index.checked_add(1) {
        Some(next) => PartKey::first(next).bytes().to_vec(),
        None => b"M".to_vec(),
    }
}

/// An entry's link in the chain of checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) crc: u32,
    pub(crate) previous: u32,
}

impl Link {
    pub(crate) fn of(index: u64, previous: u32, bytes: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&index.to_be_bytes());
        hasher.update(&previous.to_le_bytes());
        hasher.update(bytes);
        Self { crc: hasher.finalize(), previous }
    }
}

/// Rejects an entry that is too large for the database.
pub(crate) fn check_size(bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(StoreError::TooLarge {
            what: "entry",
            bytes: bytes.len(),
            bytes_max: ENTRY_BYTES_MAX,
        });
    }
    Ok(())
}

/// Splits an entry into its parts, first to last. The caller checked it with [`check_size`].
pub(crate) fn parts(index: u64, link: Link, bytes: &[u8]) -> Vec<(PartKey, Vec<u8>)> {
    let head = bytes.len().min(VALUE_BYTES_MAX - ENTRY_HEADER_BYTES);
    let (head, tail) = bytes.split_at(head);
    let mut first = Vec::with_capacity(ENTRY_HEADER_BYTES + head.len());
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    first.extend_from_slice(&length.to_le_bytes());
    first.extend_from_slice(&link.crc.to_le_bytes());
    first.extend_from_slice(&link.previous.to_le_bytes());
    first.extend_from_slice(head);
    let mut parts = vec![(PartKey::first(index), first)];
    for (part, slice) in (1..=u16::MAX).zip(tail.chunks(VALUE_BYTES_MAX)) {
        parts.push((PartKey { index, part }, slice.to_vec()));
    }
    parts
}

/// An entry that is being reassembled from its parts.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) index: u64,
    length: usize,
    link: Link,
    parts: u16,
    bytes: Vec<u8>,
}

/// Why a part does not fit into the entry being reassembled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) String);

impl Assembly {
    /// Starts with the first part of an entry.
    pub(crate) fn begin(key: PartKey, value: &[u8]) -> Result<Self, Misfit> {
        let index = key.index;
        if key.part != 0 {
            return Err(Misfit(format!("entry {index} has no first part")));
        }
        let (Some(header), true) =
            (value.first_chunk::<ENTRY_HEADER_BYTES>(), value.len() <= VALUE_BYTES_MAX)
        else {
            return Err(Misfit(format!("entry {index} has a first part of a wrong size")));
        };
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(0) as usize;
        let bytes = value[ENTRY_HEADER_BYTES..].to_vec();
        if length > ENTRY_BYTES_MAX || bytes.len() > length {
            return Err(Misfit(format!("entry {index} has a wrong length")));
        }
        Ok(Self { index, length, link: Link { crc: word(4), previous: word(8) }, parts: 1, bytes })
    }

    /// Adds the next part.
    pub(crate) fn push(&mut self, key: PartKey, value: &[u8]) -> Result<(), Misfit> {
        let fits = key.index == self.index
            && key.part == self.parts
            && !value.is_empty()
            && value.len() <= VALUE_BYTES_MAX
            && self.bytes.len() + value.len() <= self.length;
        if !fits {
            return Err(Misfit(format!("entry {} has a part that does not fit", self.index)));
        }
        self.parts += 1;
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Whether all parts were added.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() == self.length
    }

    /// The entry, if it matches its checksum.
    pub(crate) fn finish(self) -> Result<(Link, Vec<u8>), Misfit> {
        if !self.is_whole() {
            return Err(Misfit(format!("entry {} has a part missing", self.index)));
        }
        if Link::of(self.index, self.link.previous, &self.bytes) != self.link {
            return Err(Misfit(format!("entry {} does not match its checksum", self.index)));
        }
        Ok((self.link, self.bytes))
    }
}

pub(crate) fn encode_vote(vote: &NumberedVote) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::Vote, VERSION, vote)
}

pub(crate) fn decode_vote(value: &[u8]) -> Result<NumberedVote, CodecError> {
    codec::decode(Kind::Vote, VERSION, value)
}

pub(crate) fn seal_committed(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    codec::seal(Kind::Committed, VERSION, bytes)
}

pub(crate) fn open_committed(value: &[u8]) -> Result<Vec<u8>, CodecError> {
    match codec::open(Kind::Committed, value)? {
        (VERSION, payload) => Ok(payload.to_vec()),
        (found, _) => Err(CodecError::Version { expected: VERSION, found }),
    }
}

/// The purge marker: the last purged index, and the caller's log id for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Purged {
    pub(crate) upto: u64,
    pub(crate) marker: Vec<u8>,
}

pub(crate) fn encode_purged(purged: &Purged) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::LogId, VERSION, purged)
}

pub(crate) fn decode_purged(value: &[u8]) -> Result<Purged, CodecError> {
    codec::decode(Kind::LogId, VERSION, value)
}

pub(crate) fn encode_start(index: u64) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::LogId, VERSION, &index)
}

pub(crate) fn decode_start(value: &[u8]) -> Result<u64, CodecError> {
    codec::decode(Kind::LogId, VERSION, value)
}
