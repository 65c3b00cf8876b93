//! The idempotency keys that were used within a day.
//!
//! Answers for: each key is remembered for [`caps::IDEMPOTENCY_TTL_MS`] from its last use, and at
//! most [`caps::IDEMPOTENCY_KEYS_MAX`] at once; the ones that were used first are dropped first.

use std::collections::{BTreeMap, VecDeque};

use fluxgate_types::{ClusterMs, KeyId, caps};

/// One key's last use.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// Forgotten from this moment on.
    expires: ClusterMs,
    /// The API key that it created or changed.
    id: KeyId,
    /// A hash that distinguishes the content of that request; none before level 3.
    content: Option<u64>,
    /// Its place in the order of use.
    place: u64,
}

/// A row in a snapshot: key, expiry, the API key that it created, the hash of the request.
pub(super) type IdempotencyRow = (Box<str>, ClusterMs, KeyId, Option<u64>);

/// Idempotency keys and the API keys that they created.
#[derive(Clone, Debug, Default)]
pub(super) struct Idempotency {
    used: BTreeMap<Box<str>, Used>,
    /// In order of use, hence of expiry. A key that was used again also keeps its earlier place
    /// here, which is ignored.
    order: VecDeque<(u64, Box<str>)>,
    next_place: u64,
}

impl Idempotency {
    /// The API key that this key created and the hash of that request, if remembered at `now`.
    pub(super) fn get(&self, key: &str, now: ClusterMs) -> Option<(KeyId, Option<u64>)> {
        self.used.get(key).filter(|used| now < used.expires).map(|used| (used.id, used.content))
    }

    /// Records that the key was used at `now`, and removes expired ones.
    pub(super) fn remember(
        &mut self,
        key: Box<str>,
        id: KeyId,
        content: Option<u64>,
        now: ClusterMs,
    ) {
        self.restore(key, now + caps::IDEMPOTENCY_TTL_MS, id, content);
        while let Some((place, front)) = self.order.front() {
            let used = self.used.get(front).filter(|used| used.place == *place);
            let full = self.used.len() > caps::IDEMPOTENCY_KEYS_MAX;
            match used {
                Some(used) if now < used.expires && !full => break,
                Some(_) => drop(self.used.remove(front)),
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// Adds the next row of a snapshot.
    pub(super) fn restore(
        &mut self,
        key: Box<str>,
        expires: ClusterMs,
        id: KeyId,
        content: Option<u64>,
    ) {
        let place = self.next_place;
        self.next_place += 1;
        self.used.insert(key.clone(), Used { expires, id, content, place });
        self.order.push_back((place, key));
    }

    /// All that is remembered, oldest first.
    pub(super) fn rows(&self) -> Vec<IdempotencyRow> {
        let row = |(place, key): &(u64, Box<str>)| {
            let used = self.used.get(key).filter(|used| used.place == *place)?;
            Some((key.clone(), used.expires, used.id, used.content))
        };
        self.order.iter().filter_map(row).collect()
    }
}
