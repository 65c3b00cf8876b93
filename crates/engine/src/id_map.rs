//! A map from key ids, the same on every machine.
//!
//! Key ids are drawn at random by the cluster and well mixed, so they are their own hash; nobody
//! can choose them to collide. Iteration follows from the sequence of insertions alone.

use std::hash::{BuildHasherDefault, Hasher};

use fluxgate_types::KeyId;

/// A map from key ids.
pub type IdMap<T> = hashbrown::HashMap<KeyId, T, BuildHasherDefault<IdHasher>>;

/// Takes the one word that a key id gives. Not for anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not reached by key ids; any other type still gets a sound hash.
        for byte in bytes {
            self.0 = fluxgate_types::id::mix64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
