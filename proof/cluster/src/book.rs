//! What clients know: the keys they were given, what each window admitted, and when it was calm.

use std::collections::BTreeMap;

use fluxgate_sim::plan::Us;

/// A credential, as its owner knows it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The key's place in [`Observations::keys`].
    pub key: usize,
    /// What is presented.
    pub secret: String,
    /// When the answer that shows it came.
    pub shown: Us,
    /// When its end was first asked for.
    pub ending: Option<Us>,
    /// When that was answered.
    pub ended: Option<Us>,
}

/// What a key must be at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// Usable.
    Active,
    /// Switched off.
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
    /// What it must be.
    pub fate: ExpectedStatus,
    /// Largest limit it ever had, tokens.
    pub tokens_max: u64,
    /// When a change of its limit was last asked for.
    pub limit_asked: Option<Us>,
    /// When that was answered.
    pub limit_answered: Option<Us>,
}

/// One key in one window of cluster time.
#[derive(Clone, Debug)]
pub struct Window {
    /// The limit that answers named, smallest and largest.
    pub limit: (u64, u64),
    /// Tokens admitted.
    pub admitted: u64,
    /// Smallest cost that was denied.
    pub denied_min: Option<u64>,
    /// First request and last answer.
    pub seen: (Us, Us),
    /// Remaining by node and life: each answer's time and the smallest figure up to it.
    pub remaining: BTreeMap<(u64, u64), Vec<(Us, u64)>>,
}

/// Counts, for the summary.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Validates by status; 0: no answer, 1: nobody listened.
    pub statuses: BTreeMap<u16, u64>,
    /// Writes answered, and not.
    pub writes: (u64, u64),
    /// Windows closed, undisturbed ones, and those of them that were spent to the last token.
    pub windows: (u64, u64, u64),
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Full disks of leaders, in calm, by whether writes went on.
    pub full: BTreeMap<bool, u64>,
    /// Calls between nodes.
    pub calls: u64,
    /// Those of them that carry a piece of a snapshot.
    pub pieces: u64,
    /// Nodes that stopped because consensus did.
    pub fatal: u64,
    /// Pairs of nodes whose states were compared at the same index.
    pub compared: u64,
}

impl Counts {
    /// Adds another run's.
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

/// Everything known.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Every key whose creation was answered.
    pub keys: Vec<Key>,
    /// Every credential that was shown.
    pub credentials: Vec<Credential>,
    /// Windows by key and reset that are not long over.
    pub windows: BTreeMap<(usize, u64), Window>,
    /// Stretches with a fault in them, or its after-effects.
    disturbed: Vec<(Us, Us)>,
    /// For the summary.
    pub counts: Counts,
}

impl Observations {
    /// Notes a stretch with a fault in it.
    pub fn disturb(&mut self, from: Us, until: Us) {
        match self.disturbed.iter_mut().rev().find(|last| from <= last.1) {
            Some(last) => *last = (last.0.min(from), last.1.max(until)),
            None => self.disturbed.push((from, until)),
        }
    }

    /// Whether nothing was wrong in this stretch.
    #[must_use]
    pub fn was_calm(&self, from: Us, until: Us) -> bool {
        !self.disturbed.iter().any(|(a, b)| *a <= until && from <= *b)
    }
}
