//! The envelope around every stored or sent blob, and the only calls to bincode.
//!
//! Answers for: a blob is accepted only when its magic, kind, version, flags, length and checksum
//! are right and no byte is left over. Must never panic or allocate more than [`PAYLOAD_BYTES_MAX`]
//! on foreign bytes. Records are frozen once released: a change is a new version, read through
//! [`open`], and the golden bytes in the tests pin each one.
//!
//! `magic u16 | kind u8 | version u8 | flags u8 | len u32 LE | crc32 u32 LE | payload`;
//! the checksum covers everything before it and the payload.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest payload of one envelope, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Size of an envelope without its payload, bytes.
pub const HEADER_BYTES: usize = 13;

const MAGIC: [u8; 2] = *b"FG";
const CRC_OFFSET: usize = 9;

/// The type of a blob. The numbers are stored: new ones are added, none is ever reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One log entry.
    Entry = 1,
    /// The vote of Raft.
    Vote = 2,
    /// First frame of a snapshot file.
    SnapshotHeader = 3,
    /// One chunk of a snapshot.
    SnapshotChunk = 4,
    /// A message between nodes.
    PeerMessage = 5,
    /// The cluster and node that a data directory belongs to.
    Identity = 6,
    /// Token balances that a node saved at an orderly stop.
    Holdings = 7,
    /// The last committed log id that was saved.
    Committed = 8,
    /// A log id.
    LogId = 9,
    /// One slot of the hard state.
    HardState = 10,
    /// Last frame of a snapshot file.
    SnapshotFooter = 11,
    /// A checkpoint of cluster time.
    ClockMark = 12,
    /// Starts of a node that may be registered with the cluster.
    Starts = 13,
    /// Times of the keys' last use, saved periodically.
    LastUses = 14,
    /// Member addresses that override those in the log.
    Addresses = 15,
    /// How many incarnations of a node did not stop in order.
    Stops = 16,
}

/// Why bytes were rejected, or could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than the envelope declares.
    #[error("{found} bytes where the header declares {expected}")]
    Short {
        /// Bytes that the envelope needs.
        expected: usize,
        /// Bytes available.
        found: usize,
    },
    /// More bytes than the envelope or the value needs.
    #[error("{extra} bytes too many")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
    /// Not a Fluxgate envelope.
    #[error("does not start with the magic of a fluxgate envelope")]
    Magic,
    /// An envelope of another kind.
    #[error("envelope of kind {found} where kind {expected} was expected")]
    Kind {
        /// The kind that the caller expected.
        expected: u8,
        /// The kind in the envelope.
        found: u8,
    },
    /// A version that the caller does not support.
    #[error("format version {found} where {expected} was expected")]
    Version {
        /// The version that the caller expected.
        expected: u8,
        /// The version in the envelope.
        found: u8,
    },
    /// Flags unknown to this build.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// The content was changed.
    #[error("checksum does not match")]
    Checksum,
    /// The payload is larger than an envelope may carry.
    #[error("{bytes} bytes are more than the {PAYLOAD_BYTES_MAX} that an envelope may carry")]
    TooLarge {
        /// Size of the payload, bytes.
        bytes: usize,
    },
    /// bincode could not write or read the value.
    #[error("value does not fit its format: {0}")]
    Value(String),
}

const fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<PAYLOAD_BYTES_MAX>()
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// Wraps bytes, unchanged, in an envelope.
///
/// # Errors
/// When the payload is larger than [`PAYLOAD_BYTES_MAX`].
pub fn seal(kind: Kind, version: u8, payload: &[u8]) -> Result<Vec<u8>, CodecError> {
    let too_large = CodecError::TooLarge { bytes: payload.len() };
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(too_large);
    }
    let Ok(len) = u32::try_from(payload.len()) else {
        return Err(too_large);
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[kind as u8, version, 0]);
    bytes.extend_from_slice(&len.to_le_bytes());
    let crc = checksum(&bytes, payload);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Payload length declared by an envelope's first bytes, for stream readers. Checks magic, flags
/// and bounds; [`open`] checks the checksum.
///
/// # Errors
/// When these are not the first bytes of an envelope.
pub fn payload_bytes(header: &[u8]) -> Result<usize, CodecError> {
    let Some(head) = header.first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::Short { expected: HEADER_BYTES, found: header.len() });
    };
    if head[..2] != MAGIC {
        return Err(CodecError::Magic);
    }
    if head[4] != 0 {
        return Err(CodecError::Flags(head[4]));
    }
    let bytes = u32::from_le_bytes([head[5], head[6], head[7], head[8]]) as usize;
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes });
    }
    Ok(bytes)
}

/// Checks an envelope and returns its version and payload, for readers of several versions.
///
/// # Errors
/// When anything about the envelope is wrong.
pub fn open(kind: Kind, bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    let len = payload_bytes(bytes)?;
    let expected = HEADER_BYTES + len;
    if bytes.len() < expected {
        return Err(CodecError::Short { expected, found: bytes.len() });
    }
    if bytes.len() > expected {
        return Err(CodecError::Trailing { extra: bytes.len() - expected });
    }
    let (head, payload) = bytes.split_at(HEADER_BYTES);
    let stored = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
    if checksum(&head[..CRC_OFFSET], payload) != stored {
        return Err(CodecError::Checksum);
    }
    if head[2] != kind as u8 {
        return Err(CodecError::Kind { expected: kind as u8, found: head[2] });
    }
    Ok((head[3], payload))
}

/// Decodes a value from a payload that [`open`] returned; every byte must be used.
///
/// # Errors
/// When the bytes are not exactly one such value.
pub fn decode_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(payload, config())
        .map_err(|error| CodecError::Value(error.to_string()))?;
    if used != payload.len() {
        return Err(CodecError::Trailing { extra: payload.len().saturating_sub(used) });
    }
    Ok(value)
}

/// Encodes a value and wraps it in an envelope.
///
/// # Errors
/// When the value cannot be written or is too large.
pub fn encode<T: Serialize>(kind: Kind, version: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let payload = bincode::serde::encode_to_vec(value, config())
        .map_err(|error| CodecError::Value(error.to_string()))?;
    seal(kind, version, &payload)
}

/// Decodes a value from an envelope of exactly this kind and version.
///
/// # Errors
/// When anything about the envelope or the value is wrong.
pub fn decode<T: DeserializeOwned>(kind: Kind, version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (found, payload) = open(kind, bytes)?;
    if found != version {
        return Err(CodecError::Version { expected: version, found });
    }
    decode_payload(payload)
}
