//! Shapes that grew by variants: the version under which they are written and read.

use fluxgate_engine::state::command::Outcome;
use fluxgate_store::codec::{self, CodecError, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raft::{AppendV1, EntryV1, PayloadV1, ProposeReplyV1, ProposeV1};
use crate::{VERSION, VERSION_NEWEST};

/// The lowest version that can hold content of a level.
#[must_use]
pub fn version_for(level: u32) -> u8 {
    u8::try_from(level).unwrap_or(VERSION_NEWEST).clamp(VERSION, VERSION_NEWEST)
}

/// Decodes a shape that grew, from any version.
///
/// # Errors
/// When the bytes are damaged, of a later version, or not of this shape.
pub fn read_grown<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    match codec::open(kind, bytes)? {
        (VERSION..=VERSION_NEWEST, payload) => codec::decode_payload(payload),
        (found, _) => Err(CodecError::Version { expected: VERSION_NEWEST, found }),
    }
}

/// A shape that grew by variants of enums: one reader reads the bytes of every version, and a value
/// is written as a later version only if an older program could not read it.
pub trait Grown: Serialize + DeserializeOwned {
    /// The lowest level of a cluster whose nodes can all read it.
    fn level(&self) -> u32;

    /// Encodes it under the lowest version that can hold it.
    ///
    /// # Errors
    /// When it is larger than an envelope may be.
    fn pack(&self, kind: Kind) -> Result<Vec<u8>, CodecError> {
        codec::encode(kind, version_for(self.level()), self)
    }

    /// Decodes it from any version.
    ///
    /// # Errors
    /// As for [`read_grown`].
    fn unpack(kind: Kind, bytes: &[u8]) -> Result<Self, CodecError> {
        read_grown(kind, bytes)
    }
}

impl Grown for EntryV1 {
    fn level(&self) -> u32 {
        match &self.payload {
            PayloadV1::Batch(batch) => batch.level(),
            PayloadV1::Blank | PayloadV1::Membership(_) => 1,
        }
    }
}

impl Grown for AppendV1 {
    fn level(&self) -> u32 {
        self.entries.iter().map(Grown::level).max().unwrap_or(1)
    }
}

impl Grown for ProposeV1 {
    fn level(&self) -> u32 {
        self.proposal.command.level()
    }
}

impl Grown for ProposeReplyV1 {
    fn level(&self) -> u32 {
        match self {
            Self::Done { outcome, .. } => match &**outcome {
                Outcome::Refused(error) => error.level(),
                Outcome::Named(_) => 4,
                Outcome::Key(row) if !row.is_plain() => 4,
                Outcome::Key(_) | Outcome::Done | Outcome::Put(_) => 1,
            },
            Self::NotLeader | Self::Busy | Self::Unknown => 1,
        }
    }
}
