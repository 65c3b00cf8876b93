//! A history, sorted for the checks: keys and their possible states, phases, incarnations.
//!
//! Answers for: what may be true of a key at a moment, from the answers its administrators got; and
//! which phases were calm. Must never guess: an unknown outcome stays possible until the end,
//! because a node may carry out a request after its client has given up.

use std::collections::BTreeMap;

use crate::history::{Change, End, Event, Exit, Fault, Heal, Log, Record, Run, SECOND, Us};
use crate::history::{FirstStart, Mistake, Rejection, Validate, Write};

/// After a cluster is well, lease renewals and connections may be pending for this time.
pub(crate) const COOLDOWN: Us = SECOND;
/// If the harness was late by this much, the nodes may not have been scheduled either.
const STALL_MIN: Us = SECOND / 10;
/// How long before and after a stall anything may fail: a lease may have expired and must be
/// acquired again.
const STALL_BEFORE: Us = SECOND;
const STALL_AFTER: Us = 4 * SECOND;

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    NotDone,
    Unknown,
}

/// Error codes which say that nothing was changed.
const NOTHING_DONE: &[&str] = &["no_leader", "unavailable"];

pub fn outcome(write: &Write) -> Outcome {
    match write.s {
        200 | 201 => Outcome::Done,
        0 if write.err.as_deref() == Some("connect") => Outcome::NotDone,
        503 if write.code.as_deref().is_some_and(|code| NOTHING_DONE.contains(&code)) => {
            Outcome::NotDone
        }
        400..=404 | 409 | 412 | 413 | 415 | 429 => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

/// A key, as its administrators know it.
#[derive(Clone, Debug)]
pub struct Key {
    pub created: Write,
    pub name: String,
    pub owner: String,
    pub period_s: u64,
    first: (String, u64),
    changes: Vec<Write>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    Disabled,
    Revoked,
}

impl Key {
    /// Every value that a part of the key may have at some moment between `t0` and `t1`.
    fn possible<T: PartialEq + Clone>(
        &self,
        first: T,
        part: impl Fn(&Change) -> Option<T>,
        (t0, t1): (Us, Us),
    ) -> Vec<T> {
        let mut certain = (0, first);
        let mut others = Vec::new();
        for write in &self.changes {
            let Some(value) = part(&write.change) else { continue };
            match outcome(write) {
                Outcome::NotDone => {}
                Outcome::Done if write.t1 < t0 => {
                    if write.t1 >= certain.0 {
                        certain = (write.t1, value);
                    }
                }
                Outcome::Done | Outcome::Unknown => {
                    if write.t0 <= t1 {
                        others.push(value);
                    }
                }
            }
        }
        let mut all = vec![certain.1];
        for value in others {
            if !all.contains(&value) {
                all.push(value);
            }
        }
        all
    }

    pub fn statuses(&self, span: (Us, Us)) -> Vec<Status> {
        let part = |change: &Change| match change {
            Change::Enabled(true) => Some(Status::Active),
            Change::Enabled(false) => Some(Status::Disabled),
            Change::Revoke => Some(Status::Revoked),
            Change::Create { .. } | Change::Limit(_) | Change::Scope(_) => None,
        };
        let all = self.possible(Status::Active, part, span);
        // A revocation is final: no late write can undo it.
        if all.first() == Some(&Status::Revoked) { vec![Status::Revoked] } else { all }
    }

    pub fn limits(&self, span: (Us, Us)) -> Vec<u64> {
        let part = |change: &Change| match change {
            Change::Limit(tokens) => Some(*tokens),
            Change::Create { .. } | Change::Enabled(_) | Change::Scope(_) | Change::Revoke => None,
        };
        self.possible(self.first.1, part, span)
    }

    pub fn scopes(&self, span: (Us, Us)) -> Vec<String> {
        let part = |change: &Change| match change {
            Change::Scope(scope) => Some(scope.clone()),
            Change::Create { .. } | Change::Enabled(_) | Change::Limit(_) | Change::Revoke => None,
        };
        self.possible(self.first.0.clone(), part, span)
    }

    /// Whether the limit may change at some moment between `t0` and `t1`.
    pub fn limit_may_change(&self, (t0, t1): (Us, Us)) -> bool {
        self.changes.iter().any(|write| {
            let moves = matches!(write.change, Change::Limit(_));
            let until = match outcome(write) {
                Outcome::NotDone => return false,
                Outcome::Done => write.t1,
                Outcome::Unknown => Us::MAX,
            };
            moves && write.t0 <= t1 && t0 <= until
        })
    }
}

#[derive(Debug, Default)]
pub struct Knowledge {
    pub run: Option<Run>,
    pub end: Option<End>,
    pub validates: Vec<Validate>,
    pub writes: Vec<Write>,
    pub keys: BTreeMap<u64, Key>,
    pub faults: Vec<Fault>,
    pub heals: Vec<Heal>,
    pub exits: Vec<Exit>,
    pub logs: Vec<Log>,
    pub records: Vec<Record>,
    pub rejections: Vec<Rejection>,
    pub mistakes: Vec<Mistake>,
    pub first_start: Option<FirstStart>,
    /// How often the share map changed.
    pub share_maps: u64,
    pub stalls: Vec<(Us, Us)>,
    /// When processes were started and exited, by node.
    incarnations: BTreeMap<u64, Vec<Us>>,
    calm: Vec<(Us, Us)>,
}

impl Knowledge {
    pub fn new(events: Vec<Event>) -> Self {
        let mut known = Self::default();
        for event in events {
            match event {
                Event::Run(run) => known.run = Some(run),
                Event::Validate(validate) => known.validates.push(*validate),
                Event::Write(write) => known.writes.push(*write),
                Event::Fault(fault) => known.faults.push(fault),
                Event::Heal(heal) => known.heals.push(heal),
                Event::Start(start) => known.incarnations.entry(start.n).or_default().push(start.t),
                Event::Exit(exit) => {
                    known.incarnations.entry(exit.n).or_default().push(exit.t);
                    known.exits.push(exit);
                }
                Event::Stall(stall) if stall.late_us >= STALL_MIN => {
                    let from = stall.t.saturating_sub(stall.late_us + STALL_BEFORE);
                    known.stalls.push((from, stall.t + STALL_AFTER));
                }
                Event::Stall(_) => {}
                Event::Record(record) => known.records.push(record),
                Event::Log(log) => known.logs.push(log),
                Event::Rejection(rejection) => known.rejections.push(rejection),
                Event::Mistake(mistake) => known.mistakes.push(mistake),
                Event::FirstStart(start) => known.first_start = Some(start),
                Event::Shares(shares) => known.share_maps = shares.changes,
                Event::End(end) => known.end = Some(end),
            }
        }
        known.validates.sort_by_key(|validate| validate.t0);
        known.writes.sort_by_key(|write| write.t0);
        known.faults.sort_by_key(|fault| fault.t0);
        known.heals.sort_by_key(|heal| heal.t0);
        known.collect_keys();
        known.collect_calm();
        known
    }

    fn collect_keys(&mut self) {
        let default = self.run.as_ref().map_or(100, |run| run.default_tokens);
        for write in &self.writes {
            if let Change::Create { name, owner, scope, tokens, period_s } = &write.change {
                let key = Key {
                    created: write.clone(),
                    name: name.clone(),
                    owner: owner.clone(),
                    period_s: *period_s,
                    first: (scope.clone(), tokens.unwrap_or(default)),
                    changes: Vec::new(),
                };
                self.keys.insert(write.k, key);
            } else if let Some(key) = self.keys.get_mut(&write.k) {
                key.changes.push(write.clone());
            }
        }
    }

    /// A calm phase lasts from a healing to the next fault.
    fn collect_calm(&mut self) {
        let end = self.end.as_ref().map_or(Us::MAX, |end| end.t);
        for heal in self.heals.iter().filter(|heal| heal.well) {
            let next = self.faults.iter().map(|fault| fault.t0).find(|t0| *t0 >= heal.t0);
            // Healing repeats its checks until all pass, so the next fault begins with nothing
            // wrong.
            let until = next.unwrap_or(end);
            let from = heal.t1 + COOLDOWN;
            if from < until {
                self.calm.push((from, until));
            }
        }
    }

    /// Whether no fault was present in this time, and the machine ran.
    pub fn is_calm(&self, t0: Us, t1: Us) -> bool {
        self.calm.iter().any(|(a, b)| *a <= t0 && t1 < *b) && !self.is_stalled(t0, t1)
    }

    /// Whether the machine may not have run its processes in this time.
    pub fn is_stalled(&self, t0: Us, t1: Us) -> bool {
        self.stalls.iter().any(|(a, b)| *a <= t1 && t0 <= *b)
    }

    /// Total calm time.
    pub fn calm_us(&self) -> Us {
        self.calm.iter().map(|(a, b)| b - a).sum()
    }

    /// The number of starts and exits of a node's processes up to a moment.
    pub fn incarnation(&self, node: u64, t: Us) -> usize {
        self.incarnations.get(&node).map_or(0, |at| at.partition_point(|start| *start <= t))
    }

    /// The key of a validate, if its creation was answered.
    pub fn key_of(&self, validate: &Validate) -> Option<&Key> {
        self.keys.get(&validate.k).filter(|key| key.created.id.is_some())
    }
}
