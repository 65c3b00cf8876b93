//! A limit: a number of tokens per period.

use std::hash::{Hash, Hasher};

use crate::caps;
use crate::scope::{Scope, Scopes};
use crate::time::ClusterMs;
use crate::window::Window;

/// A number of tokens per period. Its name distinguishes it from the key's other limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// 1 to 32 characters: lower-case letters, digits, `_` and `-`.
    pub name: Box<str>,
    /// Tokens in one period, at least 1.
    pub tokens: u64,
    /// Length of a window, milliseconds.
    pub period_ms: u64,
    /// It counts only requests that require one of these scopes; all requests if there are none.
    pub scopes: Scopes,
    /// What happens to a request when it is used up.
    pub mode: Mode,
}

/// What happens to a request when a limit is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The request is denied.
    #[default]
    Enforce,
    /// The request is admitted; what would have been denied is counted.
    Shadow,
}

/// The bit of [`Limit::marks`] for [`Mode::Shadow`], above those of the scopes.
const SHADOW: u8 = 1 << 7;

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
    #[error("there must be 1 to {max} limits", max = caps::LIMITS_PER_KEY_MAX)]
    Count,
}

/// Without marks as in programs that know only name, tokens and period: their states must have the
/// same digest.
impl Hash for Limit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.tokens.hash(state);
        self.period_ms.hash(state);
        let marks = self.marks();
        if marks != 0 {
            marks.hash(state);
        }
    }
}

impl Limit {
    /// A limit of so many tokens in each period of so many milliseconds. Not checked.
    pub fn new(name: impl Into<Box<str>>, tokens: u64, period_ms: u64) -> Self {
        Self {
            name: name.into(),
            tokens,
            period_ms,
            scopes: Scopes::default(),
            mode: Mode::default(),
        }
    }

    /// Whether it counts a request that requires this scope, or none.
    #[must_use]
    pub fn counts(&self, required: Option<Scope>) -> bool {
        self.scopes.is_empty() || required.is_some_and(|scope| self.scopes.contains(scope))
    }

    /// Scopes and mode as one number, 0 for a limit that enforces and counts all requests. Written to
    /// disk: the value of each bit is fixed.
    #[must_use]
    pub fn marks(&self) -> u8 {
        self.scopes.bits() | if self.mode == Mode::Shadow { SHADOW } else { 0 }
    }

    /// Whether programs know all of these limits that know only name, tokens and period.
    #[must_use]
    pub fn are_plain(limits: Option<&[Self]>) -> bool {
        limits.unwrap_or_default().iter().all(|limit| limit.marks() == 0)
    }

    /// The same limit with the scopes and the mode that [`Limit::marks`] returned; `None` if no limit
    /// has such marks.
    #[must_use]
    pub fn marked(self, marks: u8) -> Option<Self> {
        let mode = if marks & SHADOW == 0 { Mode::Enforce } else { Mode::Shadow };
        Some(Self { scopes: Scopes::from_bits(marks & !SHADOW)?, mode, ..self })
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
