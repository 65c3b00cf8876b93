//! What happened, as an observer outside of all nodes knows it.

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{ClusterMs, KeyId, Subject};

use fluxgate_plan::{MS, Us};

/// A key as its administrator knows it.
#[derive(Clone, Debug, Default)]
pub struct KeyFacts {
    /// When its creation was answered.
    pub created: Option<Us>,
    /// When its end (revoked, or switched off for good) was first asked for.
    pub ending: Option<Us>,
    /// When that was answered.
    pub ended: Option<Us>,
    /// When a change of its limits was last asked for.
    pub limits_asked: Option<Us>,
    /// When that was answered; none while it is not, or its outcome is unknown.
    pub limits_answered: Option<Us>,
    /// Changes of limits that were asked for and not answered: some may yet come.
    pub limits_open: u32,
    /// The record's revision after the newest answered change, and the tokens of its first limit.
    pub limits_sure: Option<(u64, u64)>,
    /// The limits that it had or may have, oldest first.
    pub limits: Vec<LimitsSet>,
}

/// Limits that an administrator has set for a key.
#[derive(Clone, Debug)]
pub struct LimitsSet {
    /// When the change was asked for.
    pub asked: Us,
    /// When it was answered; none while it is not, or its outcome is unknown.
    pub answered: Option<Us>,
    /// Tokens by name.
    pub tokens: BTreeMap<Box<str>, u64>,
}

impl KeyFacts {
    /// The limits that may have been in force at some moment of this stretch. Once a change is
    /// answered, no limits count that were answered before it was asked for.
    pub fn limits_within(&self, from: Us, until: Us) -> impl Iterator<Item = &LimitsSet> {
        let newest = self.limits.iter().filter(|set| set.answered.is_some_and(|at| at < from));
        let replaced = newest.map(|set| set.asked).max().unwrap_or(0);
        let may_count = move |set: &&LimitsSet| {
            set.answered.is_none_or(|at| at >= replaced) && set.asked <= until
        };
        self.limits.iter().filter(may_count)
    }

    /// Removes limits that were not in force any more at this moment.
    pub fn forget_limits_before(&mut self, at: Us) {
        let newest = self.limits.iter().filter(|set| set.answered.is_some_and(|end| end < at));
        let replaced = newest.map(|set| set.asked).max().unwrap_or(0);
        self.limits.retain(|set| set.answered.is_none_or(|end| end >= replaced));
    }

    /// Whether the last change of the limits was answered before then.
    #[must_use]
    pub fn limits_settled_before(&self, at: Us) -> bool {
        self.limits_asked.is_none() || self.limits_answered.is_some_and(|answered| answered < at)
    }
}

/// One limit of one key in one window.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its end, in cluster time.
    pub ends: ClusterMs,
    /// The limit, as the first node that decided in it knew it.
    pub spec: LimitSpec,
    /// Tokens admitted, by all incarnations of all nodes.
    pub spent: u64,
    /// Final denials of a request for one token.
    pub denied_one: u64,
    /// Denials without a proof, and requests to nodes without a lease.
    pub degraded: u64,
    /// Denials for which this limit lacked the proof.
    pub unproven: u64,
    /// The map under which it was opened.
    pub map_from: Option<ClusterMs>,
    /// First and last decision, in true time.
    pub seen: (Us, Us),
    /// Before this no node can have been in it, in true time: a node whose machine stood still is
    /// in it for longer than the others.
    pub begun: Us,
    /// When the first of the requests that were decided in it was taken: it may have waited since a
    /// window before, under limits that the key does not have any more.
    pub taken: Us,
    /// Tokens beyond shares that were lost with processes.
    pub lost: u64,
    /// The limit was not the same all the time.
    pub changed: bool,
}

impl Window {
    /// A request that was taken then is decided in it now, by a node that is behind by so much.
    pub fn note_use(&mut self, spec: &LimitSpec, taken: Us, (now, behind): (Us, Us)) {
        self.seen.1 = now;
        let begun = now.saturating_sub(spec.limit.period_ms * MS).saturating_sub(behind);
        self.begun = self.begun.min(begun);
        self.taken = self.taken.min(taken);
        self.changed |= self.spec != *spec;
    }

    /// A window that is first decided in now.
    #[must_use]
    pub fn new(spec: &LimitSpec, number: u64, now: Us) -> Self {
        Self {
            ends: spec.limit.window(number).end(),
            spec: spec.clone(),
            spent: 0,
            denied_one: 0,
            degraded: 0,
            unproven: 0,
            map_from: None,
            seen: (now, now),
            begun: now.saturating_sub(spec.limit.period_ms * MS),
            taken: now,
            lost: 0,
            changed: false,
        }
    }
}

/// The key, the limit's tag, the window's number.
pub type WindowId = (Subject, u32, u64);

