//! Random numbers from a seed: the only source of chance in a simulation.

use fluxgate_types::id::mix64;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(mix64(seed ^ 0x5eed))
    }

    /// One of several streams of a seed, for parts of a run that draw independently of each other.
    #[must_use]
    pub fn stream(seed: u64, number: u64) -> Self {
        Self(mix64(seed ^ mix64(number)))
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.0)
    }

    /// A number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.draw() % end }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True this many times in a thousand.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    /// True this many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// An index into a list of this length; 0 if it is empty.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Puts a list into a random order (Durstenfeld, CACM 7/1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.place(at + 1);
            items.swap(at, other);
        }
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }

    /// A span with this mean, exponentially distributed, cut at ten times the mean.
    pub fn span(&mut self, mean: u64) -> u64 {
        // -ln(u) by a table of bits would be exact on every machine; the libm of Rust's standard
        // library is not promised to be, so the logarithm is taken in integers: a geometric draw.
        let steps = (0..640).take_while(|_| self.below(64) != 0).count() as u64;
        let part = self.below(mean / 64 + 1);
        steps * mean / 64 + part
    }
}
