//! The limits of a subject, from the replicated records.

use std::sync::Arc;

use fluxgate_types::{LogIndex, Scope, Subject};

use super::SubjectLimits;
use crate::state::named::Named;
use crate::state::record::LimitSpec;
use crate::state::{Shared, View};

/// Which limits of its subject a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that count a request which requires this scope, or none.
    Counting(Option<Scope>),
    /// One of them.
    One {
        /// Its tag.
        tag: u32,
        /// Its period, milliseconds.
        period_ms: u64,
    },
}

impl Which {
    /// This limit alone.
    #[must_use]
    pub fn one(spec: &LimitSpec) -> Self {
        Self::One { tag: spec.tag, period_ms: spec.limit.period_ms }
    }
}

impl SubjectLimits {
    /// The current limits of a subject. `None` if it does not exist any more.
    #[must_use]
    pub fn find(shared: &Shared, view: &View, subject: &Subject) -> Option<Self> {
        let (subject, shadow) = match subject.shadow_of() {
            Some(of) => (of, true),
            None => (*subject, false),
        };
        let Some(key) = subject.key() else {
            let named = shared.named.get(&subject)?;
            return Some(Self::of_record(shared, &named, shadow));
        };
        shared.table.with(&key, |entry| {
            shared.with_in_force(view, entry, |limits, shadows, _| Self {
                created: entry.created_index(),
                specs: Arc::clone(if shadow { shadows } else { limits }),
            })
        })
    }

    /// Those of a record with a name: the ones that deny, or those in mode shadow.
    ///
    /// A record that was deleted and made again has the counters of the old one, so a node that has
    /// crashed may have spent from them before the new record existed. That is why the position of its
    /// creation says nothing here, other than that of a key.
    #[must_use]
    pub fn of_record(shared: &Shared, named: &Named, shadow: bool) -> Self {
        let specs = shared.in_force(&named.governing, |in_force| {
            Arc::clone(if shadow { &in_force.shadow } else { &in_force.limits })
        });
        Self { created: LogIndex(0), specs }
    }

    /// Some of them.
    #[must_use]
    pub fn only(mut self, which: Which) -> Self {
        let is_meant = |spec: &LimitSpec| match which {
            Which::All => true,
            Which::Counting(required) => spec.limit.counts(required),
            Which::One { tag, period_ms } => (spec.tag, spec.limit.period_ms) == (tag, period_ms),
        };
        if !self.specs.iter().all(is_meant) {
            self.specs = self.specs.iter().filter(|spec| is_meant(spec)).cloned().collect();
        }
        self
    }
}
