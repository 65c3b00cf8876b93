//! Transfer requests to one peer: one message is in flight, later requests go into the next one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::quota::{CounterId, TransferReply, TransferRequest};
use fluxgate_peer::CallError;
use fluxgate_types::{NodeId, caps};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::state::NodeState;

/// Pending requests, one per counter: a newer one replaces the older one.
#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<CounterId>,
    asks: HashMap<CounterId, (Instant, TransferRequest)>,
}

impl Pending {
    /// Queues a request. When the queue is full the request is dropped: its counter gives up in
    /// time, and requests again.
    fn put(&mut self, ask: TransferRequest, now: Instant) {
        let counter = ask.counter;
        if let Some(known) = self.asks.get_mut(&counter) {
            *known = (now, ask);
        } else if self.order.len() < caps::ASKS_PENDING_MAX {
            self.order.push_back(counter);
            self.asks.insert(counter, (now, ask));
        }
    }

    /// Takes one message of requests. Those that waited for `oldest` were given up by their
    /// counters: an answer would move tokens to a node where no request waits for them.
    fn take(&mut self, now: Instant, oldest: Duration) -> Vec<TransferRequest> {
        let mut taken = Vec::new();
        while taken.len() < caps::PEER_ITEMS_MAX {
            let Some(counter) = self.order.pop_front() else { break };
            let ask = self.asks.remove(&counter);
            taken.extend(ask.filter(|(at, _)| now - *at < oldest).map(|(_, ask)| ask));
        }
        if self.order.is_empty() && self.order.capacity() > caps::QUEUE_KEPT {
            *self = Self::default();
        }
        taken
    }
}

/// Transfer requests that wait to be sent to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    pending: Mutex<Pending>,
    filled: Notify,
}

impl Outbox {
    pub(super) fn put(&self, ask: TransferRequest) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.put(ask, Instant::now());
        drop(pending);
        self.filled.notify_one();
    }

    fn take(&self, oldest: Duration) -> Vec<TransferRequest> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.take(Instant::now(), oldest)
    }
}

/// Sends one peer's transfer requests, one message at a time.
pub async fn run_asks(state: Arc<NodeState>, peer: NodeId) {
    let outbox = state.counters.outbox(peer);
    let timeout = Duration::from_millis(state.config.transfer_timeout_ms);
    loop {
        let asks = outbox.take(timeout);
        if asks.is_empty() {
            outbox.filled.notified().await;
            continue;
        }
        match crate::peer::ask(&state, peer, asks.clone(), timeout).await {
            Ok((sender, mut replies)) => {
                TransferReply::complete(&mut replies, &asks);
                let got: HashMap<CounterId, u64> =
                    asks.iter().map(|a| (a.counter, a.got)).collect();
                for reply in &replies {
                    let before = got.get(&reply.counter).copied().unwrap_or(0);
                    state.metrics.asked(true, Some(reply.given.saturating_sub(before)));
                }
                state.handle_replies(&sender, &replies);
            }
            Err(error) => {
                state.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
                state.handle_asks_failed(peer, &asks);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_engine::quota::CounterReport;

    use super::*;

    fn ask(window: u64, need: u64) -> TransferRequest {
        let key = "key_abcdefghijkl".parse().expect("an id");
        let counter = CounterId { key, limit: 1, window };
        TransferRequest { counter, need, want: need, got: 0, mine: CounterReport::default() }
    }

    #[test]
    fn one_ask_of_a_counter_waits_and_the_newest_wins() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        for need in 1..=3 {
            pending.put(ask(1, need), now);
            pending.put(ask(2, need), now);
        }
        let taken: Vec<(u64, u64)> = pending
            .take(now, Duration::from_millis(250))
            .iter()
            .map(|ask| (ask.counter.window, ask.need))
            .collect();
        assert_eq!(taken, [(1, 3), (2, 3)]);
    }

    #[test]
    fn asks_that_were_given_up_are_not_sent() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.put(ask(1, 1), now);
        pending.put(ask(2, 1), now + Duration::from_millis(200));
        let taken = pending.take(now + Duration::from_millis(250), Duration::from_millis(250));
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!(taken[0].counter.window, 2);
    }

    #[test]
    fn a_peer_that_is_slow_is_owed_a_bounded_number_of_asks() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        let count = caps::ASKS_PENDING_MAX as u64 + 1_000;
        (0..count).for_each(|window| pending.put(ask(window, 1), now));
        assert_eq!(pending.asks.len(), caps::ASKS_PENDING_MAX);
        let mut sent = 0;
        while !pending.order.is_empty() {
            sent += pending.take(now, Duration::from_millis(250)).len();
        }
        assert_eq!(sent, caps::ASKS_PENDING_MAX);
        assert_eq!((pending.asks.capacity(), pending.order.capacity()), (0, 0));
    }
}
