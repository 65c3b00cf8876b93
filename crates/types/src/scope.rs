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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_write_includes_read() {
        assert!(Scope::Admin.includes(Scope::Write) && Scope::Write.includes(Scope::Read));
        assert!(!Scope::Read.includes(Scope::Write) && !Scope::Write.includes(Scope::Admin));
        assert!(Scope::ALL.into_iter().all(|scope| scope.includes(scope)));
    }
}
