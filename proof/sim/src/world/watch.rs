//! The observer: enters what it sees in the book, and passes it to the judges.

use fluxgate_engine::member::LEASE_TIMEOUT_MS;
use fluxgate_engine::quota::{CounterId, Verdict};
use fluxgate_types::{ClusterMs, NodeId};

use super::World;
use crate::book::{Window, WindowId};
use crate::invariants::{Invariant, Violation};
use crate::messages::{Charged, Seen};
use fluxgate_plan::{MS, Us};

/// A node keeps a window for longer than this after its end, milliseconds.
const SEEN_LATE_MS: u64 = 1_500;

impl World {
    pub(super) fn note(&mut self, id: NodeId, seen: &Seen) {
        if !matches!(seen, Seen::AppliedEntry(_) | Seen::Moved(_) | Seen::Renewed(_)) {
            self.say(|| match seen {
                Seen::Decided { request, decision, at, charged } => {
                    let d = decision;
                    let deciding = Charged::deciding(charged, d);
                    let window = deciding.map(|(of, spec)| of.counter(spec, *at));
                    format!(
                        "node {id}: {} cost {} sent {}: {:?} {}/{} window {window:?} at {at}",
                        request.key, request.cost, request.began, d.verdict, d.remaining, d.tokens
                    )
                }
                Seen::Rejected(_)
                | Seen::Unavailable(_)
                | Seen::Wrote(..)
                | Seen::Moved(_)
                | Seen::AppliedEntry(_)
                | Seen::Renewed(_)
                | Seen::Elected(_)
                | Seen::TookPart
                | Seen::Ended(_)
                | Seen::Stopped => format!("node {id}: {seen:?}"),
            });
        }
        if let (true, Seen::Decided { decision, at, charged, .. }) = (self.log.1 > 0, seen)
            && decision.verdict != Verdict::Admitted
        {
            charged.iter().for_each(|one| self.say_balances(one, *at));
        }
        self.count_seen(seen);
        if let Seen::Decided { request, decision, at, charged } = seen {
            self.fold(decision.remaining ^ (decision.verdict as u64) << 50);
            let now = self.now;
            let behind = self.cluster_max().0.saturating_sub(at.0).saturating_mul(MS);
            let each = charged.iter().enumerate().flat_map(|(charge, one)| {
                let limits = one.limits.specs.iter().enumerate();
                limits.map(move |(place, spec)| ((charge, place), one.counter(spec, *at), spec))
            });
            for (place, counter, spec) in each {
                let opened = self.node(id).and_then(|node| node.shard.observe(&counter));
                let window = (counter.subject, counter.limit, counter.window);
                let new = || Window::new(spec, counter.window, now);
                let window = self.book.windows.entry(window).or_insert_with(new);
                window.note_use(spec, request.taken, (now, behind));
                let decides = (decision.charge_at, decision.limit_at) == place;
                match decision.verdict {
                    Verdict::Admitted => {
                        window.spent += request.cost;
                        window.map_from = window.map_from.or(opened.map(|seen| seen.map_from));
                    }
                    Verdict::Limited => {
                        window.denied_one += u64::from(decides && request.cost == 1);
                    }
                    Verdict::Degraded => {
                        window.degraded += 1;
                        window.unproven += u64::from(decides);
                    }
                    Verdict::Unavailable => window.degraded += 1,
                }
            }
        }
        if let Seen::Renewed(asked) = seen {
            self.note_renewed(id, *asked);
        }
        if let Seen::Wrote(id, came) = seen {
            self.wrote(*id, came);
        }
        if let Seen::Moved(counter) = seen {
            self.note_moved(id, counter);
        }
    }

    /// A node has renewed its lease with a request that left at `asked`.
    fn note_renewed(&mut self, id: NodeId, asked: Us) {
        // The node that leads asks itself, and gives a request from before up in time.
        let leads = self.node(id).is_some_and(|node| node.replica.raft.leads_in().is_some());
        let asked = if leads { self.now.saturating_sub(2 * LEASE_TIMEOUT_MS * MS) } else { asked };
        let (now, slot) = (self.now, self.slot(id));
        if slot.stood_still_until.take_if(|until| *until <= asked).is_some() {
            slot.renewed = now;
        }
    }

    fn count_seen(&mut self, seen: &Seen) {
        let counts = &mut self.book.counts;
        match seen {
            Seen::Decided { decision, .. } => match decision.verdict {
                Verdict::Admitted => counts.admitted += 1,
                Verdict::Limited => counts.limited += 1,
                Verdict::Degraded => counts.degraded += 1,
                Verdict::Unavailable => counts.unavailable += 1,
            },
            Seen::Unavailable(_) => counts.unavailable += 1,
            Seen::Rejected(_) => counts.rejected += 1,
            Seen::Wrote(..)
            | Seen::Moved(_)
            | Seen::AppliedEntry(_)
            | Seen::Renewed(_)
            | Seen::Elected(_)
            | Seen::TookPart
            | Seen::Ended(_)
            | Seen::Stopped => {}
        }
    }

