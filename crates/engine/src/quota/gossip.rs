//! Gossip: reports that changed, and all reports again for a node that missed some.

use fluxgate_types::{ClusterMs, Subject, Window};

use super::heard::Noted;
use super::order::Order;
use super::subject::window_end;
use super::subject_map::{cell_of, cells_of};
use super::transfer::Find;
use super::window_counter::WindowCounter;
use super::{Context, CounterGossip, CounterId, Effect, Sender, Shard};
use crate::fault::Mutation;

/// A position in a walk over the counters of a shard, in the order of their windows' ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    end: ClusterMs,
    place: usize,
}

impl Cursor {
    /// The next counter whose window is not over: the end of the window, the subject, the limit's tag.
    pub(super) fn next(
        &mut self,
        order: &Order,
        now: ClusterMs,
    ) -> Option<(ClusterMs, Subject, u32)> {
        let ((end, place), (subject, tag)) = order.next_listed(now, (self.end, self.place))?;
        *self = Self { end, place: place + 1 };
        Some((end, subject, tag))
    }
}

impl Shard {
    /// Whether reports changed since they were last sent.
    #[must_use]
    pub fn has_gossip(&self) -> bool {
        self.order.has_dirty()
    }

    /// The reports that changed, at most `most` of them; the rest stays for the next call.
    pub fn take_gossip(&mut self, context: &Context<'_>, most: usize) -> Vec<CounterGossip> {
        let context = &self.follow(context);
        let silent = self.draining || Mutation::GossipWithoutTransfers.active();
        let taken = self.order.take_dirty(context.now, most);
        let report = |(end, subject, tag)| {
            let mut cells = cells_of(&mut self.subjects, &subject, tag, end);
            let (_, cell) = cells.find(|(_, cell)| cell.dirty)?;
            cell.dirty = false;
            let counter = CounterId { subject, limit: tag, window: cell.window() };
            Some(gossip(context, counter, cell, silent))
        };
        taken.into_iter().filter_map(report).collect()
    }

    /// The reports of all counters whose windows are not over, for a node that missed some because
    /// it restarted or was unreachable. Visits at most `most` counters after the cursor; true if
    /// more are left. For a counter that only other nodes have opened it reports nothing spent, so
    /// that the receiver has the burned tokens of every node.
    pub fn repeat_gossip(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        cursor: &mut Cursor,
        most: usize,
        into: &mut Vec<CounterGossip>,
    ) -> bool {
        let context = &self.follow(context);
        if self.draining {
            return false;
        }
        for _ in 0..most {
            let Some((end, subject, tag)) = cursor.next(&self.order, context.now) else {
                return false;
            };
            into.extend(self.tell(context, find, end, &subject, tag));
        }
        true
    }

    fn tell(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        end: ClusterMs,
        subject: &Subject,
        tag: u32,
    ) -> Option<CounterGossip> {
        if let Some((_, cell)) = cells_of(&mut self.subjects, subject, tag, end).next() {
            let counter = CounterId { subject: *subject, limit: tag, window: cell.window() };
            let silent = Mutation::GossipWithoutTransfers.active();
            return Some(gossip(context, counter, cell, silent));
        }
        if !context.leased {
            return None;
        }
        let limits = find(subject)?;
        let spec = limits.specs.iter().find(|spec| spec.tag == tag)?;
        let window = Window::ending(spec.limit.period_ms, end)?;
        if window.start() >= context.horizon {
            return None;
        }
        let cell = WindowCounter::open(context, subject, limits.created, spec, window.number)?;
        let counter = CounterId { subject: *subject, limit: tag, window: window.number };
        Some(CounterGossip { counter, mine: cell.report(), given: Vec::new() })
    }

    /// Takes another node's report and the totals that it has given. Returns whether the subject is in
    /// use here.
    pub fn handle_gossip(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        sender: &Sender,
        gossip: &CounterGossip,
        out: &mut Vec<Effect>,
    ) -> bool {
        let context = &self.follow(context);
        let used = self.subjects.contains(&gossip.counter.subject);
        if !context.is_newest(sender) {
            return used;
        }
        let Some(cell) = cell_of(&mut self.subjects, &gossip.counter) else {
            self.note_heard(context, find, sender, gossip);
            return used;
        };
        if !cell.keeps_up(context.incarnation) {
            return used;
        }
        let me =
            (context.incarnation.me, context.incarnation.incarnations.of(context.incarnation.me));
        let mine = gossip.given.iter().find(|(node, boot, _)| (*node, Some(*boot)) == me);
        let incarnations = &context.incarnation.incarnations;
        let gained = mine.map_or(0, |(_, _, given)| cell.receive(incarnations, sender, *given));
        let news = cell.hear(incarnations, sender, &gossip.mine) || gained > 0;
        if let (true, Some(search)) = (gained > 0, cell.search()) {
            search.failed = false;
        }
        let Some(counters) = self.subjects.get_mut(&gossip.counter.subject) else { return used };
        if news {
            counters.forget_degraded();
        }
        let waits = !counters.is_queue_empty();
        if let (true, Some(limits)) = (gained > 0 && waits, find(&gossip.counter.subject)) {
            self.advance_queue(context, &gossip.counter.subject, &limits, out);
        }
        used
    }

    /// Keeps the report of a counter that is not open here, if such a counter can exist.
    fn note_heard(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        sender: &Sender,
        gossip: &CounterGossip,
    ) {
        let CounterId { subject, limit, window } = gossip.counter;
        let Some(limits) = find(&subject).filter(|_| !self.draining) else { return };
        let spec = limits.specs.iter().find(|spec| spec.tag == limit);
        let end = spec.and_then(|spec| window_end(context, spec, window, 0));
        if let Some(end) = end.filter(|end| context.now < *end) {
            self.order.note_heard(end, Noted::of(subject, limit, sender, &gossip.mine));
        }
    }
}

fn gossip(
    context: &Context<'_>,
    counter: CounterId,
    cell: &mut WindowCounter,
    silent: bool,
) -> CounterGossip {
    cell.reconcile(context.incarnation);
    // A stopping node may still take back what it gives: only the handoff message states it.
    let given = if silent { Vec::new() } else { cell.given_totals() };
    CounterGossip { counter, mine: cell.report(), given }
}
