//! Addresses of members: compares the configuration file with the log, and reconnects a cluster
//! whose addresses all changed.
//!
//! Answers for: the addresses in the log apply. If no node answers at them any more, `recover
//! addresses` writes the new ones into each data directory; nodes call each other at these, and the
//! elected leader writes them to the log. Ids, directories and votes do not change, so nothing that
//! was acknowledged can be lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::Actor;
use fluxgate_raft::NodeStatus;
use fluxgate_store::DataDir;
use fluxgate_store::addresses::Recovered;
use fluxgate_types::NodeId;

use crate::clock::boot_now;
use crate::config::Config;
use crate::error::NodeError;
use crate::state::NodeState;

/// How often to check whether the file is still needed.
const LOOK: Duration = Duration::from_millis(200);

/// Writes the members' addresses of the configuration into the data directory of a stopped node.
///
/// # Errors
/// If there is no data directory, it is in use, or it cannot be written.
pub fn recover_addresses(config: &Config) -> Result<Vec<(NodeId, String)>, NodeError> {
    if !DataDir::is_made(&config.data_dir) {
        return Err(NodeError::NothingToRecover { path: config.data_dir.clone() });
    }
    let data = DataDir::open(&config.data_dir, &config.cluster_name, config.node_id.0)?;
    let members: Vec<(NodeId, String)> =
        config.members.iter().map(|(node, address)| (*node, address.clone())).collect();
    let recovered = |(node, address): &(NodeId, String)| Recovered {
        node: node.0,
        instead_of: None,
        address: address.clone(),
    };
    let recovered: Vec<Recovered> = members.iter().map(recovered).collect();
    data.write_addresses(&recovered).map_err(|source| NodeError::Note { source })?;
    Ok(members)
}

/// Logs where file and log differ, and writes recovered addresses into the log.
pub(super) async fn run(state: Arc<NodeState>, mut noted: Vec<Recovered>) {
    while state.raft.status().nodes.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    let nodes = state.raft.status().nodes;
    if noted.is_empty() {
        log_difference(&state, &nodes);
        return;
    }
    for one in noted.iter_mut().filter(|one| one.instead_of.is_none()) {
        one.instead_of = nodes.get(&NodeId(one.node)).map(|member| member.address.clone());
    }
    // Members that the log does not know have no address to recover.
    noted.retain(|one| one.instead_of.is_some());
    if let Err(error) = state.data.write_addresses(&noted) {
        tracing::warn!(%error, "the recovered addresses were not written");
    }
    state.transport.set_recovered(noted.clone());
    let list = |one: &Recovered| format!("node {} at {}", one.node, one.address);
    let listed = noted.iter().map(list).collect::<Vec<_>>().join(", ");
    tracing::warn!("addresses were recovered: {listed}; they apply instead of those in the log");
    let others = nodes.iter().filter(|(node, _)| noted.iter().all(|one| one.node != node.0));
    let others: Vec<String> =
        others.map(|(node, member)| format!("node {node} at {}", member.address)).collect();
    if !others.is_empty() {
        let others = others.join(", ");
        tracing::warn!(
            "`cluster.members` lacks members of the cluster, whose addresses stay: {others}"
        );
    }
    loop {
        let nodes = state.raft.status().nodes;
        let left: Vec<&Recovered> = noted.iter().filter(|one| is_needed(one, &nodes)).collect();
        if left.is_empty() {
            break;
        }
        // A leader without a lease of its own may have been replaced.
        if state.raft.leads_in().is_some() && state.published.is_leased(boot_now()) {
            for one in left {
                let moved = state.raft.move_node(NodeId(one.node), &one.address).await;
                match moved {
                    Ok(()) => {
                        let (node, address) = (one.node, &one.address);
                        tracing::info!(node, address, "the recovered address is in the log");
                        let before = one.instead_of.as_deref().unwrap_or("-");
                        let details = format!("node {node} recovered: {before} → {address}");
                        state
                            .writes
                            .note(Actor::System, None, Action::MembersChanged, details)
                            .await;
                    }
                    Err(error) => tracing::debug!(%error, "the address is not in the log yet"),
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    if let Err(error) = state.data.remove_addresses() {
        tracing::warn!(%error, "the file of recovered addresses was not removed");
    }
    state.transport.set_recovered(Vec::new());
    tracing::info!("the log has the recovered addresses");
}

/// Whether the log still has the address to replace.
fn is_needed(one: &Recovered, nodes: &BTreeMap<NodeId, NodeStatus>) -> bool {
    let known = nodes.get(&NodeId(one.node)).map(|member| &member.address);
    known.is_some_and(|known| *known != one.address && Some(known) == one.instead_of.as_ref())
}

fn log_difference(state: &NodeState, nodes: &BTreeMap<NodeId, NodeStatus>) {
    let members = state.config.members.iter();
    let differs = members.filter_map(|(node, address)| {
        let known = &nodes.get(node)?.address;
        (known != address)
            .then(|| format!("node {node} is at {address} in the file and at {known} in the log"))
    });
    let differs: Vec<String> = differs.collect();
    if !differs.is_empty() {
        tracing::warn!(
            "`cluster.members` differs from the log, and the log applies: {}. If one node moved, run \
             `fluxgate cluster add-node` with its new address; if all moved, stop every node and run \
             `fluxgate recover addresses --config FILE` for each",
            differs.join(", ")
        );
    }
}
