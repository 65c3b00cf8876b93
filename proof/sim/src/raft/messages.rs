//! What nodes say to each other about consensus.

use std::rc::Rc;

use super::Entry;

/// A message of consensus.
#[derive(Clone, Debug)]
pub enum Message {
    /// Asks for a vote, or whether a vote would be granted.
    Vote {
        /// The candidate's term.
        term: u64,
        /// Term and index of its last entry.
        last: (u64, usize),
        /// Only asks whether the vote would be granted.
        pre: bool,
        /// The leader asks for this election: that it still leads is no reason to refuse.
        forced: bool,
    },
    /// The answer.
    Voted {
        /// The term of the vote.
        term: u64,
        granted: bool,
        /// The vote was not asked for, only whether it would be granted.
        pre: bool,
    },
    /// Replicates entries; empty ones are heartbeats.
    Append {
        /// The leader's term.
        term: u64,
        /// Term and index of the entry before these.
        prev: (u64, usize),
        /// The entries.
        entries: Vec<Rc<Entry>>,
        /// Entries up to here are committed.
        commit: usize,
        /// Counts the leader's rounds, for proofs of leadership.
        round: u64,
    },
    /// The answer.
    Appended {
        /// The follower's term.
        term: u64,
        /// How far its log matches, durably; none where it does not.
        matched: Option<usize>,
        /// Where to try next, if it does not; if it does, 0, or 1 where the disk had no room for the
        /// entries.
        hint: usize,
        /// The round that is answered.
        round: u64,
    },
    /// Stand for election now.
    StandNow {
        /// The leader's term.
        term: u64,
    },
}
