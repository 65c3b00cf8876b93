//! `GET /v1/keys/{id}/usage`: what one key has spent, on all nodes.

pub(crate) mod many;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_api::usage::{LimitUsage, NodeSpent, Usage, WindowSpent};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KeyId, NodeId, caps};
use fluxgate_wire::peer::{UsageCall, UsageReply};

use super::keys::change::managed;
use crate::shared::auth::RequestContext;
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::respond::Json;

/// How long the answer of another node may take.
const TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::KEY_USAGE, get(read))
}

async fn read(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(id): PathId,
) -> Result<Json<Usage>, ApiError> {
    let entry = managed(&state, &caller.principal, &id)?;
    Ok(Json(StatusCode::OK, usage_of(&state, &entry).await))
}

/// What a key has spent, on the nodes that answer in time.
pub(crate) async fn usage_of(state: &Arc<NodeState>, entry: &KeyEntry) -> Usage {
    let key = entry.id();
    let by_node = ask_all(state, key).await;
    let now = state.now();
    let view = state.shared.view();
    let limits = state.shared.limits_of(&view, entry);
    let last_used =
        by_node.values().filter_map(|reply| reply.last_used).max().max(entry.last_used());
    Usage {
        key_id: Text(key),
        limits: limits.iter().map(|spec| one_limit(spec, &by_node, now)).collect(),
        last_used_at: last_used.map(Text),
    }
}

/// Asks all nodes at the same time; a node that does not answer in time is left out.
async fn ask_all(state: &Arc<NodeState>, key: KeyId) -> BTreeMap<NodeId, UsageReply> {
    let replies = state.peers.ask_all(&UsageCall { key }, TIMEOUT).await;
    let replied = replies.into_iter().filter_map(|(node, reply)| Some((node, reply?)));
    let mut replies: BTreeMap<NodeId, UsageReply> = replied.collect();
    let mine = UsageReply { limits: state.counters.usage(state.me, &key.into()), last_used: None };
    replies.insert(state.me, mine);
    replies
}

fn one_limit(
    spec: &LimitSpec,
    by_node: &BTreeMap<NodeId, UsageReply>,
    now: ClusterMs,
) -> LimitUsage {
    let limit = &spec.limit;
    let now_in = limit.window_at(now);
    let window = now_in.number;
    let mut series: BTreeMap<u64, u64> = BTreeMap::new();
    let mut current: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (node, reply) in by_node {
        current.entry(*node).or_default();
        for one in reply.limits.iter().filter(|one| one.tag == spec.tag) {
            for point in &one.series {
                *series.entry(point.window).or_default() += point.spent;
            }
            let own = one.series.iter().find(|point| point.window == window);
            // The others know what a node spent before its last start, or until it stopped answering.
            let others = one.by_node.iter().filter(|_| one.window == window);
            let own = own.map(|point| (node, &point.spent));
            for (node, spent) in others.chain(own) {
                let most = current.entry(*node).or_default();
                *most = (*most).max(*spent);
            }
        }
    }
    let spent = current.values().fold(0u64, |sum, spent| sum.saturating_add(*spent));
    if spent > 0 {
        series.insert(window, spent);
    }
    let per_node =
        current.iter().map(|(node, spent)| NodeSpent { node: node.0, spent: *spent }).collect();
    let oldest = window.saturating_sub(caps::USAGE_WINDOWS as u64 - 1);
    let start_s = |window: u64| limit.window(window).start().0 / 1_000;
    LimitUsage {
        name: limit.name.to_string(),
        limit: limit.tokens,
        spent,
        remaining: limit.tokens.saturating_sub(spent),
        reset: now_in.end().0.div_ceil(1_000),
        per_node,
        series: series
            .into_iter()
            .filter(|(window, _)| *window >= oldest)
            .map(|(window, spent)| WindowSpent { window_start: start_s(window), spent })
            .collect(),
    }
}
