//! Idempotency keys that were used, for a day.
//!
//! Answers for: each key is remembered for [`caps::IDEMPOTENCY_TTL_MS`] from its last use on, and at
//! most [`caps::IDEMPOTENCY_KEYS_MAX`] at once, of which the ones used first go first.

use std::collections::{BTreeMap, VecDeque};

use fluxgate_types::{ClusterMs, KeyId, caps};

/// One key's last use.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// Forgotten from this moment on.
    expires: ClusterMs,
    /// The API key that it made.
    id: KeyId,
    /// Its place in the order of use.
    place: u64,
}

/// Idempotency keys and the API keys that they made.
#[derive(Clone, Debug, Default)]
pub(super) struct Idempotency {
    used: BTreeMap<Box<str>, Used>,
    /// In order of use, hence of expiry. A key that was used again also has its former place here,
    /// which counts for nothing.
    order: VecDeque<(u64, Box<str>)>,
    next_place: u64,
}

impl Idempotency {
    /// The API key that this key made, if it is remembered at `now`.
    pub(super) fn get(&self, key: &str, now: ClusterMs) -> Option<KeyId> {
        self.used.get(key).filter(|used| now < used.expires).map(|used| used.id)
    }

    /// Remembers that the key was used at `now`, and forgets those whose time is over.
    pub(super) fn remember(&mut self, key: Box<str>, id: KeyId, now: ClusterMs) {
        self.restore(key, now + caps::IDEMPOTENCY_TTL_MS, id);
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

    /// Takes the next row of a snapshot.
    pub(super) fn restore(&mut self, key: Box<str>, expires: ClusterMs, id: KeyId) {
        let place = self.next_place;
        self.next_place += 1;
        self.used.insert(key.clone(), Used { expires, id, place });
        self.order.push_back((place, key));
    }

    /// All that is remembered, oldest first: key, expiry, the API key that it made.
    pub(super) fn rows(&self) -> Vec<(Box<str>, ClusterMs, KeyId)> {
        let row = |(place, key): &(u64, Box<str>)| {
            let used = self.used.get(key).filter(|used| used.place == *place)?;
            Some((key.clone(), used.expires, used.id))
        };
        self.order.iter().filter_map(row).collect()
    }
}
