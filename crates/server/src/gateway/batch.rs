//! `POST /v1/validate/batch`: the verdicts on many requests.
//!
//! Answers for: entries with the same key are decided in their order, entries with different keys at
//! the same time; and a batch ends within `http.request_timeout`, because the caller gives up after
//! that. An entry that cannot be decided by then is not begun, so it spends nothing, and it is denied
//! without a proof.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::paths;
use fluxgate_api::validate::{BatchAnswer, BatchRequest, BatchResult, ValidateRequest};
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::caps;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::gateway::single::answer;
use crate::gateway::validate::{Answer, PresentedCredential, too_late};
use crate::shared::body::{parse, read_body};
use crate::shared::error::ApiError;
use crate::shared::gateway_token::check_gateway;
use crate::shared::respond::Json;

/// Bytes that one entry may take, so that a whole batch fits within the bound on its body.
const BATCH_ENTRY_BYTES: usize = 512;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::VALIDATE_BATCH, post(batch))
}

async fn batch(
    State(state): State<Arc<NodeState>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let begun = Instant::now();
    let span = fluxgate_node::telemetry::server_span("POST /v1/validate/batch", &headers);
    let work = pin!(async {
        match read(&state, &headers, body).await {
            Ok(batch) => {
                Json(StatusCode::OK, decide_all(&state, &batch, begun).await).into_response()
            }
            Err(error) => error.into_response(),
        }
    });
    let response = fluxgate_node::telemetry::within(span, work).await;
    let status = response.status().as_u16();
    state.metrics.served(paths::VALIDATE_BATCH, "POST", status, begun.elapsed());
    response
}

/// Reads the batch of a gateway.
async fn read(
    state: &NodeState,
    headers: &HeaderMap,
    body: Body,
) -> Result<BatchRequest, ApiError> {
    let config = &state.config;
    check_gateway(config, headers)?;
    let bytes_max = config.max_body_bytes.max(caps::BATCH_REQUESTS_MAX * BATCH_ENTRY_BYTES);
    let body = read_body(body, bytes_max, config.request_timeout).await?;
    let batch: BatchRequest = parse(headers, &body)?;
    if batch.requests.len() > caps::BATCH_REQUESTS_MAX {
        let message = format!("requests: at most {} at once", caps::BATCH_REQUESTS_MAX);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(batch)
}

/// The verdicts on a batch that came at `begun`.
async fn decide_all(state: &NodeState, batch: &BatchRequest, begun: Instant) -> BatchAnswer {
    let patience = Duration::from_millis(state.config.waits().patience_ms());
    let until = begin_until(begun, state.config.request_timeout, patience);
    let text = |one: &ValidateRequest| one.key.as_ref().map(|key| key.expose().to_owned());
    let keys: Vec<_> = batch.requests.iter().map(text).collect();
    let decide = |at: usize| {
        let one = batch.requests.get(at);
        async move {
            match one {
                Some(one) => {
                    answer(state, PresentedCredential::Nothing, one, Endpoint::Batch).await
                }
                None => Answer::Unavailable("not decided"),
            }
        }
    };
    let decided = in_order(&keys, until, decide).await;
    let results = batch.requests.iter().zip(decided).map(|(one, answer)| {
        result(answer.unwrap_or_else(|| {
            let key = one.key.as_ref().map(|key| key.expose().as_bytes());
            let presented = key.map_or(PresentedCredential::Nothing, PresentedCredential::One);
            too_late(state, presented, Endpoint::Batch)
        }))
    });
    BatchAnswer { results: results.collect() }
}

/// An answer with the status and body that a single call would have.
fn result(answer: Answer) -> BatchResult {
    match (answer.admission(), answer.error_body()) {
        (Some(admission), _) => admission.into(),
        (None, Some(error)) => error.into(),
        (None, None) => ErrorBody::new(ErrorCode::Internal, "internal error").into(),
    }
}

/// Until when entries of a batch that came at `begun` are begun: an entry may wait for `patience`, and
/// the caller must learn within the timeout what it spent. If the timeout leaves hardly any time for
/// that: half of the timeout.
fn begin_until(begun: Instant, timeout: Duration, patience: Duration) -> Instant {
    begun + timeout.saturating_sub(patience).max(timeout / 2)
}

/// Decides one entry for each of `keys`: entries with the same key one after another, a bounded number
/// of different keys at the same time. An entry that is not begun before `until` has no answer.
async fn in_order<K: Ord, T, F: Future<Output = T>>(
    keys: &[K],
    until: Instant,
    decide: impl Fn(usize) -> F,
) -> Vec<Option<T>> {
    let mut of_key: BTreeMap<&K, Vec<usize>> = BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        of_key.entry(key).or_default().push(at);
    }
    let mut queues: Vec<Vec<usize>> = of_key.into_values().collect();
    // The keys that come first in the batch are begun first.
    queues.sort();
    let decide = &decide;
    let queues = queues.into_iter().map(|places| async move {
        let mut answers = Vec::with_capacity(places.len());
        for at in places {
            if Instant::now() >= until {
                break;
            }
            answers.push((at, decide(at).await));
        }
        answers
    });
    let mut decided: Vec<Option<T>> = keys.iter().map(|_| None).collect();
    let mut under_way = stream::iter(queues).buffer_unordered(caps::BATCH_KEYS_AT_ONCE);
    while let Some(answers) = under_way.next().await {
        for (at, answer) in answers {
            if let Some(place) = decided.get_mut(at) {
                *place = Some(answer);
            }
        }
    }
    decided
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Each entry takes a second. Returns in which order they were begun, which were answered, and
    /// how long it took.
    async fn decide(keys: &[usize], until: Duration) -> (Vec<usize>, Vec<Option<usize>>, Duration) {
        let (begun, order) = (Instant::now(), RefCell::new(Vec::new()));
        let one = |at: usize| {
            order.borrow_mut().push(at);
            async move {
                tokio::time::sleep(SECOND).await;
                at
            }
        };
        let decided = in_order(keys, begun + until, one).await;
        (order.into_inner(), decided, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn entries_with_one_key_are_decided_in_order_and_other_keys_do_not_wait() {
        let (order, decided, took) = decide(&[1, 2, 1, 3, 1], 60 * SECOND).await;
        assert_eq!(order, [0, 1, 3, 2, 4]);
        assert_eq!(decided, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(took.as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_keys_at_the_same_time_is_bounded() {
        let keys: Vec<usize> = (0..2 * caps::BATCH_KEYS_AT_ONCE).collect();
        let (_, decided, took) = decide(&keys, 60 * SECOND).await;
        assert!(decided.iter().all(Option::is_some));
        assert_eq!(took.as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_entry_is_begun_after_the_deadline_and_a_begun_one_is_reported() {
        let (order, decided, took) = decide(&[1, 1, 1, 1, 2, 1], 5 * SECOND / 2).await;
        // The third was begun in time and may have spent tokens.
        assert_eq!(decided, [Some(0), Some(1), Some(2), None, Some(4), None]);
        assert_eq!((order.len(), took.as_secs()), (4, 3));
    }

    #[test]
    fn an_entry_has_time_to_wait_before_the_timeout() {
        let now = Instant::now();
        let patience = Duration::from_millis(1_050);
        assert_eq!(begin_until(now, 10 * SECOND, patience), now + 10 * SECOND - patience);
        assert_eq!(begin_until(now, SECOND, patience), now + SECOND / 2);
    }
}
