//! A caller's credential: `fx_live_{id}_{secret}{checksum}`.
//!
//! Answers for: the shape, the checksum, the digest, and that a secret is never printed.
//! The checksum catches typing errors before any lookup; it is not a security measure.

pub(crate) mod base62;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use subtle::{Choice, ConstantTimeEq as _};

use crate::caps;
use crate::id::{KEY_ID_CHARS, KeyId, are_alphanumeric};

/// Length of the secret, characters: 43 characters of base62 hold 256 bits.
pub const SECRET_CHARS: usize = 43;
/// Length of the checksum, characters: a CRC-32 in base62.
pub const CHECKSUM_CHARS: usize = 6;
/// Longest prefix or environment, characters.
pub const PREFIX_CHARS_MAX: usize = 8;

const _: () =
    assert!(2 * PREFIX_CHARS_MAX + 3 + KEY_ID_CHARS + SECRET_CHARS + CHECKSUM_CHARS <= 80);

/// SHA-256 of a whole credential: the only part of it that is ever stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a credential's text.
    #[must_use]
    pub fn of(credential: &[u8]) -> Self {
        Self(sha2::Sha256::digest(credential).into())
    }

    /// Wraps a digest that was computed elsewhere, such as one from disk or from an import.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw SHA-256, for storage and comparison.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time, so that the time does not reveal how many bytes match.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let same = mine.iter().zip(theirs);
        same.fold(Choice::from(1), |all, (a, b)| all & word(a).ct_eq(&word(b))).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// Why a text is not a credential. Callers never see the reason: every case is the same 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Longer than the bound, or shorter than any credential.
    #[error("credential has the wrong length")]
    Length,
    /// Not `prefix_environment_id_secret`.
    #[error("credential has the wrong shape")]
    Shape,
    /// The last six characters are not the checksum of the rest.
    #[error("credential has a wrong checksum")]
    Checksum,
}

/// A well-formed credential: the id that it names, and the digest to compare with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The public id of the key.
    pub key_id: KeyId,
    /// SHA-256 of the whole text.
    pub digest: Digest,
}

impl Credential {
    /// Checks shape and checksum, then hashes.
    ///
    /// # Errors
    /// The reason, for tests and counters only: callers must not learn it.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialError> {
        if text.len() > caps::CREDENTIAL_BYTES_MAX {
            return Err(CredentialError::Length);
        }
        let tail = KEY_ID_CHARS + 1 + SECRET_CHARS + CHECKSUM_CHARS;
        // The shortest prefix and environment are `f_l_`.
        let head_len = text.len().checked_sub(tail).filter(|&n| n >= 4);
        let head_len = head_len.ok_or(CredentialError::Length)?;
        let (head, tail) = text.split_at(head_len);
        let (id, secret) = tail.split_at(KEY_ID_CHARS);
        if !is_head(head) || secret[0] != b'_' || !are_alphanumeric(&secret[1..]) {
            return Err(CredentialError::Shape);
        }
        let id: [u8; KEY_ID_CHARS] = id.try_into().map_err(|_| CredentialError::Shape)?;
        let key_id = KeyId::new(id).map_err(|_| CredentialError::Shape)?;
        let (body, checksum) = text.split_at(text.len() - CHECKSUM_CHARS);
        if checksum != base62::of_u32(crc32fast::hash(body)) {
            return Err(CredentialError::Checksum);
        }
        Ok(Self { key_id, digest: Digest::of(text) })
    }
}

/// Whether a text has the shape of one of our keys, even with a typing error or cut off after its
/// id.
#[must_use]
pub fn is_like_a_key(text: &[u8]) -> bool {
    let mut parts = text.splitn(4, |&c| c == b'_');
    let head = parts.next().zip(parts.next());
    let is_head = head.is_some_and(|(prefix, environment)| is_part(prefix) && is_part(environment));
    let id = parts.next().and_then(|id| <[u8; KEY_ID_CHARS]>::try_from(id).ok());
    is_head && id.is_some_and(|id| KeyId::new(id).is_ok())
}

/// Whether a text contains anything that looks like one of our keys.
#[must_use]
pub fn holds_a_key(text: &[u8]) -> bool {
    let words = text.split(|c| !(c.is_ascii_alphanumeric() || *c == b'_'));
    let mut parts = words.flat_map(|word| {
        // A key may follow another word directly: `user_fx_live_…`.
        let starts = word.iter().enumerate().filter(|(_, c)| **c == b'_').map(|(at, _)| at + 1);
        std::iter::once(0).chain(starts).map(|start| &word[start..])
    });
    parts.any(is_like_a_key)
}

