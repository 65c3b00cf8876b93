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
    /// The API key that it made or changed.
    id: KeyId,
    /// What tells the content of that request from another one's; none before level 3.
    content: Option<u64>,
    /// Its place in the order of use.
    place: u64,
}

/// One of them in a snapshot: key, expiry, the API key that it made, the content of the request.
pub(super) type IdempotencyRow = (Box<str>, ClusterMs, KeyId, Option<u64>);

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
    /// The API key that this key made, and the content of that request, if it is remembered at `now`.
    pub(super) fn get(&self, key: &str, now: ClusterMs) -> Option<(KeyId, Option<u64>)> {
        self.used.get(key).filter(|used| now < used.expires).map(|used| (used.id, used.content))
    }

    /// Remembers that the key was used at `now`, and forgets those whose time is over.
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

    /// Takes the next row of a snapshot.
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
