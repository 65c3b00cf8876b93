//! What a key may do: `admin` includes `write`, and `write` includes `read`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The permission level of a key, ordered from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Dashboards, monitoring, reporting.
    Read,
    /// Automation, integrations, scheduled tasks.
    Write,
    /// Administrative tools, full access.
    Admin,
}

/// The text is not the name of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope: expected `read`, `write` or `admin`")]
pub struct ScopeError;

impl Scope {
    /// Every scope, least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Whether a key with this scope may perform an operation that requires `required`.
    #[must_use]
    pub fn includes(self, required: Self) -> bool {
        self >= required
    }

    /// The name as it appears in JSON and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(ScopeError)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scopes(u8);

impl Scopes {
    const fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::Read => 1,
            Scope::Write => 1 << 1,
            Scope::Admin => 1 << 2,
        }
    }

    /// Whether it has no scope.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has this scope.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    /// Its scopes, least first.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// As one number; the bit of each scope is fixed.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits; `None` if one of them is of no scope.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        let all: Self = Scope::ALL.into_iter().collect();
        (bits & !all.0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | Self::bit(scope)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_write_includes_read() {
        assert!(Scope::Admin.includes(Scope::Write) && Scope::Write.includes(Scope::Read));
        assert!(!Scope::Read.includes(Scope::Write) && !Scope::Write.includes(Scope::Admin));
        assert!(Scope::ALL.into_iter().all(|scope| scope.includes(scope)));
    }

    #[test]
    fn a_set_of_scopes_survives_as_a_number() {
        for bits in 0..=u8::MAX {
            let Some(set) = Scopes::from_bits(bits) else {
                assert!(bits > 7, "{bits}");
                continue;
            };
            assert_eq!((set.bits(), set.iter().collect::<Scopes>()), (bits, set));
            assert_eq!(set.is_empty(), set.iter().next().is_none());
        }
    }
}
