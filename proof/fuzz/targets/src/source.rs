//! Splits an input into choices.
//!
//! Small numbers come from single bytes, so that one changed byte changes one choice. An input at
//! its end returns only zeros, so a loop must check [`Source::is_empty`].

/// The unread part of an input.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A choice out of `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// True once in `count` times.
    pub(crate) fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub(crate) fn short(&mut self) -> u64 {
        u64::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// Any number: small ones take few bytes, and the largest takes one.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            200..=229 => self.short(),
            230..=249 => {
                let mut bytes = [0u8; 8];
                bytes.fill_with(|| self.byte());
                u64::from_le_bytes(bytes)
            }
            250 => u64::from(u32::MAX),
            251 => i64::MAX.unsigned_abs(),
            252 => i64::MIN.unsigned_abs(),
            253 => u64::MAX - 1,
            _ => u64::MAX,
        }
    }

    /// At most `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
