//! The protocol's three small machines, checked exhaustively within small bounds.
//!
//! Each model is the real engine (`crates/engine`) under a driver that tries every order of events:
//! messages arrive late, twice or never, nodes crash, leaders are replaced, and clocks drift as far
//! as the protocol allows. [`stateright`] visits every reachable state.
//!
//! - [`leases`]: leases and the write barrier. No node answers without an acknowledged write.
//! - [`maps`]: share maps. No window is opened under two of them.
//! - [`counters`]: shares, transfers and incarnations. No token is spent twice or denied unproven.
//!
//! A check that never failed has not been seen to work: each [`Broken`] variant breaks one rule,
//! and the checker must find a counterexample.

use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};

use fluxgate_engine::fault::Mutation;

mod cluster;
pub mod counters;
pub mod leases;
pub mod maps;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A rule of the engine.
    Engine(Mutation),
    /// A holder counts its lease from the reply instead of the request.
    LeaseFromAnswer,
    /// A leader grants without proof by a quorum.
    NoQuorum,
    /// A holder trusts its lease for as long as the granter must assume it is held.
    NoDriftMargin,
    /// A map is proposed for a moment that earlier grants may reach.
    MapTooSoon,
}

impl Broken {
    /// Breaks the rule in this thread's engine, or none.
    fn apply(broken: Option<Self>) {
        #[cfg(feature = "mutations")]
        Mutation::set(match broken {
            Some(Self::Engine(mutation)) => Some(mutation),
            _ => None,
        });
        #[cfg(not(feature = "mutations"))]
        assert!(!matches!(broken, Some(Self::Engine(_))), "built without the feature `mutations`");
    }

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> String {
        let Self::Engine(mutation) = self else { return format!("{self:?}") };
        format!("{mutation:?}")
    }
}

/// A state that is identified by its debug text, so the engine's own types need no `Hash`. The text
/// depends on the content and on the order of insertions; at worst the checker visits equal content
/// twice.
#[derive(Clone)]
pub struct ByDebug<T>(pub T);

struct HashWriter<'a, H>(&'a mut H);

impl<H: Hasher> Write for HashWriter<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T: Debug> Hash for ByDebug<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Writing to a hasher cannot fail.
        let _ = write!(HashWriter(state), "{:?}", self.0);
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
