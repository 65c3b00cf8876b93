//! The counters of one subject: a list of limits, each with its open windows, and a queue.
//!
//! Answers for: which windows may be opened, and which are forgotten.

use std::collections::VecDeque;

use fluxgate_types::{BootNs, ClusterMs, Cost, Subject, Window, caps};
use smallvec::SmallVec;

use super::order::{FORGET_AFTER_MS, OPEN_LATE_MS, Order, USED_STEP_MS};
use super::past::{Past, WindowSpent};
use super::window_counter::WindowCounter;
use super::{Context, SubjectLimits, Waiter, WaiterId};
use crate::state::record::LimitSpec;

/// The first and the longest time for which an unproven denial is remembered, milliseconds.
const DEGRADED_MS: (u64, u64) = (50, 1_000);

/// One limit of a subject. A busy node has a million of them, so its fields are small. One window needs no
/// memory of its own. A subject has two for two seconds in each window, if it is used just then.
#[derive(Clone, Debug)]
pub(super) struct LimitCounter {
    pub(super) tag: u32,
    // The index of the current window, as the last step found it.
    current: u32,
    pub(super) period_ms: u64,
    // The current window, those that ended less than `FORGET_AFTER_MS` ago, and perhaps the next.
    pub(super) cells: SmallVec<[WindowCounter; 1]>,
    pub(super) history: Past,
}

/// What a request needs that waits for tokens of another subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) waiter: WaiterId,
    pub(super) cost: Cost,
}

/// Requests that wait for tokens, and what a shortage leaves behind.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    // In the order of their deadlines: the oldest first.
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) claims: Vec<Claim>,
    // Whether the subject is in the shard's list of subjects with a queue.
    pub(super) listed: bool,
    // After an unproven denial: deny without waiting until this time, and how long next time.
    pub(super) degraded_until: BootNs,
    pub(super) degraded_ms: u64,
}

/// The counters of a subject: one piece of memory while it has one limit with one window, and nothing
/// waited.
#[derive(Clone, Debug)]
pub(super) struct SubjectCounters {
    subject: Subject,
    // When it was last used, in steps of `USED_STEP_MS`.
    used: u32,
    /// Whether the subject is in the shard's order of subjects without an open window.
    pub(super) ordered: bool,
    /// Whether the subject's record was erased.
    pub(super) erased: bool,
    // `None` is the same as one that is empty and remembers nothing.
    queue: Option<Box<Queue>>,
    pub(super) limits: SmallVec<[LimitCounter; 1]>,
}

const _: () = assert!(size_of::<SubjectCounters>() <= 136, "a node has a million of them");

fn used_step(at: ClusterMs) -> u32 {
    u32::try_from(at.0 / USED_STEP_MS).unwrap_or(u32::MAX)
}

/// The end of a window that a peer names, if the window is plausible: not over for longer than
/// `late_ms`, and not further ahead than the clock error allows.
pub(super) fn window_end(
    context: &Context<'_>,
    spec: &LimitSpec,
    window: u64,
    late_ms: u64,
) -> Option<ClusterMs> {
    // The number may come from a peer: check it BEFORE computing anything from it.
    let latest = spec.limit.window_at(context.now + context.incarnation.clock_error_ms_max);
    if window > latest.number {
        return None;
    }
    let end = spec.limit.window(window).end();
    (end + late_ms >= context.now).then_some(end)
}

impl LimitCounter {
    /// The counter of the current window; [`SubjectCounters::open_all`] has opened it in this step.
    pub(super) fn now(&mut self) -> &mut WindowCounter {
        &mut self.cells[self.current as usize]
    }

    /// The index of a window's counter, opened if that is allowed: the current and the next window
    /// always, the previous one only shortly after its end.
    pub(super) fn cell_at(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        spec: &LimitSpec,
        window: u64,
        order: &mut Order,
    ) -> Option<usize> {
        let current = self.current as usize;
        let found = if self.cells.get(current).is_some_and(|cell| cell.window() == window) {
            Some(current)
        } else {
            self.cells.iter().position(|cell| cell.window() == window)
        };
        let at = match found {
            Some(at) => at,
            None => self.open(context, subject, limits, spec, window, order)?,
        };
        self.cells[at].follow(context, subject, spec);
        Some(at)
    }

