//! The events to come, in order: by time, then by number.
//!
//! The order sits in a heap of small items and the events beside it, so that an event is moved
//! twice, not at every step of the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Event;
use fluxgate_plan::Us;

/// A queue of events.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BinaryHeap<Reverse<(Us, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
}

impl Queue {
    /// Puts an event in. Numbers only grow: of two events at one time the older goes first.
    pub(super) fn push(&mut self, at: Us, number: u64, event: Event) {
        let place = if let Some(place) = self.free.pop() {
            self.events[place] = Some(event);
            place
        } else {
            self.events.push(Some(event));
            self.events.len() - 1
        };
        self.order.push(Reverse((at, number, place)));
    }

    /// Takes the next event that is due by then.
    pub(super) fn pop_until(&mut self, until: Us) -> Option<(Us, Event)> {
        let Reverse((at, _, place)) = *self.order.peek().filter(|next| next.0.0 <= until)?;
        self.order.pop();
        self.free.push(place);
        let event = self.events[place].take()?;
        Some((at, event))
    }
}
