//! One number for the whole replicated state: equal on two nodes whose states are equal.
//!
//! A sum over the keys and the small parts, so that a change costs only the hash of what changed,
//! and a state from a snapshot has the same number as one that was applied entry by entry. It
//! guards against bugs and damage, not against an attacker who chooses keys that collide.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use fluxgate_types::LogIndex;
use fluxgate_types::id::mix64;

use super::record::KeyRecord;

/// How many digests of the newest entries a node keeps, to compare with other nodes.
pub const DIGESTS_KEPT: usize = 4_096;

/// A hasher that gives the same on every machine and in every build.
#[derive(Clone, Copy, Debug, Default)]
struct StateHasher(u64);

impl Hasher for StateHasher {
    fn finish(&self) -> u64 {
        mix64(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = mix64(self.0 ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64);
        }
    }
}

/// The digest of one part of the state; `part` separates equal contents of two parts.
pub(super) fn of(part: u8, value: &impl Hash) -> u64 {
    let mut hasher = StateHasher(u64::from(part) + 1);
    value.hash(&mut hasher);
    hasher.finish()
}

/// The digest of one key. Leaves out what differs between nodes: place in memory and last use.
pub(super) fn of_key(record: &KeyRecord) -> u64 {
    let previous = record.previous.as_ref().map(|p| (*p.digest.as_bytes(), p.until));
    let first = (
        record.id.as_str(),
        *record.digest.as_bytes(),
        record.scope,
        record.enabled,
        record.revision,
        record.created_index,
        record.created_at,
        record.created_by,
    );
    let second = (
        record.revoked_at,
        record.expires_at,
        &record.name,
        &record.head,
        &record.owner,
        &record.limits,
        previous,
        &record.metadata,
    );
    let plain = of(0, &(first, second));
    if record.terms.is_empty() {
        return plain;
    }
    plain.wrapping_add(of(5, &(record.id.as_str(), &record.terms)))
}

/// The digests after the newest entries with commands, oldest first, and the applied log index.
#[derive(Debug, Default)]
pub(super) struct Digests {
    kept: VecDeque<(LogIndex, u64)>,
    applied: LogIndex,
}

impl Digests {
    pub(super) fn push(&mut self, index: LogIndex, digest: u64) {
        if self.kept.len() == DIGESTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((index, digest));
        self.applied = index;
    }

    /// An entry without a command was applied: the state is unchanged.
    pub(super) fn pass(&mut self, index: LogIndex) {
        self.applied = index;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn newest(&self) -> Option<(LogIndex, u64)> {
        self.kept.back().map(|(_, digest)| (self.applied, *digest))
    }

    /// The digest after this entry, if it is applied and kept.
    pub(super) fn at(&self, index: LogIndex) -> Option<u64> {
        let behind = self.kept.partition_point(|(at, _)| *at <= index);
        let (_, digest) =
            self.kept.get(behind.checked_sub(1)?).filter(|_| index <= self.applied)?;
        Some(*digest)
    }
}
