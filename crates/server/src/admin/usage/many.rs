//! What many keys have spent in the current window, on all nodes: one bounded call to each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_api::Time;
use fluxgate_api::text::Text;
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KeyId, NodeId, caps};
use fluxgate_wire::peer::{KeySpent, LimitSpent, UsageManyCall, UsageManyReply};
use serde::Serialize;

use super::TIMEOUT;

/// The current window and the one before it: not all nodes need be in the same window.
const WINDOWS: usize = 2;

/// What one key has spent of the limit that is nearest to exhaustion.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KeyUse {
    pub(crate) id: Text<KeyId>,
    pub(crate) name: String,
    pub(crate) spent: u64,
    pub(crate) limit: u64,
    pub(crate) last_used_at: Option<Time>,
}

/// What many keys have spent, and the nodes that did not answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ManyUses {
    pub(crate) keys: Vec<KeyUse>,
    pub(crate) silent: Vec<u64>,
}

/// What this node spent for these keys in the newest windows.
pub(crate) fn spent_here(state: &NodeState, keys: &[KeyId]) -> Vec<KeySpent> {
    let spent = |key: &KeyId| {
        let last_used = state.shared.table.with(key, |entry| entry.last_used()).flatten();
        let limits = state.counters.usage(state.me, &(*key).into()).into_iter().map(|mut limit| {
            let newest = limit.series.len().saturating_sub(WINDOWS);
            LimitSpent { tag: limit.tag, windows: limit.series.split_off(newest) }
        });
        let limits: Vec<LimitSpent> = limits.collect();
        let is_known = last_used.is_some() || !limits.is_empty();
        is_known.then_some(KeySpent { key: *key, limits, last_used })
    };
    keys.iter().filter_map(spent).collect()
}

/// Asks all nodes at the same time; a node that does not answer is listed in `silent`.
pub(crate) async fn uses_of(state: &Arc<NodeState>, entries: &[KeyEntry]) -> ManyUses {
    assert!(entries.len() <= caps::CONSOLE_USAGE_KEYS_MAX, "a call is bounded");
    let keys: Vec<KeyId> = entries.iter().map(|entry| entry.id()).collect();
    let call = UsageManyCall { keys };
    let replies = state.peers.ask_all(&call, TIMEOUT).await;
    let silent = replies.iter().filter(|(_, reply)| reply.is_none()).map(|(node, _)| node.0);
    let silent: Vec<u64> = silent.collect();
    let mut by_key: BTreeMap<KeyId, Vec<KeySpent>> = BTreeMap::new();
    let others =
        replies.into_iter().filter_map(|(_, reply): (NodeId, Option<UsageManyReply>)| reply);
    let others = others.flat_map(|reply| reply.keys);
    for spent in others.chain(spent_here(state, &call.keys)) {
        by_key.entry(spent.key).or_default().push(spent);
    }
    let now = state.now();
    let view = state.shared.view();
    let used = |entry: &KeyEntry| {
        let spent = by_key.get(&entry.id()).map(Vec::as_slice).unwrap_or_default();
        let limits = state.shared.limits_of(&view, entry);
        let uses = limits.iter().map(|spec| (spent_of(spec, spent, now), spec.limit.tokens));
        // Compared as fractions, without dividing.
        let nearest = uses.max_by_key(|(spent, tokens)| {
            u128::from(*spent).saturating_mul(u128::from(u64::MAX)) / u128::from((*tokens).max(1))
        });
        let (spent_now, limit) = nearest.unwrap_or_default();
        let last_used = spent.iter().filter_map(|spent| spent.last_used).max();
        KeyUse {
            id: Text(entry.id()),
            name: entry.name().to_owned(),
            spent: spent_now,
            limit,
            last_used_at: last_used.max(entry.last_used()).map(Text),
        }
    };
    ManyUses { keys: entries.iter().map(used).collect(), silent }
}

fn spent_of(spec: &LimitSpec, spent: &[KeySpent], now: ClusterMs) -> u64 {
    let window = spec.limit.window_at(now).number;
    let limits = spent.iter().flat_map(|spent| &spent.limits).filter(|of| of.tag == spec.tag);
    let windows = limits.flat_map(|of| &of.windows).filter(|point| point.window == window);
    windows.map(|point| point.spent).sum()
}
