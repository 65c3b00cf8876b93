//! Opens a node in a simulated environment: no sockets, no disk for its log.

use std::sync::Arc;

use fluxgate_peer::{Link, Transport};
use fluxgate_raft::{RaftHandle, SimulatedDisk};

use super::opening::Opening;
use crate::config::Config;
use crate::error::NodeError;
use crate::state::NodeState;

/// The environment of a simulated node.
#[derive(Clone)]
pub struct Surroundings {
    /// Carries its calls to other nodes.
    pub link: Arc<dyn Link>,
    /// Holds its log.
    pub disk: SimulatedDisk,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// Opens a node in a simulated environment. Call it within the node's process.
///
/// # Errors
/// When the data directory is damaged, in use or not this node's.
pub async fn open_simulated(
    config: Config,
    surroundings: Surroundings,
) -> Result<Arc<NodeState>, NodeError> {
    let opening = Opening::begin(config)?;
    let mut calls = opening.calls()?;
    calls.link = Some(surroundings.link);
    let transport = Transport::new(calls).map_err(NodeError::Transport)?;
    let mut options = opening.options(&transport);
    options.simulated = Some(surroundings.disk);
    let cluster = RaftHandle::start_here(&opening.data, options).await?;
    opening.finish(cluster, transport)
}