    #[cold]
    fn open(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        spec: &LimitSpec,
        window: u64,
        order: &mut Order,
    ) -> Option<usize> {
        self.forget_old(context.now, order);
        let end = window_end(context, spec, window, OPEN_LATE_MS)?;
        if spec.limit.window(window).start() >= context.horizon {
            return None;
        }
        let mut cell = WindowCounter::open(context, subject, limits.created, spec, window)?;
        order.take_in(end, subject, spec.tag, context.incarnation, &mut cell);
        order.cells += 1;
        self.cells.push(cell);
        Some(self.cells.len() - 1)
    }

    /// The end of the current window; [`SubjectCounters::open_all`] has opened it in this step.
    pub(super) fn current_end(&self) -> ClusterMs {
        self.end_of(self.cells[self.current as usize].window())
    }

    /// The end of a window.
    pub(super) fn end_of(&self, window: u64) -> ClusterMs {
        Window { number: window, period_ms: self.period_ms }.end()
    }

    pub(super) fn forget_old(&mut self, now: ClusterMs, order: &mut Order) {
        let period_ms = self.period_ms;
        let over = |cell: &WindowCounter| {
            Window { number: cell.window(), period_ms }.end() + FORGET_AFTER_MS < now
        };
        for cell in self.cells.iter().filter(|cell| over(cell) && cell.spent() > 0) {
            self.history.push(WindowSpent { window: cell.window(), spent: cell.spent() });
        }
        let before = self.cells.len();
        self.cells.retain(|cell| !over(cell));
        order.cells -= before - self.cells.len();
        // Not at two: a limit of one second always has three, and would move at each step.
        if self.cells.len() <= 1 {
            self.cells.shrink_to_fit();
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiters: VecDeque::new(),
            claims: Vec::new(),
            listed: false,
            degraded_until: BootNs(0),
            degraded_ms: DEGRADED_MS.0,
        }
    }
}

impl SubjectCounters {
    pub(super) fn new(subject: Subject) -> Self {
        Self {
            subject,
            used: 0,
            ordered: false,
            erased: false,
            queue: None,
            limits: SmallVec::new(),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        self.subject
    }

    /// The subject is used at this moment.
    pub(super) fn note_use(&mut self, now: ClusterMs) {
        self.used = self.used.max(used_step(now));
        self.erased = false;
    }

    /// When the subject was last used, to [`USED_STEP_MS`].
    pub(super) fn used(&self) -> ClusterMs {
        ClusterMs(u64::from(self.used) * USED_STEP_MS)
    }

    /// The requests that wait, made if there were none.
    pub(super) fn queue(&mut self) -> &mut Queue {
        self.queue.get_or_insert_default()
    }

    /// The requests that wait, if there were any.
    pub(super) fn queue_if_any(&mut self) -> Option<&mut Queue> {
        self.queue.as_deref_mut()
    }

    /// The request that waits longest.
    pub(super) fn first_waiter(&self) -> Option<&Waiter> {
        self.queue.as_ref()?.waiters.front()
    }

    /// Takes the request that waits longest out of the queue.
    pub(super) fn pop_waiter(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.waiters.pop_front();
        }
    }