    /// Tokens that moved may die with a process before anything is decided in their window.
    fn note_moved(&mut self, node: NodeId, counter: &CounterId) {
        let limits = self.node(node).and_then(|node| node.limits_of(&counter.subject));
        let spec = limits
            .and_then(|limits| limits.specs.iter().find(|spec| spec.tag == counter.limit).cloned());
        let Some(spec) = spec else { return };
        let window = (counter.subject, counter.limit, counter.window);
        let now = self.now;
        let new = || Window::new(&spec, counter.window, now);
        self.book.windows.entry(window).or_insert_with(new);
    }

    /// The balance of each node in the counters of a request.
    fn say_balances(&mut self, charged: &Charged, at: ClusterMs) {
        let mut lines = Vec::new();
        for spec in charged.limits.specs.iter() {
            let counter = charged.counter(spec, at);
            for node in self.nodes() {
                let seen = node.shard.observe(&counter);
                let text = seen.map_or("unopened".to_owned(), |seen| format!("{seen:?}"));
                let peers = &node.member.incarnation().peers;
                lines.push(format!(
                    "  node {} {}: {text} peers {peers:?}",
                    node.id, spec.limit.name
                ));
            }
        }
        lines.into_iter().for_each(|line| self.say(|| line));
    }

    pub(super) fn judge(
        &mut self,
        mut judge_by: impl FnMut(&mut Box<dyn Invariant>, &Self) -> Result<(), String>,
    ) -> Result<(), Violation> {
        let mut judges = std::mem::take(&mut self.judges);
        let mut result = Ok(());
        for judge in &mut judges {
            if let Err(what) = judge_by(judge, self) {
                result = Err(Violation { invariant: judge.name(), at: self.now, what });
                break;
            }
        }
        self.judges = judges;
        result
    }

    /// Windows that are over by every clock are judged once, and forgotten.
    pub(super) fn close_windows(&mut self) -> Result<(), Violation> {
        self.book.reached = self.cluster_max();
        // A node whose machine stood still may yet decide in a window of its own time.
        let synced = self.nodes().filter(|node| node.member.clock().is_synced());
        let slowest = synced.map(|node| node.cluster_now(self.now)).min();
        let past = ClusterMs(self.book.reached.0.saturating_sub(
            3 * self.plan.terms.clock_error_ms_max + self.plan.terms.lease_ms + 5_000,
        ));
        let past = past.min(slowest.unwrap_or(past));
        let over: Vec<_> =
            self.book.windows.iter().filter(|(_, w)| w.ends < past).map(|(id, _)| *id).collect();
        for id in over {
            let Some(window) = self.book.windows.remove(&id) else { continue };
            // From before the window began, whenever it was first used.
            let from = window.seen.0.saturating_sub(window.spec.limit.period_ms * MS);
            let calm = self.book.was_calm(from, window.seen.1) && !window.changed;
            self.book.counts.windows.0 += 1;
            self.book.counts.windows.1 += u64::from(calm);
            self.book.counts.exhausted += u64::from(calm && window.denied_one > 0);
            self.judge(|judge, world| judge.closed(world, &id, &window, calm))?;
        }
        Ok(())
    }

    /// Whether a window is known, its limit was the same on all nodes all the time, and no node can
    /// have forgotten it.
    #[must_use]
    pub fn limit_is_settled(&self, id: &WindowId) -> bool {
        let facts = self.book.facts_of(id);
        self.book.windows.get(id).is_some_and(|window| {
            // A counter that was opened before a change, and not used since, still has the balance of
            // the old limit: the change must have come before the window began.
            let begun = window.seen.0.saturating_sub(window.spec.limit.period_ms * MS);
            window.ends + SEEN_LATE_MS > self.cluster_max()
                && !window.changed
                && facts.is_none_or(|f| f.limits_settled_before(begun))
        })
    }

    /// Whether the limit of a window that is over was the same on all nodes all the time.
    #[must_use]
    pub fn limit_was_settled(&self, id: &WindowId, window: &Window) -> bool {
        let facts = self.book.facts_of(id);
        !window.changed && facts.is_none_or(|f| f.limits_settled_before(window.taken))
    }

    /// The most that a window may admit: the largest value that its limit may have had since the
    /// window began.
    #[must_use]
    pub fn budget(&self, id: &WindowId, window: &Window) -> u64 {
        let limit = &window.spec.limit;
        let Some(facts) = self.book.facts_of(id) else { return limit.tokens };
        let values = facts
            .limits_within(window.begun, window.seen.1)
            .filter_map(|set| set.tokens.get(&limit.name).copied());
        // None: the key has lost the limit, and requests wait that came before.
        values.max().unwrap_or(limit.tokens)
    }
}
