//! Sends one peer's transfer requests, one message at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::quota::{self, CounterId, TransferReply, TransferRequest};
use fluxgate_peer::CallError;
use fluxgate_types::NodeId;
use tokio::sync::Notify;

use super::Counters;
use crate::clock::boot_now;
use crate::peer::Peers;

/// Transfer requests to one peer, and the task that waits for some.
#[derive(Debug, Default)]
pub struct Outbox {
    requests: Mutex<quota::Outbox>,
    filled: Notify,
}

impl Outbox {
    pub(super) fn put(&self, request: TransferRequest) {
        self.with(|requests| requests.put(request, boot_now()));
        self.filled.notify_one();
    }

    fn with<R>(&self, step: impl FnOnce(&mut quota::Outbox) -> R) -> R {
        step(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends the requests to `peer` that the counters put into its outbox.
pub async fn run_asks(counters: Arc<Counters>, peers: Arc<Peers>, peer: NodeId, timeout_ms: u64) {
    let outbox = counters.outbox(peer);
    let timeout = Duration::from_millis(timeout_ms);
    // An earlier task for this peer may have ended with a message in flight.
    outbox.with(quota::Outbox::answered);
    loop {
        let Some(message) = outbox.with(|requests| requests.next_message(boot_now(), timeout_ms))
        else {
            outbox.filled.notified().await;
            continue;
        };
        let answer = peers.ask(peer, message, timeout).await;
        let requests = outbox.with(quota::Outbox::answered);
        match answer {
            Ok((sender, mut replies)) => {
                TransferReply::complete(&mut replies, &requests);
                let got: HashMap<CounterId, u64> =
                    requests.iter().map(|request| (request.counter, request.got)).collect();
                for reply in &replies {
                    let before = got.get(&reply.counter).copied().unwrap_or(0);
                    counters.parts.metrics.asked(true, Some(reply.given.saturating_sub(before)));
                }
                counters.handle_replies(&sender, &replies);
            }
            Err(error) => {
                peers.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
                counters.handle_asks_failed(peer, &requests);
            }
        }
    }
}
