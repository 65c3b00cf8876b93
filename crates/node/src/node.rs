//! The drivers of a node: what runs beside its listeners, started and stopped in order.

mod addresses;
mod background;
mod carryover;
mod figures;
mod join;
mod opening;
#[cfg(feature = "sim")]
mod simulated;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use fluxgate_peer::process;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::error::NodeError;
use crate::reason::Reason;
use crate::state::NodeState;
use crate::{counters, gossip, last_uses, leader, member};

pub use addresses::recover_addresses;
#[cfg(feature = "sim")]
pub use simulated::{Surroundings, open_simulated};

/// How often to check whether the node can continue.
const LOOK: Duration = Duration::from_millis(500);
/// The tasks that run beside the listeners. A task ends when its work is done, or with the error
/// for which the node cannot continue.
#[derive(Debug)]
pub struct Drivers {
    state: Arc<NodeState>,
    tasks: Tasks,
}

type Tasks = JoinSet<Result<(), NodeError>>;

/// Opens the node's data directory and starts consensus on it.
///
/// # Errors
/// When the data directory is damaged, in use or not this node's.
pub async fn open(config: Config) -> Result<Arc<NodeState>, NodeError> {
    let opened = process::blocking(move || opening::open(config)).await;
    opened.map_err(|error| NodeError::Fatal(error.to_string()))?
}

impl Drivers {
    /// Starts the drivers.
    #[must_use]
    pub fn start(state: Arc<NodeState>) -> Self {
        let mut tasks = Tasks::new();
        spawn(&mut tasks, member::run(Arc::clone(&state.member)));
        spawn(&mut tasks, leader::run(Arc::clone(&state)));
        spawn(&mut tasks, gossip::run(Arc::clone(&state)));
        spawn(&mut tasks, counters::run_ticks(Arc::clone(&state.counters)));
        spawn(&mut tasks, counters::run_sweeps(Arc::clone(&state.counters)));
        spawn(&mut tasks, background::run_peers(Arc::clone(&state)));
        spawn(&mut tasks, figures::run_refresh(Arc::clone(&state)));
        spawn(&mut tasks, figures::run_storage(Arc::clone(&state)));
        spawn(&mut tasks, background::run_clock_notes(Arc::clone(&state)));
        spawn(
            &mut tasks,
            last_uses::run(Arc::clone(&state.last_uses), Arc::clone(&state.published)),
        );
        // It was read when the directory was opened, so it can be read.
        let recovered = state.data.addresses().unwrap_or_default();
        spawn(&mut tasks, addresses::run(Arc::clone(&state), recovered));
        tasks.spawn(process::bind(join::join(Arc::clone(&state))));
        for warning in state.warnings() {
            tracing::warn!("{warning}");
        }
        Self { state, tasks }
    }

    /// Runs one more task beside them.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(&mut self.tasks, task);
    }

    /// Waits until the node cannot continue: consensus stopped by itself, or a part of the node
    /// did. After that the process should end.
    pub async fn failed(&mut self) -> NodeError {
        loop {
            if let Some(why) = self.state.raft.status().fatal {
                return NodeError::Fatal(why);
            }
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    // A task that panicked leaves the node unable to answer.
                    Err(error) => return NodeError::Fatal(error.to_string()),
                },
                () = self.state.lifecycle.must_end.notified() => {
                    if let Some(why) = self.state.lifecycle.why_ended() {
                        return why;
                    }
                }
                () = self.state.raft.wait_for_change(LOOK) => {}
            }
        }
    }

    /// Shuts down in order: hands balances and leadership over, lets requests finish, and closes
    /// the log.
    pub async fn stop(mut self, close_listeners: impl Future<Output = ()>) {
        let state = Arc::clone(&self.state);
        tracing::info!(reason = %Reason::Stopping, drain_ms = state.config.drain_ms, "stopping");
        stopping::hand_over(&state).await;
        close_listeners.await;
        self.tasks.shutdown().await;
        state.member.stop();
        state.raft.shutdown().await;
        let ended = Arc::clone(&state);
        let noted = process::on_disk(move || ended.data.end_run()).await;
        if let Err(error) = noted.map_err(std::io::Error::other).and_then(|noted| noted) {
            tracing::warn!(%error, "the orderly stop was not recorded on the disk");
        }
        tracing::info!("stopped");
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        self.state.member.stop();
    }
}

fn spawn(tasks: &mut Tasks, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(process::bind(async move {
        task.await;
        Ok(())
    }));
}
