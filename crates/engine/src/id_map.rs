//! A map from key ids, the same on every machine.
//!
//! The cluster draws key ids at random and mixes them well, so an id is its own hash; no caller
//! can choose ids that collide. Iteration order depends only on the sequence of insertions.

use std::hash::{BuildHasherDefault, Hasher};

use fluxgate_types::KeyId;

/// A map from key ids.
pub type IdMap<T> = hashbrown::HashMap<KeyId, T, BuildHasherDefault<IdHasher>>;

/// Takes the one word that a key id writes. Use it for key ids only.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Key ids never reach this; any other type still gets a sound hash.
        for byte in bytes {
            self.0 = fluxgate_types::id::mix64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