/// Whether this is 1 to 8 lower-case letters and digits.
fn is_part(part: &[u8]) -> bool {
    (1..=PREFIX_CHARS_MAX).contains(&part.len())
        && part.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Whether this is `prefix_environment_`, each of 1 to 8 lower-case letters and digits.
fn is_head(head: &[u8]) -> bool {
    let mut parts = head.split(|&c| c == b'_');
    let (prefix, environment) = (parts.next(), parts.next());
    prefix.is_some_and(is_part)
        && environment.is_some_and(is_part)
        && parts.next() == Some(&[])
        && parts.next().is_none()
}

/// Whether a configured prefix or environment is valid within a credential.
#[must_use]
pub fn is_prefix(text: &str) -> bool {
    is_head(format!("{text}_x_").as_bytes())
}

/// A whole credential in the clear. It exists from its creation to the one response that shows it,
/// and cannot be printed, logged, cloned or stored by accident.
pub struct Secret(String);

impl Secret {
    /// Builds the credential of a key from random bytes of the operating system. `None` when too
    /// few usable bytes were given (256 practically always suffice).
    #[must_use]
    pub fn make(prefix: &str, environment: &str, key_id: KeyId, random: &[u8]) -> Option<Self> {
        let mut secret = [0u8; SECRET_CHARS];
        if !base62::fill(&mut secret, random) {
            return None;
        }
        let secret = std::str::from_utf8(&secret).ok()?;
        let mut text = format!("{prefix}_{environment}_{}_{secret}", key_id.as_str());
        let checksum = base62::of_u32(crc32fast::hash(text.as_bytes()));
        text.push_str(std::str::from_utf8(&checksum).ok()?);
        Some(Self(text))
    }

    /// The digest to store in place of the credential.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The clear text, for the one response that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The start of a key's credential up to and including its id: safe to show.
#[must_use]
pub fn shown_prefix(prefix: &str, environment: &str, key_id: &KeyId) -> String {
    format!("{prefix}_{environment}_{}", key_id.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Secret {
        let id: KeyId = "key_Qm2xK9dA3f01".parse().unwrap();
        Secret::make("fx", "live", id, &[7u8; 64]).unwrap()
    }

    #[test]
    fn a_generated_credential_parses_and_names_its_key() {
        let secret = sample();
        assert_eq!(secret.expose().len(), 70);
        let parsed = Credential::parse(secret.expose().as_bytes()).unwrap();
        assert_eq!(parsed.key_id.as_str(), "Qm2xK9dA3f01");
        assert!(parsed.digest.matches(&secret.digest()));
    }

    #[test]
    fn any_changed_character_is_rejected() {
        let text = sample().expose().as_bytes().to_vec();
        for at in 0..text.len() {
            let mut wrong = text.clone();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert!(Credential::parse(&wrong).is_err(), "at {at}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = sample();
        let shown = format!("{secret:?} {:?}", secret.digest());
        assert!(!shown.contains("7777"), "{shown}");
        assert!(!shown.contains(secret.expose()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Credential::parse(&text);
        }

        #[test]
        fn random_bytes_make_a_credential_that_parses(random in proptest::collection::vec(any::<u8>(), 128)) {
            let id: KeyId = "key_000000000000".parse().unwrap();
            if let Some(secret) = Secret::make("abc12345", "test", id, &random) {
                prop_assert!(Credential::parse(secret.expose().as_bytes()).is_ok());
                prop_assert!(secret.expose().len() <= 80);
            }
        }
    }

    #[test]
    fn our_keys_are_distinguished_from_other_tokens() {
        for ours in ["fx_live_AAAAAAAAAAAA_nonsense", "fx_live_AAAAAAAAAAAA", "f_l_0aZ0aZ0aZ0aZ_"] {
            assert!(is_like_a_key(ours.as_bytes()), "{ours}");
        }
        for other in [
            "",
            "eyJhbGciOiJub25lIn0.e30.",
            "sk_live_51H",
            "ghp_16C7e42F292c6912E7710c838347",
            "FX_live_AAAAAAAAAAAA_x",
            "fx_live_AAAAAAAAAAA_x",
            "a_b",
            "xoxb-1-2",
        ] {
            assert!(!is_like_a_key(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_key_is_found_anywhere_in_a_text() {
        for holds in [
            "Token fx_live_AAAAAAAAAAAA_x",
            "fx_live_AAAAAAAAAAAA_x",
            "Bearer\tfx_live_AAAAAAAAAAAA_x",
            "Bearer \"fx_live_AAAAAAAAAAAA_x\"",
            "Digest response=\"fx_live_AAAAAAAAAAAA_x\", nc=1",
            "user:fx_live_AAAAAAAAAAAA_x",
            "user_fx_live_AAAAAAAAAAAA_x",
        ] {
            assert!(holds_a_key(holds.as_bytes()), "{holds}");
        }
        for other in ["", "Basic dXNlcjpwYXNz", "Bearer eyJ.e30_a_b.x", "Token a_b_c_d"] {
            assert!(!holds_a_key(other.as_bytes()), "{other}");
        }
    }
}
