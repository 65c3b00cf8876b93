//! The newest windows of a limit that are over, with the tokens that this node spent in them.
//!
//! Answers for: a history of an hour that costs about half a byte for each window. A node keeps one
//! for every subject in use.

use fluxgate_types::caps;

/// What this node spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpent {
    /// The window's number.
    pub window: u64,
    /// Tokens.
    pub spent: u64,
}

/// The newest windows that are over, at most [`caps::USAGE_WINDOWS`]; allocated with the first.
///
/// One piece of memory: a header (the newest window, the number of entries, their half bytes), then the
/// entries, oldest first, as numbers in half bytes, each three bits and whether another follows. An
/// entry whose window is the next after that of the entry before is its tokens. Any other entry is 0,
/// the distance of its window from the next, and its tokens. So a subject that spends fewer than 8 tokens
/// in each window takes half a byte for each, and one that spends fewer than 64 a byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    bytes: Box<[u8]>,
}

/// Where the entries begin.
const HEADER: usize = 4 + 1 + 2;
/// Memory grows by so many bytes: allocators give no less.
const STEP: usize = 16;
/// What an allocator gives at least.
const SMALLEST: usize = 24;
/// Half bytes of the longest entry: the mark, a distance of 34 bits, and tokens of 32 bits.
const ENTRY_MAX: usize = 1 + 12 + 11;

const _: () = assert!(caps::USAGE_WINDOWS <= u8::MAX as usize, "their number fits");
const _: () = assert!(caps::USAGE_WINDOWS * ENTRY_MAX <= u16::MAX as usize, "their length fits");

#[derive(Clone, Copy, Default)]
struct Header {
    newest: u32,
    count: u8,
    used: u16,
}

impl Header {
    fn of(bytes: &[u8]) -> Self {
        let [n0, n1, n2, n3, count, u0, u1, ..] = *bytes else { return Self::default() };
        let (newest, used) = (u32::from_le_bytes([n0, n1, n2, n3]), u16::from_le_bytes([u0, u1]));
        Self { newest, count, used }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.newest.to_le_bytes());
        bytes[4] = self.count;
        bytes[5..HEADER].copy_from_slice(&self.used.to_le_bytes());
    }
}

fn half(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 2] >> (at % 2 * 4) & 0xf
}

fn set_half(bytes: &mut [u8], at: usize, value: u8) {
    let (byte, shift) = (&mut bytes[at / 2], at % 2 * 4);
    *byte = *byte & !(0xf << shift) | value << shift;
}

/// An entry that is written.
#[derive(Default)]
struct Entry {
    halves: [u8; ENTRY_MAX],
    length: usize,
}

impl Entry {
    /// A window at this distance from the next after the entry before.
    fn new(gap: i64, spent: u32) -> Self {
        let mut entry = Self::default();
        if gap != 0 || spent == 0 {
            entry.push(0);
            entry.push((gap << 1 ^ gap >> 63).unsigned_abs());
        }
        entry.push(u64::from(spent));
        entry
    }

    fn push(&mut self, mut number: u64) {
        loop {
            let (low, rest) = (u8::try_from(number & 7).unwrap_or(0), number >> 3);
            self.halves[self.length] = low | u8::from(rest > 0) << 3;
            self.length += 1;
            if rest == 0 {
                return;
            }
            number = rest;
        }
    }
}

/// Reads entries, oldest first.
#[derive(Clone)]
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Entries<'_> {
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while self.at < self.end {
            let half = half(self.bytes, self.at);
            self.at += 1;
            number |= u64::from(half & 7) << shift;
            if half < 8 {
                break;
            }
            shift = (shift + 3).min(60);
        }
        number
    }
}

impl Iterator for Entries<'_> {
    /// The distance and the tokens.
    type Item = (i64, u64);

    fn next(&mut self) -> Option<(i64, u64)> {
        if self.at >= self.end {
            return None;
        }
        match self.number() {
            0 => {
                let gap = self.number();
                let sign = if gap & 1 == 0 { 0 } else { -1 };
                Some((i64::try_from(gap >> 1).unwrap_or(0) ^ sign, self.number()))
            }
            spent => Some((0, spent)),
        }
    }
}

