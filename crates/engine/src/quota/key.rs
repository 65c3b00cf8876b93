//! The counters of one key: a list of limits, each with its open windows, and a queue.
//!
//! Answers for: which windows may be opened, and which are forgotten.

use std::collections::VecDeque;

use fluxgate_types::{BootNs, ClusterMs, KeyId, Window, caps};

use super::order::{FORGET_AFTER_MS, OPEN_LATE_MS, Order};
use super::past::{Past, WindowSpent};
use super::window_counter::WindowCounter;
use super::{Context, CounterId, KeyLimits, Waiter};
use crate::state::record::LimitSpec;

/// The first and the longest time for which an unproven denial is remembered, milliseconds.
pub(super) const DEGRADED_MS: (u64, u64) = (50, 1_000);

#[derive(Clone, Debug, Default)]
pub(super) struct LimitCounter {
    pub(super) tag: u32,
    pub(super) period_ms: u64,
    // At most the previous, the current and the next window.
    pub(super) cells: Vec<WindowCounter>,
    // The index of the current one, as the last step found it.
    pub(super) current: usize,
    pub(super) history: Past,
}

#[derive(Clone, Debug)]
pub(super) struct KeyCounters {
    pub(super) limits: Vec<LimitCounter>,
    pub(super) queue: VecDeque<Waiter>,
    // Whether the key is in the shard's list of keys with a queue.
    pub(super) listed: bool,
    // After an unproven denial: deny without waiting until this time, and how long next time.
    pub(super) degraded_until: BootNs,
    pub(super) degraded_ms: u64,
    pub(super) used: ClusterMs,
}

pub(super) type KeyMap = crate::id_map::IdMap<KeyCounters>;

/// The counters of a key, created if they are not in memory.
pub(super) fn entry<'a>(
    keys: &'a mut KeyMap,
    order: &mut Order,
    key: &KeyId,
    now: ClusterMs,
) -> &'a mut KeyCounters {
    let counters = keys.entry(*key).or_insert_with(|| {
        order.note_used(key, now);
        KeyCounters::new()
    });
    counters.used = counters.used.max(now);
    counters
}

pub(super) fn cell_of<'a>(
    keys: &'a mut KeyMap,
    counter: &CounterId,
) -> Option<&'a mut WindowCounter> {
    let limits = keys.get_mut(&counter.key)?.limits.iter_mut();
    let mut cells = limits.filter(|l| l.tag == counter.limit).flat_map(|l| &mut l.cells);
    cells.find(|cell| cell.window == counter.window)
}

/// The open windows of a limit that end at one moment, each with its period in milliseconds.
/// There is one, except while a limit of another period has the same tag.
pub(super) fn cells_of<'a>(
    keys: &'a mut KeyMap,
    key: &KeyId,
    tag: u32,
    end: ClusterMs,
) -> impl Iterator<Item = (u64, &'a mut WindowCounter)> {
    let limits = keys.get_mut(key).into_iter().flat_map(|counters| &mut counters.limits);
    let cells = limits.filter(move |limit| limit.tag == tag).flat_map(|limit| {
        let period_ms = limit.period_ms;
        limit.cells.iter_mut().map(move |cell| (period_ms, cell))
    });
    cells.filter(move |(period_ms, cell)| {
        Window { number: cell.window, period_ms: *period_ms }.end() == end
    })
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
    /// The counter of the current window; [`KeyCounters::open_all`] has opened it in this step.
    pub(super) fn now(&mut self) -> &mut WindowCounter {
        &mut self.cells[self.current]
    }

    /// The index of a window's counter, opened if that is allowed: the current and the next window
    /// always, the previous one only shortly after its end.
    pub(super) fn cell_at(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        spec: &LimitSpec,
        window: u64,
        order: &mut Order,
    ) -> Option<usize> {
        let found = if self.cells.get(self.current).is_some_and(|cell| cell.window == window) {
            Some(self.current)
        } else {
            self.cells.iter().position(|cell| cell.window == window)
        };
        let at = match found {
            Some(at) => at,
            None => self.open(context, key, limits, spec, window, order)?,
        };
        self.cells[at].follow(context, spec);
        Some(at)
    }

    #[cold]
    fn open(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        spec: &LimitSpec,
        window: u64,
        order: &mut Order,
    ) -> Option<usize> {
        self.forget_old(context.now, order);
        let end = window_end(context, spec, window, OPEN_LATE_MS)?;
        if spec.limit.window(window).start() >= context.horizon {
            return None;
        }
        let mut cell = WindowCounter::open(context, key, limits.created, spec, window)?;
        order.take_in(end, key, spec.tag, context.incarnation, &mut cell);
        order.cells += 1;
        // Reserve one at a time: most keys have one open window, and a busy node has many keys.
        self.cells.reserve_exact(1);
        self.cells.push(cell);
        Some(self.cells.len() - 1)
    }

    /// The end of the current window; [`KeyCounters::open_all`] has opened it in this step.
    pub(super) fn current_end(&self) -> ClusterMs {
        self.end_of(self.cells[self.current].window)
    }

    /// The end of a window.
    pub(super) fn end_of(&self, window: u64) -> ClusterMs {
        Window { number: window, period_ms: self.period_ms }.end()
    }

    pub(super) fn forget_old(&mut self, now: ClusterMs, order: &mut Order) {
        let period_ms = self.period_ms;
        let over = |cell: &WindowCounter| {
            Window { number: cell.window, period_ms }.end() + FORGET_AFTER_MS < now
        };
        for cell in self.cells.iter().filter(|cell| over(cell) && cell.spent > 0) {
            self.history.push(WindowSpent { window: cell.window, spent: cell.spent });
        }
        let before = self.cells.len();
        self.cells.retain(|cell| !over(cell));
        order.cells -= before - self.cells.len();
    }
}

impl KeyCounters {
    fn new() -> Self {
        Self {
            limits: Vec::new(),
            queue: VecDeque::new(),
            listed: false,
            degraded_until: BootNs(0),
            degraded_ms: DEGRADED_MS.0,
            used: ClusterMs(0),
        }
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
            self.limits.push(LimitCounter { tag: spec.tag, period_ms, ..LimitCounter::default() });
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
        key: &KeyId,
        limits: &KeyLimits,
        order: &mut Order,
    ) -> bool {
        let opened = limits.specs.iter().enumerate().all(|(at, spec)| {
            let window = spec.limit.window_at(context.now).number;
            let limit = self.limit(at, spec);
            let opened = limit.cell_at(context, key, limits, spec, window, order);
            limit.current = opened.unwrap_or(0);
            opened.is_some()
        });
        if self.limits.len() > limits.specs.len() {
            self.drop_gone(context.now, limits.specs.len(), order);
        }
        opened
    }

    /// Drops the counters of limits that the key no longer has, once they have no open window.
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

    /// Whether requests wait here or a window is open.
    pub(super) fn is_in_use(&self) -> bool {
        !self.queue.is_empty() || self.limits.iter().any(|limit| !limit.cells.is_empty())
    }

    /// The total cost of the waiting requests.
    pub(super) fn waits(&self) -> u64 {
        self.queue.iter().map(|waiter| waiter.cost.0).sum()
    }

    /// Frees the memory of a queue that was long.
    pub(super) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > caps::QUEUE_KEPT {
            self.queue.shrink_to(0);
        }
    }

    /// Tokens or a changed report arrived: on the next shortage, requests may wait again.
    pub(super) fn forget_degraded(&mut self) {
        self.degraded_until = BootNs(0);
        self.degraded_ms = DEGRADED_MS.0;
    }
}
