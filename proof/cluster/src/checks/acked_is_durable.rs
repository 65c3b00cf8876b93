//! No answered write is lost: every node has every key as its administrator knows it.

use std::sync::Arc;

use fluxgate_server::Listener;
use serde_json::Value;

use crate::observations::ExpectedStatus;
use crate::world::{PATIENCE, Shared, operator};

pub(crate) async fn look(world: &Arc<Shared>) {
    let keys = world.lock().observations.keys.clone();
    for id in world.nodes() {
        for key in &keys {
            let path = format!("/v1/keys/{}", key.id);
            let Some(request) = operator("GET", &path, None) else { return };
            let answer = world.ask(id, Listener::Admin, request, PATIENCE).await.flatten();
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            let record: Value =
                answer.and_then(|a| serde_json::from_slice(&a.body).ok()).unwrap_or_default();
            let sound = match key.expected {
                ExpectedStatus::Active => record["status"] == "active",
                ExpectedStatus::Disabled => record["status"] == "disabled",
                ExpectedStatus::Revoked => record["status"] == "revoked",
                ExpectedStatus::Unknown => record["status"].is_string(),
            };
            if status != 200 || !sound {
                let what = format!("node {id}, {key:?}: {status} {record}");
                world.violate("acked_is_durable", what);
            }
        }
    }
}
