//! Finds keys without an index: the table is in memory, and an index would need memory too.
//!
//! Answers for: a scan of a million keys takes some ten milliseconds, and other tasks run in between.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::hint;

use fluxgate_engine::state::entry::{KeyEntry, Texts};
use fluxgate_engine::state::table::{KeyTable, Part};
use fluxgate_types::KEY_ID_PREFIX;
use memchr::memmem::Finder;

/// The newest keys, which are scanned in their order.
const IN_ORDER: usize = 4_096;
/// Parts of the table that are scanned before other tasks may run.
const PARTS_AT_ONCE: usize = 16;
/// Names of up to this length are compared without a copy on the heap, bytes.
const SHORT_NAME: usize = 128;

/// The newest keys that fit among those created before place `before`, newest first.
///
/// First scans the newest keys in their order. If these are not enough, it scans all keys as they lie
/// in memory, which takes several times less time per key than following the order.
pub(super) async fn newest(
    table: &KeyTable,
    before: usize,
    count: usize,
    fits: impl Fn(&KeyEntry) -> bool,
) -> Vec<KeyEntry> {
    let mut found = Vec::new();
    let places = table.page(before, IN_ORDER);
    for (place, id) in &places {
        // A key that was erased and imported again has a later place.
        let fits = |e: &KeyEntry| e.seq() as usize == *place && fits(e);
        found.extend(table.with(id, |e| fits(e).then(|| e.clone())).flatten());
        if found.len() == count {
            return found;
        }
    }
    let Some(&(oldest @ 1.., _)) = places.last() else { return found };
    let mut rest = Newest { before: oldest, count: count - found.len(), heap: BinaryHeap::new() };
    for (at, part) in table.parts().enumerate() {
        rest.look(&part, &fits);
        if at % PARTS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    found.extend(rest.heap.into_sorted_vec().into_iter().map(|Reverse(BySeq(entry))| entry));
    found
}

/// The newest keys that were found so far.
#[derive(Debug)]
struct Newest {
    before: usize,
    count: usize,
    // The oldest of them is on top.
    heap: BinaryHeap<Reverse<BySeq>>,
}

impl Newest {
    fn look(&mut self, part: &Part, fits: impl Fn(&KeyEntry) -> bool) {
        // Comparing one key after another would wait for memory each time. Reading a byte of every
        // key first loads them together.
        let touch = |sum: u8, entry: &KeyEntry| sum ^ entry.last_byte();
        hint::black_box(part.entries().fold(0, touch));
        for entry in part.entries() {
            let seq = entry.seq() as usize;
            let is_full = self.heap.len() == self.count;
            let is_older = |top: &Reverse<BySeq>| is_full && seq < top.0.0.seq() as usize;
            if seq >= self.before || self.heap.peek().is_some_and(is_older) || !fits(entry) {
                continue;
            }
            if is_full {
                self.heap.pop();
            }
            self.heap.push(Reverse(BySeq(entry.clone())));
        }
    }
}

/// A key, ordered by when it was created.
#[derive(Debug)]
struct BySeq(KeyEntry);

impl Ord for BySeq {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.seq().cmp(&other.0.seq())
    }
}

impl PartialOrd for BySeq {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BySeq {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySeq {}

/// The searched text: part of a name, or the beginning of a prefix or id, in any case.
#[derive(Debug)]
pub(super) struct Needle {
    lower: String,
    // What follows the `key_` of an id.
    id: Option<String>,
    finder: Finder<'static>,
}

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        // Lists show a prefix with an ellipsis, and a person may copy it.
        let lower = text.trim_end_matches('…').to_lowercase();
        let finder = Finder::new(&lower).into_owned();
        let id = lower.strip_prefix(KEY_ID_PREFIX).map(str::to_owned);
        Self { lower, id, finder }
    }

    /// Whether a key matches.
    pub(super) fn is_in(&self, key: &KeyEntry) -> bool {
        let (key_id, Texts { name, head, .. }) = (key.id(), key.texts());
        let is_id = |id: &String| {
            let start = key_id.as_str().as_bytes().get(..id.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(id.as_bytes()))
        };
        // Without a copy: a list does this for every key.
        let mut prefix = head.bytes().chain(key_id.as_str().bytes());
        let is_next = |wanted| prefix.next().is_some_and(|b| b.to_ascii_lowercase() == wanted);
        self.is_part_of(name)
            || self.lower.bytes().all(is_next)
            || self.id.as_ref().is_some_and(is_id)
    }

    fn is_part_of(&self, name: &str) -> bool {
        let mut buffer = [0; SHORT_NAME];
        match buffer.get_mut(..name.len()) {
            Some(lower) if name.is_ascii() => {
                lower.copy_from_slice(name.as_bytes());
                lower.make_ascii_lowercase();
                self.finder.find(lower).is_some()
            }
            _ => self.finder.find(name.to_lowercase().as_bytes()).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_found_in_any_case_and_script() {
        let is_part = |name: &str, text: &str| Needle::new(text).is_part_of(name);
        for part in ["", "prod", "Duction s", "sync", "Production Sync"] {
            assert!(is_part("Production Sync", part), "{part}");
        }
        for part in ["production  sync", "é", "production sync!"] {
            assert!(!is_part("Production Sync", part), "{part}");
        }
        assert!(is_part("Ünïcode Straße", "ünï") && is_part("Ünïcode Straße", "STRAßE"));
        assert!(!is_part("Ünïcode", "unicode"));
        assert!(is_part(&"long name ".repeat(30), "E LONG"));
    }
}
