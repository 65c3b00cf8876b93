//! Identifiers. Each has its own type, so that no two can be swapped by mistake.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of characters of a key's public id.
pub const KEY_ID_CHARS: usize = 12;
/// Prefix of the public id wherever a record is named.
pub const KEY_ID_PREFIX: &str = "key_";

/// The configured id of a node, 1 or higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One incarnation of a node: a run of its process. Each start on a data directory counts up by
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Random id of a data directory, drawn when the directory is created and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DirId(pub u64);

/// A position in the replicated log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The public id of a key: twelve random base62 characters. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId([u8; KEY_ID_CHARS]);

/// A text that is not the id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key id: expected `key_` and 12 letters or digits")]
pub struct KeyIdError;

impl KeyId {
    /// Builds an id from its twelve characters, without the prefix.
    ///
    /// # Errors
    /// When one of them is neither a letter nor a digit.
    pub fn new(chars: [u8; KEY_ID_CHARS]) -> Result<Self, KeyIdError> {
        if are_alphanumeric(&chars) { Ok(Self(chars)) } else { Err(KeyIdError) }
    }

    /// Draws an id from random bytes, without bias: bytes from 248 up are skipped. `None` when too
    /// few usable bytes were given (64 random bytes practically always suffice).
    #[must_use]
    pub fn from_random(random: &[u8]) -> Option<Self> {
        let mut chars = [0u8; KEY_ID_CHARS];
        crate::credential::base62::fill(&mut chars, random).then_some(Self(chars))
    }

    /// The id of an imported key, derived from its digest. A credential of any shape thus leads to
    /// its record, and importing the same credential twice creates one key.
    #[must_use]
    pub fn of_imported(digest: &crate::Digest) -> Self {
        let mut chars = [0u8; KEY_ID_CHARS];
        for (slot, byte) in chars.iter_mut().zip(digest.as_bytes()) {
            *slot = crate::credential::base62::of_byte(*byte);
        }
        Self(chars)
    }

    /// The twelve characters, without the prefix.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_ID_CHARS] {
        &self.0
    }

    /// The twelve characters as text, without the prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("????????????")
    }

    /// 64 well-mixed bits of the id, the same on every node: for shards and rendezvous hashes.
    #[must_use]
    pub fn mix(&self) -> u64 {
        let (mut a, mut b) = ([0u8; 8], [0u8; 8]);
        a.copy_from_slice(&self.0[..8]);
        b[..4].copy_from_slice(&self.0[8..]);
        mix64(u64::from_le_bytes(a) ^ mix64(u64::from_le_bytes(b)))
    }
}

/// Whether all of these are letters and digits. Looks at all of them, also after one that is not: so
/// the compiler takes several at once.
pub(crate) fn are_alphanumeric(chars: &[u8]) -> bool {
    chars.iter().fold(true, |all, char| all & char.is_ascii_alphanumeric())
}

/// A full-avalanche mix of 64 bits (the finalizer of SplitMix64, Steele et al., OOPSLA 2014).
#[must_use]
pub const fn mix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl std::hash::Hash for KeyId {
    /// One word that is well mixed already, so a table needs no further hash.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.mix());
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_ID_PREFIX}{}", self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let chars = text.strip_prefix(KEY_ID_PREFIX).ok_or(KeyIdError)?;
        let chars: [u8; KEY_ID_CHARS] = chars.as_bytes().try_into().map_err(|_| KeyIdError)?;
        Self::new(chars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_reads_back_what_it_prints() {
        let id: KeyId = "key_Qm2xK9dA3f01".parse().unwrap();
        assert_eq!(id.to_string(), "key_Qm2xK9dA3f01");
        assert_eq!(id.as_str(), "Qm2xK9dA3f01");
    }

    #[test]
    fn malformed_key_ids_are_rejected() {
        for text in [
            "",
            "key_",
            "key_short",
            "Qm2xK9dA3f01",
            "key_Qm2xK9dA3f0_",
            "key_Qm2xK9dA3f012",
            "key_äääääää",
        ] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }
}