    /// Takes a request out of the queue, and its claim. False if it was in neither.
    pub(super) fn leave(&mut self, waiter: WaiterId) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let before = (queue.waiters.len(), queue.claims.len());
        queue.waiters.retain(|one| one.id != waiter);
        queue.claims.retain(|one| one.waiter != waiter);
        before != (queue.waiters.len(), queue.claims.len())
    }

    /// Whether as many requests wait as may.
    pub(super) fn is_full(&self) -> bool {
        let most = caps::WAITING_PER_KEY_MAX;
        self.queue.as_ref().is_some_and(|q| q.waiters.len().max(q.claims.len()) >= most)
    }

    /// Whether no request waits.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.first_waiter().is_none()
    }

    /// Whether an unproven denial is remembered at this moment.
    pub(super) fn is_degraded(&self, now: BootNs) -> bool {
        self.queue.as_ref().is_some_and(|queue| now < queue.degraded_until)
    }

    /// The counter of a limit. One with the same tag and another period belongs to another limit.
    pub(super) fn limit(&mut self, at: usize, spec: &LimitSpec) -> &mut LimitCounter {
        let period_ms = spec.limit.period_ms;
        let same = |limit: &LimitCounter| limit.tag == spec.tag && limit.period_ms == period_ms;
        // Counters are in the order of the limits, except just after a change of the limits.
        if self.limits.get(at).is_some_and(same) {
            return &mut self.limits[at];
        }
        let found = self.limits.iter().position(same).unwrap_or_else(|| {
            self.limits.reserve_exact(1);
            self.limits.push(LimitCounter {
                tag: spec.tag,
                current: 0,
                period_ms,
                cells: SmallVec::new(),
                history: Past::default(),
            });
            self.limits.len() - 1
        });
        let at = at.min(found);
        self.limits.swap(at, found);
        &mut self.limits[at]
    }

    /// Opens the current window of every limit, so that [`LimitCounter::now`] returns it. False if
    /// one of them may not be opened.
    pub(super) fn open_all(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        order: &mut Order,
    ) -> bool {
        let opened = limits.specs.iter().enumerate().all(|(at, spec)| {
            let window = spec.limit.window_at(context.now).number;
            let limit = self.limit(at, spec);
            let opened = limit.cell_at(context, subject, limits, spec, window, order);
            limit.current = opened.map_or(0, |at| u32::try_from(at).unwrap_or(0));
            opened.is_some()
        });
        if self.limits.len() > limits.specs.len() {
            self.drop_gone(context.now, limits.specs.len(), order);
        }
        opened
    }

    /// Drops the counters of limits that the subject no longer has, once they have no open window.
    #[cold]
    fn drop_gone(&mut self, now: ClusterMs, kept: usize, order: &mut Order) {
        let mut at = 0;
        self.limits.retain_mut(|limit| {
            at += 1;
            if at <= kept {
                return true;
            }
            limit.forget_old(now, order);
            !limit.cells.is_empty()
        });
    }

    /// Records the subject by its last use if it has no open window and is not recorded yet. Call it
    /// whenever one may have become so: a subject is forgotten only through this order.
    pub(super) fn note_unopened(&mut self, order: &mut Order) {
        if !self.ordered && !self.has_window() {
            self.ordered = true;
            order.note_used(&self.subject, self.used());
        }
    }

    /// Whether a window is open.
    pub(super) fn has_window(&self) -> bool {
        self.limits.iter().any(|limit| !limit.cells.is_empty())
    }

    /// Whether these are the counters of an erased subject, without an open window and without a request
    /// that waits.
    pub(super) fn is_left_over(&self) -> bool {
        self.erased && !self.has_window() && self.is_queue_empty()
    }

    /// The total cost of the waiting requests, and of those that wait for other subjects.
    pub(super) fn waits(&self) -> u64 {
        let Some(queue) = &self.queue else { return 0 };
        let claimed = queue.claims.iter().map(|claim| claim.cost.0);
        queue.waiters.iter().map(|waiter| waiter.cost.0).chain(claimed).sum()
    }

    /// Frees the memory of a queue that was long, or that is not needed any more.
    pub(super) fn shrink(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        if !queue.waiters.is_empty() || !queue.claims.is_empty() {
            return;
        }
        if !queue.listed && queue.degraded_until == BootNs(0) {
            self.queue = None;
        } else if queue.waiters.capacity() > caps::QUEUE_KEPT {
            queue.waiters.shrink_to(0);
        }
    }

    /// A request waited without a result: the next ones do not wait for a while.
    pub(super) fn note_degraded(&mut self, now: BootNs) {
        let queue = self.queue();
        queue.degraded_until = now.plus_ms(queue.degraded_ms);
        queue.degraded_ms = (queue.degraded_ms * 2).min(DEGRADED_MS.1);
    }

    /// Tokens or a changed report arrived: on the next shortage, requests may wait again.
    pub(super) fn forget_degraded(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.degraded_until = BootNs(0);
            queue.degraded_ms = DEGRADED_MS.0;
        }
    }
}
