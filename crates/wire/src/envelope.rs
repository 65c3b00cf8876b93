//! The envelope of a message between nodes.

use fluxgate_engine::state::cluster_state::LEVEL;
use fluxgate_store::codec::{self, CodecError, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of every record and message whose content a cluster of level 1 knows.
pub const VERSION: u8 = 1;
/// The version of records and messages with content of level 2, and of the shapes that came with it.
pub const VERSION_2: u8 = 2;
/// The version of records and messages with content of level 3.
pub const VERSION_3: u8 = 3;
/// The version of records and messages with content of level 4.
pub const VERSION_4: u8 = 4;
/// The version of records and messages with content of the newest level: each level has a version of
/// the same number.
pub const VERSION_NEWEST: u8 = LEVEL.to_le_bytes()[0];

/// Encodes a message between nodes.
///
/// # Errors
/// When it is larger than an envelope may be.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::PeerMessage, VERSION, message)
}

/// Decodes a message between nodes.
///
/// # Errors
/// When the bytes are damaged, of another version, or not such a message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(Kind::PeerMessage, VERSION, bytes)
}

/// Encodes a message between nodes in the shape of a later version.
///
/// # Errors
/// When it is larger than an envelope may be.
pub fn encode_as<T: Serialize>(version: u8, message: &T) -> Result<Vec<u8>, CodecError> {
    codec::encode(Kind::PeerMessage, version, message)
}

/// Decodes a message between nodes of exactly this version.
///
/// # Errors
/// As for [`decode`].
pub fn decode_as<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(Kind::PeerMessage, version, bytes)
}

/// The version of a message, if it is one.
#[must_use]
pub fn version_of(bytes: &[u8]) -> Option<u8> {
    codec::open(Kind::PeerMessage, bytes).ok().map(|(version, _)| version)
}
