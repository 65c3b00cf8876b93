//! The newest windows of a limit that are over, with the tokens that this node spent in them.
//!
//! Answers for: a history of an hour that costs about one byte for each window. A node keeps one
//! for every key in use.

use fluxgate_types::caps;
use integer_encoding::VarInt as _;

use crate::varint::take;

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
/// One piece of memory: a header (the oldest window, the newest one, the number of entries, the bytes
/// used), then the entries, oldest first, as integers of variable length. An entry whose window is the
/// next after that of the entry before is one number: twice the tokens. Any other entry is twice the
/// tokens plus one, and then the distance of its window from the next. So a key that spends fewer than
/// 64 tokens in each window takes one byte for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    bytes: Box<[u8]>,
}

/// Where the entries begin.
const HEADER: usize = 4 + 4 + 1 + 2;
/// Memory grows by so many bytes: allocators give no less.
const STEP: usize = 16;
/// What an allocator gives at least.
const SMALLEST: usize = 24;
/// The longest entry: numbers of 33 and 34 bits.
const ENTRY_MAX: usize = 10;

const _: () = assert!(caps::USAGE_WINDOWS <= u8::MAX as usize, "their number fits");

struct Header {
    oldest: u32,
    newest: u32,
    count: u8,
    used: u16,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let [b0, b1, b2, b3, n0, n1, n2, n3, count, u0, u1, ..] = *bytes else { return None };
        Some(Self {
            oldest: u32::from_le_bytes([b0, b1, b2, b3]),
            newest: u32::from_le_bytes([n0, n1, n2, n3]),
            count,
            used: u16::from_le_bytes([u0, u1]),
        })
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.newest.to_le_bytes());
        bytes[8] = self.count;
        bytes[9..HEADER].copy_from_slice(&self.used.to_le_bytes());
    }
}

/// An entry of a window at this distance from the next after the entry before, and its length.
fn encode(gap: i64, spent: u32) -> ([u8; ENTRY_MAX], usize) {
    let mut entry = [0; ENTRY_MAX];
    let mut length = (u64::from(spent) << 1 | u64::from(gap != 0)).encode_var(&mut entry);
    if gap != 0 {
        length += gap.encode_var(&mut entry[length..]);
    }
    (entry, length)
}

/// The first entry, which is taken from the front: the distance and the tokens.
fn decode(bytes: &mut &[u8]) -> Option<(i64, u32)> {
    let first: u64 = take(bytes)?;
    let gap = if first & 1 == 0 { 0 } else { take(bytes)? };
    Some((gap, u32::try_from(first >> 1).ok()?))
}

impl Past {
    /// Adds a window. One with a number or tokens beyond 32 bits, which no limit allows, is left out.
    pub(super) fn push(&mut self, spent: WindowSpent) {
        let (Ok(window), Ok(spent)) = (u32::try_from(spent.window), u32::try_from(spent.spent))
        else {
            return;
        };
        let mut header = Header::of(&self.bytes).unwrap_or(Header {
            oldest: window,
            newest: window,
            count: 0,
            used: 0,
        });
        if usize::from(header.count) == caps::USAGE_WINDOWS {
            self.drop_oldest(&mut header);
        }
        // The distance of the oldest is not read.
        let gap = i64::from(window) - i64::from(header.newest) - 1;
        let (entry, length) = encode(if header.count == 0 { 0 } else { gap }, spent);
        let from = HEADER + usize::from(header.used);
        if from + length > self.bytes.len() {
            let needed = (from + length).max(SMALLEST) - SMALLEST;
            let mut bytes = vec![0; SMALLEST + needed.next_multiple_of(STEP)].into_boxed_slice();
            bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = bytes;
        }
        self.bytes[from..from + length].copy_from_slice(&entry[..length]);
        header.used += u16::try_from(length).unwrap_or(0);
        header.count += 1;
        header.newest = window;
        header.write(&mut self.bytes);
    }

    fn drop_oldest(&mut self, header: &mut Header) {
        let end = HEADER + usize::from(header.used);
        let mut rest = &self.bytes[HEADER..end];
        let (_, from) = (decode(&mut rest), end - rest.len());
        let second = decode(&mut rest);
        header.oldest = second.map_or(header.newest, |(gap, _)| window_after(header.oldest, gap));
        self.bytes.copy_within(from..end, HEADER);
        header.used = u16::try_from(end - from).unwrap_or(0);
        header.count -= 1;
    }

    /// The windows, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = WindowSpent> + '_ {
        let header = Header::of(&self.bytes);
        let used = header.as_ref().map_or(0, |header| usize::from(header.used));
        let mut rest = self.bytes.get(HEADER..HEADER + used).unwrap_or_default();
        let mut before = None;
        std::iter::from_fn(move || {
            let (gap, spent) = decode(&mut rest)?;
            let oldest = header.as_ref().map_or(0, |header| header.oldest);
            let window = before.map_or(oldest, |before| window_after(before, gap));
            before = Some(window);
            Some(WindowSpent { window: u64::from(window), spent: u64::from(spent) })
        })
    }
}

/// The window at this distance from the one after `before`.
fn window_after(before: u32, gap: i64) -> u32 {
    u32::try_from(i64::from(before) + 1 + gap).unwrap_or(before)
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
    fn an_hour_of_a_busy_key_takes_one_byte_for_each_minute() {
        let mut past = Past::default();
        assert_eq!(past.bytes.len(), 0);
        for window in 0..300 {
            past.push(WindowSpent { window: 29_000_000 + window, spent: 1 + window % 63 });
        }
        assert_eq!(past.iter().count(), caps::USAGE_WINDOWS);
        assert_eq!(of(&past)[0], (29_000_240, 1 + 240 % 63));
        assert_eq!(past.bytes.len(), 72);
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
