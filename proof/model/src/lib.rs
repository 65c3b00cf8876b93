//! The protocol's three small machines, checked exhaustively within small bounds.
//!
//! Each model is the real engine (`crates/engine`) under a driver that does everything in every
//! order: messages are delivered late, twice or never, nodes crash, leaders are replaced, and
//! clocks drift as far as the design allows. [`stateright`] walks every state that can be reached.
//!
//! - [`leases`]: leases and the write barrier. Nobody answers without an acknowledged write.
//! - [`maps`]: share maps. No window is opened under two of them.
//! - [`counters`]: shares, transfers and lives. No token is spent twice or denied unproven.
//!
//! A check that has never failed has not been seen to work: [`Broken`] leaves one rule out, and
//! the checker must come back with a counterexample.

use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};

use fluxgate_engine::fault::Mutation;

mod cluster;
pub mod counters;
pub mod leases;
pub mod maps;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// One of the engine's.
    Engine(Mutation),
    /// A holder counts its lease from the answer.
    LeaseFromAnswer,
    /// A leader grants without a proof by a quorum.
    NoQuorum,
    /// A holder trusts its lease as long as the granter reckons with it.
    NoDriftMargin,
    /// A map is proposed for a moment that earlier grants may reach.
    MapTooSoon,
}

impl Broken {
    /// Lets this thread's engine leave the rule out, or none.
    fn apply(broken: Option<Self>) {
        #[cfg(feature = "mutations")]
        Mutation::set(match broken {
            Some(Self::Engine(mutation)) => Some(mutation),
            _ => None,
        });
        #[cfg(not(feature = "mutations"))]
        assert!(!matches!(broken, Some(Self::Engine(_))), "built without the feature `mutations`");
    }

    /// What the variant is called.
    #[must_use]
    pub fn name(self) -> String {
        let Self::Engine(mutation) = self else { return format!("{self:?}") };
        format!("{mutation:?}")
    }
}

/// A state that is told from others by what it prints: the engine's own types need no hash for it.
/// What the engine prints follows from its content and from the order of insertions; two ways to
/// one content are at worst looked at twice.
#[derive(Clone)]
pub struct ByDebug<T>(pub T);

struct Into<'a, H>(&'a mut H);

impl<H: Hasher> Write for Into<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T: Debug> Hash for ByDebug<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Writing to a hasher cannot fail.
        let _ = write!(Into(state), "{:?}", self.0);
    }
}

impl<T: Debug> PartialEq for ByDebug<T> {
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

impl<T: Debug> Debug for ByDebug<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