/// Everything known.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Keys.
    pub keys: BTreeMap<KeyId, KeyFacts>,
    /// The latest cluster time of any node, as of the last second.
    pub reached: ClusterMs,
    /// Windows that are not long over.
    pub windows: BTreeMap<WindowId, Window>,
    /// Stretches of true time with a fault in them, or its after-effects.
    pub disturbed: Vec<(Us, Us)>,
    /// Those of them that are more than an orderly restart of one node.
    pub broken: Vec<(Us, Us)>,
    /// Those in which writes may fail: all but full disks of a minority.
    pub hindered: Vec<(Us, Us)>,
    /// Full disks of a minority.
    pub full: Vec<(Us, Us)>,
    /// For how long clocks of machines stood still, all together.
    pub stood_still: Us,
    /// Writes that failed, or whose outcome is unknown: when each was asked for, and when it ended.
    pub failed_writes: Vec<(Us, Us)>,
    /// Orderly restarts of one node: when each began, and the windows that the node had opened. Tokens
    /// that it has of other nodes stay out of reach while it is down.
    pub restarts: Vec<(Us, BTreeSet<WindowId>)>,
    /// Counts, for the summary.
    pub counts: Counts,
}

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Validates admitted.
    pub admitted: u64,
    /// Denied with a proof.
    pub limited: u64,
    /// Denied without one.
    pub degraded: u64,
    /// Refused for want of a lease.
    pub unavailable: u64,
    /// Keys not accepted.
    pub rejected: u64,
    /// Requests to nodes that did not run.
    pub unheard: u64,
    /// Writes answered, and not.
    pub writes: (u64, u64),
    /// Windows closed, and those of them that nothing had disturbed.
    pub windows: (u64, u64),
    /// Undisturbed windows whose budget was spent to the last token.
    pub exhausted: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Messages and timers.
    pub events: u64,
    /// Nodes that led at the end.
    pub leaderships: u64,
    /// Share maps in force at the end.
    pub maps: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.limited += other.limited;
        self.degraded += other.degraded;
        self.unavailable += other.unavailable;
        self.rejected += other.rejected;
        self.unheard += other.unheard;
        self.writes = (self.writes.0 + other.writes.0, self.writes.1 + other.writes.1);
        self.windows = (self.windows.0 + other.windows.0, self.windows.1 + other.windows.1);
        self.exhausted += other.exhausted;
        self.events += other.events;
        self.leaderships += other.leaderships;
        self.maps += other.maps;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

impl Observations {
    /// Notes a stretch with a fault; `after` is how long it may be felt.
    pub fn disturb(&mut self, from: Us, until: Us, after: Us) {
        lengthen(&mut self.disturbed, from, until + after);
        lengthen(&mut self.broken, from, until + after);
        lengthen(&mut self.hindered, from, until + after);
    }

    /// Notes a stretch in which the disks of a minority are full.
    pub fn disturb_by_full_disk(&mut self, from: Us, until: Us, after: Us) {
        lengthen(&mut self.disturbed, from, until + after);
        lengthen(&mut self.broken, from, until + after);
        self.full.push((from, until));
    }

    /// Notes a stretch in which writes may fail.
    pub fn hinder_writes(&mut self, from: Us, until: Us) {
        lengthen(&mut self.hindered, from, until);
    }

    /// Whether nothing but full disks of a minority was wrong in this stretch, for `bound` before it
    /// too.
    #[must_use]
    pub fn had_only_full_disks(&self, from: Us, until: Us, bound: Us) -> bool {
        let begun = |(full, ends): &(Us, Us)| *full + bound <= from && until <= *ends;
        let newest = self.full.iter().rev().take_while(|(full, _)| *full + bound > from);
        newest.count() == 0
            && self.full.iter().any(begun)
            && was_free_of(&self.hindered, from.saturating_sub(bound), until)
    }

    /// Notes a part of an orderly restart of one node.
    pub fn disturb_in_order(&mut self, from: Us, until: Us, after: Us) {
        lengthen(&mut self.disturbed, from, until + after);
        lengthen(&mut self.hindered, from, until + after);
    }

    /// What is known of the key that a window belongs to.
    #[must_use]
    pub fn facts_of(&self, id: &WindowId) -> Option<&KeyFacts> {
        self.keys.get(&id.0.key()?)
    }

    /// The windows of a key.
    pub fn windows_of(&self, key: KeyId) -> impl Iterator<Item = (&WindowId, &Window)> {
        let subject = Subject::from(key);
        self.windows.range((subject, 0, 0)..=(subject, u32::MAX, u64::MAX))
    }

    /// Whether an orderly restart of one node that had opened the window was all that happened in this
    /// stretch.
    #[must_use]
    pub fn was_one_restart(&self, id: &WindowId, from: Us, until: Us) -> bool {
        let mut within =
            self.restarts.iter().rev().take(64).filter(|(at, _)| (from..=until).contains(at));
        within.next().is_some_and(|(_, opened)| opened.contains(id))
            && within.next().is_none()
            && was_free_of(&self.broken, from, until)
    }

    /// Whether nothing was wrong in this stretch.
    #[must_use]
    pub fn was_calm(&self, from: Us, until: Us) -> bool {
        was_free_of(&self.disturbed, from, until)
    }
}

fn was_free_of(stretches: &[(Us, Us)], from: Us, until: Us) -> bool {
    !stretches.iter().rev().take(64).any(|(a, b)| *a <= until && from <= *b)
}

fn lengthen(stretches: &mut Vec<(Us, Us)>, from: Us, until: Us) {
    match stretches.last_mut() {
        Some(last) if from <= last.1 => last.1 = last.1.max(until),
        Some(_) | None => stretches.push((from, until)),
    }
}
