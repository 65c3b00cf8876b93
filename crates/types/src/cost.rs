//! What a request costs.

use std::fmt;

/// Tokens that one request spends from each limit of its key. 0 is a peek: the answer is that of a
/// request of cost 1, and nothing is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(pub u64);

impl Cost {
    /// Nothing is spent.
    pub const PEEK: Self = Self(0);
    /// Where a request names no cost.
    pub const ONE: Self = Self(1);

    /// Whether nothing is spent.
    #[must_use]
    pub const fn is_peek(self) -> bool {
        self.0 == 0
    }

    /// Whether a balance suffices for it.
    #[must_use]
    pub fn is_covered_by(self, balance: i64) -> bool {
        u64::try_from(balance).is_ok_and(|balance| balance >= self.0)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