impl Past {
    /// Adds a window. One with a number or tokens beyond 32 bits, which no limit allows, is left out.
    pub(super) fn push(&mut self, spent: WindowSpent) {
        let (Ok(window), Ok(spent)) = (u32::try_from(spent.window), u32::try_from(spent.spent))
        else {
            return;
        };
        let mut header = Header::of(&self.bytes);
        if usize::from(header.count) == caps::USAGE_WINDOWS {
            self.drop_oldest(&mut header);
        }
        // The distance of the oldest is not read.
        let gap = i64::from(window) - i64::from(header.newest) - 1;
        let entry = Entry::new(if header.count == 0 { 0 } else { gap }, spent);
        let from = usize::from(header.used);
        let needed = HEADER + (from + entry.length).div_ceil(2);
        if needed > self.bytes.len() {
            let beyond = needed.max(SMALLEST) - SMALLEST;
            let mut bytes = vec![0; SMALLEST + beyond.next_multiple_of(STEP)].into_boxed_slice();
            bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = bytes;
        }
        for (at, value) in entry.halves[..entry.length].iter().enumerate() {
            set_half(&mut self.bytes[HEADER..], from + at, *value);
        }
        header.used += u16::try_from(entry.length).unwrap_or(0);
        header.count += 1;
        header.newest = window;
        header.write(&mut self.bytes);
    }

    fn entries(&self, header: Header) -> Entries<'_> {
        let bytes = self.bytes.get(HEADER..).unwrap_or_default();
        Entries { bytes, at: 0, end: usize::from(header.used) }
    }

    fn drop_oldest(&mut self, header: &mut Header) {
        let mut entries = self.entries(*header);
        entries.next();
        let (from, end) = (entries.at, entries.end);
        let bytes = &mut self.bytes[HEADER..];
        if from % 2 == 0 {
            bytes.copy_within(from / 2..end.div_ceil(2), 0);
        } else {
            (from..end).for_each(|at| set_half(bytes, at - from, half(bytes, at)));
        }
        header.used = u16::try_from(end - from).unwrap_or(0);
        header.count -= 1;
    }

    /// The windows, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = WindowSpent> + '_ {
        let header = Header::of(&self.bytes);
        let entries = self.entries(header);
        // The newest is known, and the distances of all but the oldest lead back from it.
        let back: i64 = entries.clone().skip(1).map(|(gap, _)| gap + 1).sum();
        let mut next = i64::from(header.newest) - back;
        entries.enumerate().filter_map(move |(at, (gap, spent))| {
            let window = if at == 0 { next } else { next + gap };
            next = window + 1;
            Some(WindowSpent { window: u64::try_from(window).ok()?, spent })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn of(past: &Past) -> Vec<(u64, u64)> {
        past.iter().map(|one| (one.window, one.spent)).collect()
    }

    #[test]
    fn an_hour_takes_half_a_byte_for_each_minute_and_a_byte_if_the_key_is_busy() {
        for (most, bytes) in [(7, 40), (63, 72)] {
            let mut past = Past::default();
            assert_eq!(past.bytes.len(), 0);
            for window in 0..300 {
                past.push(WindowSpent { window: 29_000_000 + window, spent: 1 + window % most });
            }
            assert_eq!(past.iter().count(), caps::USAGE_WINDOWS);
            assert_eq!(of(&past)[0], (29_000_240, 1 + 240 % most));
            assert_eq!(past.bytes.len(), bytes);
        }
    }

    proptest! {
        #[test]
        fn it_keeps_what_a_plain_list_keeps(
            windows in prop::collection::vec(
                (
                    prop_oneof![
                        4 => Just(1_i64),
                        2 => -3_i64..100,
                        1 => Just(0_i64),
                        1 => Just(i64::from(u32::MAX)),
                        1 => Just(-i64::from(u32::MAX)),
                    ],
                    prop_oneof![
                        3 => 0_u64..100,
                        1 => 0_u64..1_000_000_001,
                        1 => Just(u64::from(u32::MAX)),
                        1 => Just(u64::MAX),
                    ],
                ),
                0..200,
            ),
            first in prop_oneof![Just(0_i64), Just(29_000_000), Just(i64::from(u32::MAX))],
        ) {
            let (mut past, mut plain, mut at) = (Past::default(), VecDeque::new(), first);
            for (step, spent) in windows {
                at = (at + step).clamp(0, i64::from(u32::MAX) + 1);
                let window = at.unsigned_abs();
                past.push(WindowSpent { window, spent });
                if window <= u64::from(u32::MAX) && spent <= u64::from(u32::MAX) {
                    if plain.len() == caps::USAGE_WINDOWS {
                        plain.pop_front();
                    }
                    plain.push_back((window, spent));
                }
                prop_assert_eq!(of(&past), Vec::from(plain.clone()));
            }
        }
    }
}
