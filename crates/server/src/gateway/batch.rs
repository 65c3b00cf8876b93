//! Many verdicts at once.
//!
//! Answers for: entries of one key are decided in their order, those of different keys at one time;
//! and a batch ends within `http.request_timeout`, for whoever asked is gone after that. An entry
//! that cannot be decided by then is not begun, so that it spends nothing, and is denied without a
//! proof.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::paths;
use fluxgate_api::validate::{BatchAnswer, BatchRequest, BatchResult, ValidateRequest};
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::caps;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::gateway::validate::{Answer, PresentedCredential, too_late};
use crate::gateway::{answer, check_gateway};
use crate::shared::body::{parse, read_body};
use crate::shared::respond;

/// Bytes that one entry of a batch may take, so that a whole batch fits its body bound.
const BATCH_ENTRY_BYTES: usize = 512;

/// `POST /v1/validate/batch`.
pub(crate) async fn batch(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let span = fluxgate_node::telemetry::server_span("POST /v1/validate/batch", &parts.headers);
    let work = batch_request(&state, &parts.headers, body, begun);
    let response = fluxgate_node::telemetry::within(span, work).await;
    state.metrics.served(
        paths::VALIDATE_BATCH,
        "POST",
        response.status().as_u16(),
        begun.elapsed(),
    );
    response
}

async fn batch_request(
    state: &NodeState,
    headers: &HeaderMap,
    body: Body,
    begun: Instant,
) -> Response<Body> {
    if let Err(error) = check_gateway(state, headers) {
        return respond::error(&error);
    }
    let bytes_max = state.config.max_body_bytes.max(caps::BATCH_REQUESTS_MAX * BATCH_ENTRY_BYTES);
    let read = read_body(body, bytes_max, state.config.request_timeout).await;
    let asked: BatchRequest = match read.and_then(|body| parse(headers, &body)) {
        Ok(asked) => asked,
        Err(error) => return respond::error(&error),
    };
    if asked.requests.len() > caps::BATCH_REQUESTS_MAX {
        let message = format!("requests: at most {} at once", caps::BATCH_REQUESTS_MAX);
        return respond::refuse(ErrorCode::InvalidRequest, message);
    }
    let patience = Duration::from_millis(state.config.waits().patience_ms());
    let until = begin_until(begun, state.config.request_timeout, patience);
    let text = |one: &ValidateRequest| one.key.as_ref().map(|key| key.expose().to_owned());
    let keys: Vec<_> = asked.requests.iter().map(text).collect();
    let decide = |at: usize| {
        let one = asked.requests.get(at);
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
    let results = asked.requests.iter().zip(decided).map(|(one, answer)| {
        let answer = answer.unwrap_or_else(|| {
            let key = one.key.as_ref().map(|key| key.expose().as_bytes());
            too_late(
                state,
                key.map_or(PresentedCredential::Nothing, PresentedCredential::One),
                Endpoint::Batch,
            )
        });
        let internal = || ErrorBody::new(ErrorCode::Internal, "internal error").into();
        let denied = || answer.error_body().map_or_else(internal, BatchResult::from);
        answer.admission().map_or_else(denied, BatchResult::from)
    });
    respond::json(StatusCode::OK, &BatchAnswer { results: results.collect() })
}

/// Until when entries of a batch that came at `begun` are begun: each may wait so long as `patience`
/// says, and what it spends is to be told within the time-out. With a time-out that leaves hardly
/// any time for that, half of it.
fn begin_until(begun: Instant, timeout: Duration, patience: Duration) -> Instant {
    begun + timeout.saturating_sub(patience).max(timeout / 2)
}

/// Decides an entry for each of `keys`: those of one key one after the other, some of different keys
/// at a time. None is begun at or after `until`, and then has no answer.
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
    // Whoever stands first in the batch is begun first.
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
    async fn entries_of_one_key_follow_each_other_and_others_do_not_wait_for_them() {
        let (order, decided, took) = decide(&[1, 2, 1, 3, 1], 60 * SECOND).await;
        assert_eq!(order, [0, 1, 3, 2, 4]);
        assert_eq!(decided, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(took.as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_keys_are_looked_at_at_one_time_and_no_more() {
        let keys: Vec<usize> = (0..2 * caps::BATCH_KEYS_AT_ONCE).collect();
        let (_, decided, took) = decide(&keys, 60 * SECOND).await;
        assert!(decided.iter().all(Option::is_some));
        assert_eq!(took.as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_behind_the_deadline_and_what_was_begun_is_told() {
        let (order, decided, took) = decide(&[1, 1, 1, 1, 2, 1], 5 * SECOND / 2).await;
        // The third was begun in time, and may have spent.
        assert_eq!(decided, [Some(0), Some(1), Some(2), None, Some(4), None]);
        assert_eq!((order.len(), took.as_secs()), (4, 3));
    }

    #[test]
    fn an_entry_has_time_to_wait_before_the_time_out() {
        let now = Instant::now();
        let patience = Duration::from_millis(1_050);
        assert_eq!(begin_until(now, 10 * SECOND, patience), now + 10 * SECOND - patience);
        assert_eq!(begin_until(now, SECOND, patience), now + SECOND / 2);
    }
}
