//! The starts of a node that were made from one data directory.
//!
//! Answers for: whether the start that the cluster registered as the newest was made from this very
//! directory. A counter alone cannot answer that: a rejected copy of the directory counts its
//! starts too, and would overtake the original.

use crate::state::cluster_state::StartId;

/// Most unconfirmed starts that are remembered; beyond it the oldest are dropped.
const ASKED_MAX: usize = 256;

/// What a directory remembers of the starts made from it. Written durably after each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeStarts {
    /// The newest one that is known to be registered.
    pub confirmed: Option<StartId>,
    /// Those that requested their registration since.
    pub asked: Vec<StartId>,
}

impl MadeStarts {
    /// Whether `newest`, the newest start known to another node, was made from this directory:
    /// either it is remembered, or it is older than the last confirmed start because that node lags
    /// behind.
    #[must_use]
    pub fn made(&self, newest: StartId) -> bool {
        self.knows(newest) || self.confirmed.is_some_and(|confirmed| newest.boot < confirmed.boot)
    }

    fn knows(&self, start: StartId) -> bool {
        self.confirmed == Some(start) || self.asked.contains(&start)
    }

    /// Remembers a start that is about to be registered. False if it is remembered already.
    pub fn ask(&mut self, start: StartId) -> bool {
        if self.knows(start) {
            return false;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.remove(0);
        }
        self.asked.push(start);
        true
    }

    /// Remembers that a start is registered: from here on no earlier one can be the newest. False
    /// if that is remembered already.
    pub fn confirm(&mut self, start: StartId) -> bool {
        if self.confirmed == Some(start) && self.asked.is_empty() {
            return false;
        }
        *self = Self { confirmed: Some(start), asked: Vec::new() };
        true
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::BootId;

    use super::*;

    const fn start(boot: u64, nonce: u64) -> StartId {
        StartId { boot: BootId(boot), nonce }
    }

    #[test]
    fn a_registered_start_is_remembered_after_many_later_ones() {
        let mut starts = MadeStarts::default();
        assert!(starts.ask(start(1, 11)) && !starts.ask(start(1, 11)));
        assert!(starts.confirm(start(1, 11)) && !starts.confirm(start(1, 11)));
        for number in 2..1_000 {
            assert!(starts.ask(start(number, 7)));
        }
        assert!(starts.made(start(1, 11)) && starts.made(start(999, 7)));
        assert!(!starts.made(start(2, 7)), "the oldest are dropped");
        assert!(!starts.made(start(1, 12)), "another copy made it");
        assert!(starts.confirm(start(999, 7)));
        // A lagging node takes an earlier start for the newest.
        assert!(starts.made(start(1, 11)) && starts.made(start(998, 7)));
        assert!(
            !starts.made(start(999, 8)) && !starts.made(start(1_000, 7)),
            "a copy, or an older directory"
        );
    }

    #[test]
    fn an_older_copy_is_detected_however_high_it_counts() {
        let mut copy = MadeStarts::default();
        copy.ask(start(4, 1));
        copy.confirm(start(4, 1));
        // The original continued to start 5. A rejected start never requests registration, whatever
        // its number.
        for _ in 5..20 {
            assert!(!copy.made(start(5, 2)));
        }
    }
}
