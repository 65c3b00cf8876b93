//! Gossips what was spent here to every peer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::quota::{CounterGossip, Repeats};
use fluxgate_peer::process;
use fluxgate_types::{NodeId, caps};
use fluxgate_wire::peer::GossipMessage;

use crate::state::NodeState;

/// Gossips what was spent here to every peer, each period. This is also how nodes learn each
/// other's incarnations, and whether they can be reached.
pub(crate) async fn run(state: Arc<NodeState>) {
    let period = Duration::from_millis(state.config.gossip_ms);
    let timeout = Duration::from_millis(state.config.transfer_timeout_ms);
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut peers: BTreeMap<NodeId, Repeats> = BTreeMap::new();
    loop {
        every.tick().await;
        // Nothing is sent before it is known that this directory may act for its node.
        if !state.lifecycle.may_vote() {
            continue;
        }
        let fresh = state.counters.take_gossip();
        let about = state.peers.about();
        let members: Vec<NodeId> =
            state.published.incarnation().peers.iter().map(|peer| peer.id).collect();
        peers.retain(|peer, _| members.contains(peer));
        let mut sending = tokio::task::JoinSet::new();
        for peer in members {
            let state = Arc::clone(&state);
            // New reports come first; missed ones fill the rest of the message.
            let rest = caps::PEER_ITEMS_MAX - fresh.len();
            let missed =
                state.counters.repeat_gossip(peer, peers.entry(peer).or_default(), rest).await;
            let reports: Vec<CounterGossip> = fresh.iter().cloned().chain(missed).collect();
            assert!(reports.len() <= caps::PEER_ITEMS_MAX, "a message is bounded");
            let (head, incarnations) =
                (state.peers.head(peer), state.published.incarnation().incarnations.all());
            let message = GossipMessage { head, told: reports, incarnations, about: about.clone() };
            let telling =
                async move { (peer, state.peers.gossip_to(peer, message, timeout).await) };
            sending.spawn(process::bind(telling));
        }
        // A slow peer must not delay the others for longer than its timeout.
        for (peer, delivered) in sending.join_all().await {
            peers.entry(peer).or_default().note_outcome(delivered, state.heard.said_ready(peer));
        }
    }
}
