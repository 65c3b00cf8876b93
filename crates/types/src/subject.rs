//! What a counter belongs to.

use std::fmt;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::id::{KEY_ID_CHARS, KeyId, mix64};

/// What a counter belongs to: a key, or something that only has a name.
///
/// A key is its id. Everything else is 94 bits of a SipHash-2-4 (Aumasson and Bernstein, 2012) of
/// kind and name under the [`SubjectSeed`] of the cluster: names come from strangers, who must not be
/// able to choose two that share a counter. Among a thousand million names, two share one with a
/// probability of 3 · 10⁻¹¹. The first byte tells the two apart: that of a key id is a letter or a digit,
/// that of a hash is 128 or more.
///
/// Limits that only count what they would have denied have counters of their own, which belong to the
/// shadow of the subject: the same bytes except for one bit. So no request waits for tokens of theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject([u8; KEY_ID_CHARS]);

/// The first bit of a hash.
const HASHED: u8 = 0x80;
/// The bit in the first byte of a hash that makes it a shadow.
const SHADOW_OF_HASH: u8 = 0x40;
/// The bit in the second byte of a key id that makes it a shadow: characters of an id are below 128.
const SHADOW_OF_KEY: u8 = 0x80;

/// The key of the hash of names, the same on all nodes: random, and part of the replicated state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectSeed(pub [u8; 16]);

/// Does not show the seed: who knows it can choose names that share a counter.
impl fmt::Debug for SubjectSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectSeed(…)")
    }
}

/// What a named subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind<'a> {
    /// All keys of one owner together.
    Owner,
    /// Every request that is charged to a pool.
    Pool,
    /// A plan. It has no counters: those that name it have.
    Plan,
    /// A name that callers give within this namespace.
    Identifier(&'a str),
}

impl Subject {
    /// The subject with this name.
    #[must_use]
    pub fn named(seed: &SubjectSeed, kind: SubjectKind<'_>, name: &str) -> Self {
        let mut hasher = SipHasher24::new_with_key(&seed.0);
        let (number, namespace) = match kind {
            SubjectKind::Owner => (1, ""),
            SubjectKind::Pool => (2, ""),
            SubjectKind::Identifier(namespace) => (3, namespace),
            SubjectKind::Plan => (4, ""),
        };
        hasher.write(&[number]);
        // With their lengths: otherwise ("a", "bc") and ("ab", "c") would be the same.
        for text in [namespace, name] {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        let hash = hasher.finish128().as_bytes();
        let mut bytes = [0; KEY_ID_CHARS];
        bytes.copy_from_slice(&hash[..KEY_ID_CHARS]);
        bytes[0] = (bytes[0] | HASHED) & !SHADOW_OF_HASH;
        Self(bytes)
    }

    /// What the limits in mode shadow of this subject belong to.
    #[must_use]
    pub fn shadow(&self) -> Self {
        let (at, bit) = self.shadow_bit();
        let mut bytes = self.0;
        bytes[at] |= bit;
        Self(bytes)
    }

    /// The subject whose shadow it is, if it is one.
    #[must_use]
    pub fn shadow_of(&self) -> Option<Self> {
        let (at, bit) = self.shadow_bit();
        let mut bytes = self.0;
        bytes[at] &= !bit;
        (bytes != self.0).then_some(Self(bytes))
    }

    fn shadow_bit(&self) -> (usize, u8) {
        if self.0[0] & HASHED == 0 { (1, SHADOW_OF_KEY) } else { (0, SHADOW_OF_HASH) }
    }

    /// The key that it is, if it is one.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        KeyId::new(self.0).ok()
    }

    /// 64 well-mixed bits, the same on every node: for shards and rendezvous hashes. Those of a key are
    /// [`KeyId::mix`].
    #[must_use]
    pub fn mix(&self) -> u64 {
        let (mut a, mut b) = ([0u8; 8], [0u8; 8]);
        a.copy_from_slice(&self.0[..8]);
        b[..4].copy_from_slice(&self.0[8..]);
        mix64(u64::from_le_bytes(a) ^ mix64(u64::from_le_bytes(b)))
    }
}

impl From<KeyId> for Subject {
    fn from(key: KeyId) -> Self {
        Self(*key.as_bytes())
    }
}

impl std::hash::Hash for Subject {
    /// One word that is well mixed already, so a table needs no further hash.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.mix());
    }
}

/// The id of a key, or the hash: a name appears nowhere.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key() {
            return key.fmt(f);
        }
        f.write_str("subject_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SEED: SubjectSeed = SubjectSeed([7; 16]);

    fn identifier(namespace: &str, name: &str) -> Subject {
        Subject::named(&SEED, SubjectKind::Identifier(namespace), name)
    }

    #[test]
    fn a_key_is_its_id_and_a_name_is_none() {
        let key: KeyId = "key_abcdefghijkl".parse().expect("an id");
        let subject = Subject::from(key);
        assert_eq!((subject.key(), subject.mix()), (Some(key), key.mix()));
        assert_eq!(subject.to_string(), "key_abcdefghijkl");
        // Also one that is spelled like an id.
        for name in ["abcdefghijkl", "key_abcdefghijkl", "", "\u{0}"] {
            for kind in [SubjectKind::Owner, SubjectKind::Pool, SubjectKind::Identifier("ns")] {
                let named = Subject::named(&SEED, kind, name);
                assert_eq!(named.key(), None, "{kind:?} {name:?}");
                assert!(named.to_string().starts_with("subject_"), "{named}");
            }
        }
    }

    #[test]
    fn a_shadow_is_another_subject_and_leads_back() {
        let key: KeyId = "key_abcdefghijkl".parse().expect("an id");
        let names = (0..1_000).map(|at: u32| identifier("ns", &at.to_string()));
        for subject in names.chain([Subject::from(key)]) {
            let shadow = subject.shadow();
            assert_ne!((shadow, shadow.mix()), (subject, subject.mix()));
            assert_eq!((shadow.key(), shadow.shadow_of()), (None, Some(subject)));
            assert_eq!((subject.shadow_of(), shadow.shadow()), (None, shadow));
        }
    }

    #[test]
    fn kind_namespace_and_name_are_distinguished() {
        let mut all = HashSet::new();
        for (namespace, name) in
            [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a", "b\u{0}c")]
        {
            assert!(all.insert(identifier(namespace, name)), "{namespace:?} {name:?}");
        }
        for kind in [SubjectKind::Owner, SubjectKind::Pool, SubjectKind::Plan] {
            assert!(all.insert(Subject::named(&SEED, kind, "abc")), "{kind:?}");
        }
        assert_eq!(identifier("a", "bc"), identifier("a", "bc"));
    }

    #[test]
    fn another_seed_gives_other_subjects() {
        let other = SubjectSeed([8; 16]);
        let theirs = Subject::named(&other, SubjectKind::Owner, "acme");
        assert_ne!(theirs, Subject::named(&SEED, SubjectKind::Owner, "acme"));
        assert_eq!(format!("{other:?}"), "SubjectSeed(…)");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Of the bytes 3, length 2 and "ns", length 1 and "x", computed with another implementation.
        let seed = SubjectSeed([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let subject = Subject::named(&seed, SubjectKind::Identifier("ns"), "x");
        assert_eq!(subject.to_string(), "subject_b5a0eea116a268b3e60bdb2d");
    }
}
