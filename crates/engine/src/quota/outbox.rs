//! Transfer requests to one peer: one message is in flight, later requests go into the next one.

use std::collections::{BTreeMap, VecDeque};

use fluxgate_types::{BootNs, caps};

use super::{CounterId, TransferRequest};

/// What waits to be sent to one peer, one request for each counter, and what was sent and has no
/// answer yet.
#[derive(Debug, Default)]
pub struct Outbox {
    order: VecDeque<CounterId>,
    pending: BTreeMap<CounterId, (BootNs, TransferRequest)>,
    in_flight: Option<Vec<TransferRequest>>,
}

impl Outbox {
    /// Queues a request; it replaces an older one of its counter. When the queue is full the
    /// request is dropped: its counter gives up in time, and requests again.
    pub fn put(&mut self, request: TransferRequest, now: BootNs) {
        let counter = request.counter;
        if let Some(known) = self.pending.get_mut(&counter) {
            *known = (now, request);
        } else if self.order.len() < caps::ASKS_PENDING_MAX {
            self.order.push_back(counter);
            self.pending.insert(counter, (now, request));
        }
    }

    /// The next message, at most [`caps::PEER_ITEMS_MAX`] requests; `None` while one is in flight
    /// or nothing waits. It is in flight until [`Outbox::answered`]. Requests that have waited for
    /// `timeout_ms` were given up by their counters: an answer would move tokens to a node where no
    /// request waits for them.
    pub fn next_message(&mut self, now: BootNs, timeout_ms: u64) -> Option<Vec<TransferRequest>> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut taken = Vec::new();
        while taken.len() < caps::PEER_ITEMS_MAX {
            let Some(counter) = self.order.pop_front() else { break };
            let request = self.pending.remove(&counter);
            let is_awaited = |at: BootNs| now < at.plus_ms(timeout_ms);
            taken.extend(request.filter(|(at, _)| is_awaited(*at)).map(|(_, request)| request));
        }
        if self.order.is_empty() && self.order.capacity() > caps::QUEUE_KEPT {
            self.order = VecDeque::new();
        }
        if taken.is_empty() {
            return None;
        }
        self.in_flight = Some(taken.clone());
        Some(taken)
    }

    /// The message in flight has an answer, or will have none: its requests.
    pub fn answered(&mut self) -> Vec<TransferRequest> {
        self.in_flight.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::KeyId;

    use super::*;
    use crate::quota::CounterReport;

    const TIMEOUT_MS: u64 = 250;

    fn request(window: u64, need: u64) -> TransferRequest {
        let key: KeyId = "key_abcdefghijkl".parse().expect("an id");
        let counter = CounterId { subject: key.into(), limit: 1, window };
        TransferRequest { counter, need, want: need, got: 0, mine: CounterReport::default() }
    }

    fn at(ms: u64) -> BootNs {
        BootNs(0).plus_ms(ms)
    }

    #[test]
    fn one_request_of_a_counter_waits_and_the_newest_wins() {
        let mut outbox = Outbox::default();
        for need in 1..=3 {
            outbox.put(request(1, need), at(0));
            outbox.put(request(2, need), at(0));
        }
        let message = outbox.next_message(at(0), TIMEOUT_MS).expect("a message");
        let sent: Vec<(u64, u64)> =
            message.iter().map(|request| (request.counter.window, request.need)).collect();
        assert_eq!(sent, [(1, 3), (2, 3)]);
    }

    #[test]
    fn one_message_is_in_flight_at_a_time() {
        let mut outbox = Outbox::default();
        outbox.put(request(1, 1), at(0));
        assert!(outbox.next_message(at(0), TIMEOUT_MS).is_some());
        outbox.put(request(2, 1), at(1));
        assert_eq!(outbox.next_message(at(1), TIMEOUT_MS), None);
        assert_eq!(outbox.answered(), [request(1, 1)]);
        assert_eq!(outbox.next_message(at(2), TIMEOUT_MS), Some(vec![request(2, 1)]));
    }

    #[test]
    fn requests_that_their_counters_gave_up_are_not_sent() {
        let mut outbox = Outbox::default();
        outbox.put(request(1, 1), at(0));
        outbox.put(request(2, 1), at(200));
        assert_eq!(outbox.next_message(at(250), TIMEOUT_MS), Some(vec![request(2, 1)]));
    }

    #[test]
    fn a_slow_peer_is_owed_a_bounded_number_of_requests() {
        let mut outbox = Outbox::default();
        let count = caps::ASKS_PENDING_MAX as u64 + 1_000;
        (0..count).for_each(|window| outbox.put(request(window, 1), at(0)));
        assert_eq!(outbox.pending.len(), caps::ASKS_PENDING_MAX);
        let mut sent = 0;
        while let Some(message) = outbox.next_message(at(0), TIMEOUT_MS) {
            assert!(message.len() <= caps::PEER_ITEMS_MAX);
            sent += message.len();
            outbox.answered();
        }
        assert_eq!(sent, caps::ASKS_PENDING_MAX);
        assert_eq!((outbox.pending.len(), outbox.order.capacity()), (0, 0));
    }
}
