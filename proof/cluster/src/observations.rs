//! The knowledge of clients: their keys, the admissions of each window, and the calm times.

use std::collections::BTreeMap;

use fluxgate_plan::Us;

/// A credential, as its owner knows it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Index of the key in [`Observations::keys`].
    pub key: usize,
    /// The text of the credential.
    pub secret: String,
    /// When the answer that contains it arrived.
    pub shown: Us,
    /// When its revocation, rotation or disabling was first requested.
    pub ending: Option<Us>,
    /// When that request was answered.
    pub ended: Option<Us>,
}

/// The required status of a key at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// Usable.
    Active,
    /// Disabled.
    Disabled,
    /// Revoked.
    Revoked,
    /// A change was never answered.
    Unknown,
}

/// A key, as its administrator knows it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its public id.
    pub id: String,
    /// The status that it must have.
    pub expected: ExpectedStatus,
    /// The largest limit it ever had, tokens.
    pub tokens_max: u64,
    /// When a change of its limit was last requested.
    pub limit_asked: Option<Us>,
    /// When that request was answered.
    pub limit_answered: Option<Us>,
}

/// One key in one window of cluster time.
#[derive(Clone, Debug)]
pub struct Window {
    /// The smallest and largest limit in the answers.
    pub limit: (u64, u64),
    /// Tokens admitted.
    pub admitted: u64,
    /// The smallest cost that was denied.
    pub denied_min: Option<u64>,
    /// The first request and the last answer.
    pub seen: (Us, Us),
    /// Remaining by node and incarnation: the time of each answer and the smallest value up to it.
    pub remaining: BTreeMap<(u64, u64), Vec<(Us, u64)>>,
}

/// Counts, for the summary.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Validates by status; 0: no answer, 1: no node was listening.
    pub statuses: BTreeMap<u16, u64>,
    /// Writes that were answered, and that were not.
    pub writes: (u64, u64),
    /// Windows closed; those of them that were calm; those of these that were exhausted.
    pub windows: (u64, u64, u64),
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Full disks of leaders in a calm phase, by whether writes continued.
    pub full: BTreeMap<bool, u64>,
    /// Calls between nodes.
    pub calls: u64,
    /// Calls that carry a piece of a snapshot.
    pub pieces: u64,
    /// Nodes that stopped because consensus did.
    pub fatal: u64,
    /// Pairs of nodes whose states were compared at the same index.
    pub compared: u64,
}

impl Counts {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (went_on, count) in &other.full {
            *self.full.entry(*went_on).or_default() += count;
        }
        self.writes = (self.writes.0 + other.writes.0, self.writes.1 + other.writes.1);
        self.windows.0 += other.windows.0;
        self.windows.1 += other.windows.1;
        self.windows.2 += other.windows.2;
        self.calls += other.calls;
        self.pieces += other.pieces;
        self.fatal += other.fatal;
        self.compared += other.compared;
    }
}

/// All observations of a run.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Every key whose creation was answered.
    pub keys: Vec<Key>,
    /// Every credential that a client received.
    pub credentials: Vec<Credential>,
    /// Windows that are still in use, by key and reset.
    pub windows: BTreeMap<(usize, u64), Window>,
    /// Times with a fault or its after-effects.
    disturbed: Vec<(Us, Us)>,
    /// Counts, for the summary.
    pub counts: Counts,
}

impl Observations {
    /// Records a time with a fault.
    pub fn disturb(&mut self, from: Us, until: Us) {
        match self.disturbed.iter_mut().rev().find(|last| from <= last.1) {
            Some(last) => *last = (last.0.min(from), last.1.max(until)),
            None => self.disturbed.push((from, until)),
        }
    }

    /// Whether nothing was wrong in this time.
    #[must_use]
    pub fn was_calm(&self, from: Us, until: Us) -> bool {
        !self.disturbed.iter().any(|(a, b)| *a <= until && from <= *b)
    }
}
