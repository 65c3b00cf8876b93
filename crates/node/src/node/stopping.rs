//! Carries out an orderly stop, as the engine's machine for it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::quota::{Handoff, Sender};
use fluxgate_engine::stop::{Effect, HANDOFF_TIMEOUT_MS, HandedOff, LEADER_TIMEOUT_MS, Stop};
use fluxgate_peer::{CallError, process};
use fluxgate_raft::Role;

use super::carryover;
use crate::counters::DrainPosition;
use crate::state::NodeState;

/// Hands balances and the leadership over, and writes what is left; returns when the process may
/// end.
pub(super) async fn hand_over(state: &Arc<NodeState>) {
    let mut out = Vec::new();
    let mut stop = Stop::begin(state.config.gossip_ms, state.config.drain_ms, &mut out);
    let mut to_do = VecDeque::from(out);
    // The peer that handoffs were last taken for, and up to which counter.
    let mut drained: Option<(Sender, DrainPosition)> = None;
    while let Some(effect) = to_do.pop_front() {
        let mut out = Vec::new();
        match effect {
            Effect::Announce { for_ms } => {
                // Gateways turn away, and other stopping peers hand nothing to this node.
                state.lifecycle.begin_leaving();
                let announced = Duration::from_millis(for_ms);
                tokio::time::timeout(announced, state.lifecycle.end_drain.notified()).await.ok();
                stop.handle_announced(&recipients(state), &mut out);
            }
            Effect::BeginDrain => {
                state.lifecycle.begin_stopping();
                state.counters.begin_drain();
            }
            Effect::Drain { to } => {
                let last = drained.filter(|(of, _)| *of == to);
                let mut from = last.map(|(_, from)| from).unwrap_or_default();
                let handoffs = state.counters.drain(&to, &mut from);
                drained = Some((to, from));
                stop.handle_drained(handoffs, &mut out);
            }
            Effect::HandOff { to, handoffs } => {
                let result = hand_off(state, &to, &handoffs).await;
                stop.handle_handed_off(&result, &recipients(state), &mut out);
            }
            Effect::TakeBack { from, handoff } => state.counters.take_back(&from, &handoff),
            Effect::Save => {
                save(state).await;
                let leads = state.raft.status().role == Role::Leader;
                stop.handle_saved(leads, &recipients(state), &mut out);
            }
            Effect::HandLeadershipOver => {
                hand_leadership_over(state).await;
                stop.handle_leader_gone(&mut out);
            }
            Effect::End => {}
        }
        to_do.extend(out);
    }
}

fn recipients(state: &NodeState) -> Vec<Sender> {
    state.published.incarnation().recipients(|node| state.heard.said_ready(node))
}

async fn hand_off(state: &NodeState, to: &Sender, handoffs: &[Handoff]) -> HandedOff {
    let timeout = Duration::from_millis(HANDOFF_TIMEOUT_MS);
    match state.peers.give(to, handoffs, timeout).await {
        Ok(accepted) => HandedOff::Answered(accepted),
        Err(CallError::Unreachable { .. } | CallError::Refused { .. }) => HandedOff::NotDelivered,
        Err(CallError::Timeout { .. } | CallError::Broken { .. }) => HandedOff::Unknown,
    }
}

async fn save(state: &Arc<NodeState>) {
    let left = Arc::clone(state);
    let write = move || {
        carryover::write(&left, &left.data);
        left.last_uses.write();
    };
    if let Err(error) = process::on_disk(write).await {
        tracing::error!(%error, "the remaining balances were not saved");
    }
}

async fn hand_leadership_over(state: &NodeState) {
    let timeout = Duration::from_millis(LEADER_TIMEOUT_MS);
    match state.raft.transfer_leadership(None, timeout).await {
        Ok(leader) => tracing::info!(to = leader.0, "handed the leadership over"),
        Err(error) => tracing::warn!(%error, "no other node took the leadership"),
    }
}
