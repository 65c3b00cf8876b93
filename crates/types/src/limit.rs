//! A limit: a number of tokens per period.

use serde::{Deserialize, Serialize};

use crate::caps;
use crate::time::ClusterMs;
use crate::window::Window;

/// A number of tokens per period. Its name distinguishes it from the key's other limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Limit {
    /// 1 to 32 characters: lower-case letters, digits, `_` and `-`.
    pub name: Box<str>,
    /// Tokens in one period, at least 1.
    pub tokens: u64,
    /// Length of a window, milliseconds.
    pub period_ms: u64,
}

/// Why a limit, or a set of limits, is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The name is empty, too long or contains other characters.
    #[error("limit name must be 1 to {max} characters of a-z, 0-9, `_` and `-`", max = caps::LIMIT_NAME_CHARS_MAX)]
    Name,
    /// Two limits of one key have the same name.
    #[error("limit `{0}` appears twice")]
    NamedTwice(Box<str>),
    /// `tokens` is 0 or too large.
    #[error("limit `{0}`: tokens must be 1 to {max}", max = caps::LIMIT_TOKENS_MAX)]
    Tokens(Box<str>),
    /// The period is too short, too long or not whole seconds.
    #[error(
        "limit `{0}`: period must be whole seconds from 1s to 600s; longer windows are not supported by this version"
    )]
    Period(Box<str>),
    /// No limits, or too many.
    #[error("a key has 1 to {max} limits", max = caps::LIMITS_PER_KEY_MAX)]
    Count,
}

impl Limit {
    /// A limit of so many tokens in each period of so many milliseconds. Not checked.
    pub fn new(name: impl Into<Box<str>>, tokens: u64, period_ms: u64) -> Self {
        Self { name: name.into(), tokens, period_ms }
    }

    /// The window that contains `now`.
    #[must_use]
    pub const fn window_at(&self, now: ClusterMs) -> Window {
        Window::at(self.period_ms, now)
    }

    /// The window with a number.
    #[must_use]
    pub const fn window(&self, number: u64) -> Window {
        Window { number, period_ms: self.period_ms }
    }

    /// Checks one limit against the bounds in [`caps`].
    ///
    /// # Errors
    /// Names the invalid field.
    pub fn check(&self) -> Result<(), LimitError> {
        let named = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
        let length = self.name.len();
        if length == 0 || length > caps::LIMIT_NAME_CHARS_MAX || !self.name.bytes().all(named) {
            return Err(LimitError::Name);
        }
        if self.tokens == 0 || self.tokens > caps::LIMIT_TOKENS_MAX {
            return Err(LimitError::Tokens(self.name.clone()));
        }
        let periods = caps::LIMIT_PERIOD_MS_MIN..=caps::LIMIT_PERIOD_MS_MAX;
        if !periods.contains(&self.period_ms) || !self.period_ms.is_multiple_of(1_000) {
            return Err(LimitError::Period(self.name.clone()));
        }
        Ok(())
    }

    /// Checks the limits of one key together.
    ///
    /// # Errors
    /// The first error found.
    pub fn check_all(limits: &[Self]) -> Result<(), LimitError> {
        if limits.is_empty() || limits.len() > caps::LIMITS_PER_KEY_MAX {
            return Err(LimitError::Count);
        }
        for (at, limit) in limits.iter().enumerate() {
            limit.check()?;
            if limits[..at].iter().any(|other| other.name == limit.name) {
                return Err(LimitError::NamedTwice(limit.name.clone()));
            }
        }
        Ok(())
    }
}
