//! Administrators: their requests to any node, and what they know afterwards.

use std::sync::Arc;

use bytes::Bytes;
use fluxgate_plan::{MS, SECOND};
use fluxgate_server::{Answer, Listener};
use fluxgate_types::NodeId;
use serde_json::{Value, json};

use super::Shared;
use super::nodes::{OPERATOR, PATIENCE};
use crate::observations::{Credential, ExpectedStatus, Key};

enum WriteOutcome {
    /// Answered: it is applied.
    Done(Value),
    /// It may or may not be applied.
    Unknown,
}

/// Builds an operator's request.
pub(crate) fn operator(
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Option<http::Request<Bytes>> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {OPERATOR}"));
    match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .ok(),
        None => request.body(Bytes::new()).ok(),
    }
}

/// Sends a write to any node.
async fn write(
    world: &Arc<Shared>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> WriteOutcome {
    let node = world.node_for(fluxgate_plan::Shape::Even, 0);
    let (Some(node), Some(request)) = (node, operator(method, path, body)) else {
        return WriteOutcome::Unknown;
    };
    let answer = world.ask(node, Listener::Admin, request, PATIENCE).await;
    let answer: Option<Answer> = answer.flatten();
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    world.say(|| format!("administrator at {node}: {method} {path}: {status}"));
    let done = matches!(status, 200 | 201);
    let mut state = world.lock();
    if done {
        state.observations.counts.writes.0 += 1
    } else {
        state.observations.counts.writes.1 += 1
    }
    drop(state);
    if !matches!(status, 0 | 200 | 201 | 408 | 503) {
        let text = answer.map(|a| String::from_utf8_lossy(&a.body).into_owned());
        world.violate("acked_is_durable", format!("{method} {path} at {node}: {status} {text:?}"));
        return WriteOutcome::Unknown;
    }
    match answer.filter(|_| done).and_then(|a| serde_json::from_slice(&a.body).ok()) {
        Some(value) => WriteOutcome::Done(value),
        None => WriteOutcome::Unknown,
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Creates a key; returns the index of its credential.
pub(crate) async fn create(world: &Arc<Shared>) -> Option<usize> {
    let body = json!({"name": "simulated", "scope": "read"});
    let WriteOutcome::Done(record) = write(world, "POST", "/v1/keys", Some(&body)).await else {
        return None;
    };
    let now = world.now();
    let mut state = world.lock();
    let observations = &mut state.observations;
    observations.keys.push(Key {
        id: text(&record, "id"),
        expected: ExpectedStatus::Active,
        tokens_max: world.plan.base.limits[0].0,
        limit_asked: None,
        limit_answered: None,
    });
    let key = observations.keys.len() - 1;
    let secret = text(&record, "key");
    observations.credentials.push(Credential {
        key,
        secret,
        shown: now,
        ending: None,
        ended: None,
    });
    Some(observations.credentials.len() - 1)
}

/// Changes a key now and then, until it is revoked or disabled, or its state is unknown.
pub(super) async fn manage_key(
    world: &Arc<Shared>,
    first: usize,
    publish: &tokio::sync::watch::Sender<usize>,
) {
    let mut credential = first;
    loop {
        let (pause, what) = {
            let mut state = world.lock();
            (state.rng.span(world.plan.base.writes).max(MS), state.rng.below(8))
        };
        world.sleep(pause).await;
        if world.lock().over {
            // The run is over: no more writes.
            std::future::pending::<()>().await;
        }
        if !world.lock().faulty {
            continue;
        }
        let key = world.lock().observations.credentials[credential].key;
        let path = format!("/v1/keys/{}", world.lock().observations.keys[key].id);
        match what {
            0 => {
                return end(world, credential, ExpectedStatus::Revoked, "DELETE", &path, None)
                    .await;
            }
            1 => {
                let body = json!({"enabled": false});
                return end(
                    world,
                    credential,
                    ExpectedStatus::Disabled,
                    "PATCH",
                    &path,
                    Some(&body),
                )
                .await;
            }
            2 => match rotate(world, credential, &path).await {
                Some(next) => {
                    credential = next;
                    publish.send_replace(next);
                }
                None => return,
            },
            _ => change_limit(world, key, &path).await,
        }
    }
}

async fn end(
    world: &Arc<Shared>,
    credential: usize,
    expected: ExpectedStatus,
    method: &str,
    path: &str,
    body: Option<&Value>,
) {
    let now = world.now();
    let key = {
        let mut state = world.lock();
        let known = &mut state.observations.credentials[credential];
        known.ending.get_or_insert(now);
        let key = known.key;
        state.observations.keys[key].expected = ExpectedStatus::Unknown;
        key
    };
    if let WriteOutcome::Done(_) = write(world, method, path, body).await {
        let now = world.now();
        let mut state = world.lock();
        state.observations.credentials[credential].ended = Some(now);
        state.observations.keys[key].expected = expected;
    }
}

async fn rotate(world: &Arc<Shared>, credential: usize, path: &str) -> Option<usize> {
    let now = world.now();
    world.lock().observations.credentials[credential].ending.get_or_insert(now);
    let path = format!("{path}/rotate");
    let WriteOutcome::Done(record) = write(world, "POST", &path, None).await else { return None };
    let now = world.now();
    let mut state = world.lock();
    let observations = &mut state.observations;
    observations.credentials[credential].ended = Some(now);
    let (key, secret) = (observations.credentials[credential].key, text(&record, "key"));
    observations.credentials.push(Credential {
        key,
        secret,
        shown: now,
        ending: None,
        ended: None,
    });
    Some(observations.credentials.len() - 1)
}

async fn change_limit(world: &Arc<Shared>, key: usize, path: &str) {
    let (tokens, period_ms) = world.plan.base.limits[0];
    let now = world.now();
    let tokens = {
        let mut state = world.lock();
        let tokens = state.rng.between(1, 2 * tokens);
        let known = &mut state.observations.keys[key];
        known.tokens_max = known.tokens_max.max(tokens);
        (known.limit_asked, known.limit_answered) = (Some(now), None);
        tokens
    };
    let period = format!("{}s", period_ms / 1_000);
    let limits = json!([{"name": "requests", "tokens": tokens, "period": period}]);
    let body = json!({ "limits": limits });
    if let WriteOutcome::Done(_) = write(world, "PATCH", path, Some(&body)).await {
        let now = world.now();
        world.lock().observations.keys[key].limit_answered = Some(now);
    }
}

/// Asks a node to transfer the leadership.
pub(super) async fn hand_over(world: Arc<Shared>, node: NodeId) {
    let Some(request) = operator("POST", "/v1/cluster/leader", None) else { return };
    let answer = world.ask(node, Listener::Admin, request, PATIENCE).await.flatten();
    world.say(|| format!("hand-over at {node}: {:?}", answer.map(|a| a.status)));
}

/// Removes a node and adds another one, retrying both until they succeed.
pub(super) async fn replace(world: Arc<Shared>, node: NodeId) {
    loop {
        let path = format!("/v1/cluster/nodes/{node}");
        let status = membership(&world, Some(node), "DELETE", &path, None).await;
        world.say(|| format!("remove node {node}: {status}"));
        if matches!(status, 200 | 404) {
            break;
        }
        world.sleep(SECOND).await;
    }
    if let Some(host) = world.lock().hosts.get_mut(&node) {
        host.removed = true;
    }
    world.kill(node);
    let last = world.lock().hosts.keys().map(|id| id.0).max().unwrap_or(0);
    let replacement = NodeId(last + 1);
    world.make_machine(replacement, true);
    world.start_later(replacement, MS);
    loop {
        let body = json!({"id": replacement.0, "peer": format!("node{replacement}:7301")});
        let status =
            membership(&world, Some(replacement), "POST", "/v1/cluster/nodes", Some(&body)).await;
        world.say(|| format!("add node {replacement}: {status}"));
        if status == 200 {
            break;
        }
        world.sleep(SECOND).await;
    }
    let (now, cooldown) = (world.now(), world.plan.cooldown());
    let mut state = world.lock();
    if let Some(host) = state.hosts.get_mut(&replacement) {
        host.listed = true;
    }
    state.replacing = false;
    state.observations.disturb(now, now + cooldown);
}

/// Sends a change of members to any node but `except`; returns 0 if no answer came.
async fn membership(
    world: &Arc<Shared>,
    except: Option<NodeId>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> u16 {
    let (now, cooldown) = (world.now(), world.plan.cooldown());
    world.lock().observations.disturb(now, now + cooldown);
    let others: Vec<NodeId> = world.nodes().into_iter().filter(|id| Some(*id) != except).collect();
    if others.is_empty() {
        return 0;
    }
    let node = world.lock().rng.pick(&others);
    let Some(request) = operator(method, path, body) else { return 0 };
    let answer = world.ask(node, Listener::Admin, request, PATIENCE).await;
    answer.flatten().map_or(0, |answer| answer.status)
}
