//! Machines and nodes: how they start, stop, die and restart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxgate_peer::process::{Clocks, Process};
use fluxgate_plan::Us;
use fluxgate_raft::SimulatedDisk;
use fluxgate_server::{
    Answer, Config, Layers, Listener, Node, NodeError, Secret, Simulated, Surroundings, Tokens,
};
use fluxgate_types::{Limit, NodeId};
use tokio::sync::oneshot;

use super::{Host, Shared};
use crate::network::Wire;

/// Wall-clock time at the beginning, milliseconds: 2024-01-20.
const EPOCH_MS: i64 = 1_705_747_200_000;
/// The operator token.
pub(crate) const OPERATOR: &str = "operator-token-of-the-simulation";
/// The cluster secret.
const SECRET: &str = "cluster-secret-of-the-simulation";
/// How long a supervisor waits before it restarts a node that stopped on its own.
const SUPERVISOR_PAUSE: Us = 1_000_000;
/// Longest orderly stop; a node that takes longer is killed.
const STOP_MAX: Us = 40_000_000;

/// A node that serves requests.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    pub(crate) node: Simulated,
}

/// How a node's process ended on its own.
enum End {
    Stopped,
    Failed(NodeError),
}

/// The largest clock error of a majority when a cluster is formed, milliseconds.
const CLOCKS_AGREE_MS: i64 = 100;

impl Shared {
    /// Creates the machines of the first members, each with its own clocks.
    pub(super) fn make_machines(&self) {
        for id in 1..=self.plan.base.nodes {
            self.make_machine(NodeId(id), false);
        }
    }

    /// Creates a machine that no node has run on.
    pub(super) fn make_machine(&self, id: NodeId, added: bool) {
        let mut state = self.lock();
        let mut signed = |most: u64| {
            let size = i64::try_from(state.rng.below(most + 1)).unwrap_or(0);
            if state.rng.permille(500) { size } else { -size }
        };
        let drift_ppm = signed(self.plan.base.drift_ppm);
        let error_ms = signed(self.plan.base.wall_error_ms);
        // One clock may be far off; a cluster without a majority of agreeing clocks does not form
        // at all.
        let error_ms = if id == NodeId(1) {
            error_ms
        } else {
            error_ms.clamp(-CLOCKS_AGREE_MS, CLOCKS_AGREE_MS)
        };
        let wall_ms = EPOCH_MS + error_ms;
        let boot_ns = state.rng.between(1, 1_000_000) * 1_000_000_000;
        let disk = SimulatedDisk::default();
        let sync_ms = state.rng.between(0, 4);
        disk.sync_ms.store(sync_ms, std::sync::atomic::Ordering::Relaxed);
        let host = Host {
            clocks: Arc::new(Clocks::new(boot_ns, drift_ppm, wall_ms)),
            disk,
            running: None,
            process: None,
            stop: None,
            incarnation: 0,
            removed: false,
            listed: !added,
            failing: false,
            restored: false,
            rejected: false,
            paused_until: 0,
        };
        state.hosts.insert(id, host);
    }

    /// Every machine that is part of the cluster.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let state = self.lock();
        state.hosts.iter().filter(|(_, host)| !host.removed).map(|(id, _)| *id).collect()
    }

    /// The nodes that every configuration file names.
    fn listed(&self) -> Vec<NodeId> {
        let state = self.lock();
        let listed = state.hosts.iter().filter(|(_, host)| host.listed && !host.removed);
        listed.map(|(id, _)| *id).collect()
    }

    /// The nodes that serve requests.
    pub(crate) fn running(&self) -> Vec<(NodeId, Running)> {
        let state = self.lock();
        let running = state.hosts.iter().filter(|(_, host)| !host.removed);
        running.filter_map(|(id, host)| Some((*id, host.running.clone()?))).collect()
    }

    /// Passes a request to a node's listener; `None` if the node is not listening.
    pub(crate) fn serve(
        &self,
        node: NodeId,
        listener: Listener,
        request: http::Request<Bytes>,
    ) -> Option<oneshot::Receiver<Answer>> {
        let running = self.lock().hosts.get(&node)?.running.clone()?;
        let (answer, wait) = oneshot::channel();
        let served = running.node;
        tokio::spawn(running.process.run(async move {
            // The caller may have gone away.
            answer.send(served.call(listener, request).await).ok();
        }));
        Some(wait)
    }

    fn config(&self, id: NodeId) -> Result<Config, String> {
        let mut config = Layers::default().finish().map_err(|problems| problems.to_string())?;
        let (base, terms) = (&self.plan.base, &self.plan.base.terms);
        let address = |id: u64| format!("node{id}:7301");
        config.cluster_name = "simulated".to_owned();
        config.cluster_secret = Some(Secret::new(SECRET));
        config.operator_token = Some(Tokens::one(Secret::new(OPERATOR)));
        config.members = self.listed().into_iter().map(|id| (id, address(id.0))).collect();
        config.node_id = id;
        config.data_dir = self.dir.path().join(format!("node{id}"));
        config.peer_advertise = address(id.0);
        config.default_limits =
            base.limits.iter().map(|(tokens, period_ms)| limit(*tokens, *period_ms)).collect();
        config.gossip_ms = base.gossip / 1_000;
        // The configuration is rejected unless gossip is faster than the wait for tokens.
        config.transfer_wait_ms = base.waits.transfer_wait_ms;
        config.transfer_timeout_ms = base.waits.transfer_timeout_ms;
        config.lease_ms = terms.lease_ms;
        config.clock_error_ms_max = terms.clock_error_ms_max;
        config.heartbeat_ms = base.heartbeat / 1_000;
        config.election_ms = self.plan.election_ms();
        config.snapshot_every = self.plan.snapshot_every;
        Ok(config)
    }

    /// Starts a node after a while.
    pub(super) fn start_later(self: &Arc<Self>, id: NodeId, after: Us) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            world.sleep(after).await;
            world.start(id);
        });
    }

    fn start(self: &Arc<Self>, id: NodeId) {
        let (process, incarnation, stop, surroundings) = {
            let mut state = self.lock();
            let seed = state.rng.draw();
            let Some(host) = state.hosts.get_mut(&id) else { return };
            if host.process.is_some() || host.removed || host.rejected {
                return;
            }
            host.incarnation += 1;
            let process =
                Process::new(Arc::clone(&host.clocks), Arc::clone(&host.disk.sync_ms), seed);
            host.process = Some(Arc::clone(&process));
            let (stop, stopped) = oneshot::channel();
            host.stop = Some(stop);
            let link = Arc::new(Wire { world: Arc::downgrade(self), from: id });
            (process, host.incarnation, stopped, Surroundings { link, disk: host.disk.clone() })
        };
        self.say(|| format!("node {id} starts incarnation {incarnation}"));
        let config = match self.config(id) {
            Ok(config) => config,
            Err(why) => return self.violate("configuration", why),
        };
        let (end, ended) = oneshot::channel();
        let (world, own) = (Arc::downgrade(self), Arc::clone(&process));
        tokio::spawn(process.run(async move {
            let (mut node, simulated) = match Node::start_simulated(config, surroundings).await {
                Ok(started) => started,
                Err(error) => return drop(end.send(End::Failed(error))),
            };
            if let Some(world) = world.upgrade() {
                world.serves(id, Running { process: own, node: simulated });
            }
            let result = tokio::select! {
                biased;
                _ = stop => {
                    node.stop().await;
                    End::Stopped
                }
                error = node.failed() => End::Failed(error),
            };
            end.send(result).ok();
        }));
        let world = Arc::clone(self);
        tokio::spawn(async move {
            // A killed process sends no end.
            if let Ok(end) = ended.await {
                world.ended(id, incarnation, &end);
            }
        });
    }

    fn serves(&self, id: NodeId, running: Running) {
        if let Some(host) = self.lock().hosts.get_mut(&id) {
            host.running = Some(running);
        }
    }

    /// A process ended on its own: its supervisor starts it again.
    fn ended(self: &Arc<Self>, id: NodeId, incarnation: u64, end: &End) {
        let (now, cooldown) = (self.now(), self.plan.cooldown());
        match end {
            End::Stopped => self.say(|| format!("node {id} has stopped")),
            End::Failed(error) => {
                self.say(|| format!("node {id} failed: {error}"));
                let mut state = self.lock();
                state.observations.counts.fatal += 1;
                state.observations.disturb(now, now + SUPERVISOR_PAUSE + cooldown);
                let bad = state.hosts.get_mut(&id).is_none_or(|host| {
                    host.rejected |= host.restored;
                    !host.failing && !host.removed && !host.restored
                });
                drop(state);
                // A node may stop only if its disk fails or was restored, or if it is being
                // removed.
                if bad {
                    self.violate("cluster_heals", format!("node {id} stopped by itself: {error}"));
                }
            }
        }
        let current =
            self.lock().hosts.get(&id).is_some_and(|host| host.incarnation == incarnation);
        if current {
            self.kill(id);
            let pause =
                if matches!(end, End::Stopped) { self.draw(1_000_000) } else { SUPERVISOR_PAUSE };
            self.start_later(id, pause.max(1_000));
        }
    }

    /// Kills a process: its tasks stop, and it loses a random part of its unsynced writes.
    pub(crate) fn kill(&self, id: NodeId) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(host) = state.hosts.get_mut(&id) else { return };
        let Some(process) = host.process.take() else { return };
        let kept = state.rng.below(host.disk.memory.unsynced() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or(0);
        host.disk.memory = host.disk.memory.after_power_cut(kept);
        (host.running, host.stop, host.paused_until) = (None, None, 0);
        // The disk after a crash has no fault.
        host.failing = false;
        process.kill();
    }

    /// Asks a node for an orderly stop.
    pub(super) fn stop(self: &Arc<Self>, id: NodeId) {
        let (stop, incarnation) = {
            let mut state = self.lock();
            let Some(host) = state.hosts.get_mut(&id) else { return };
            (host.stop.take(), host.incarnation)
        };
        let Some(stop) = stop else { return };
        stop.send(()).ok();
        let world = Arc::clone(self);
        tokio::spawn(async move {
            world.sleep(STOP_MAX).await;
            let hangs = world
                .lock()
                .hosts
                .get(&id)
                .is_some_and(|s| s.incarnation == incarnation && s.process.is_some());
            if hangs {
                world.say(|| format!("node {id} did not stop in time"));
                world.kill(id);
                world.start_later(id, 1_000);
            }
        });
    }

    /// Ends every fault.
    pub(super) fn heal(self: &Arc<Self>) {
        let now = self.now();
        self.say(|| "all faults end".to_owned());
        let mut state = self.lock();
        state.faulty = false;
        state.net.heal();
        state.observations.disturb(now, now + self.plan.cooldown());
        for host in state.hosts.values_mut() {
            host.disk.sync_ms.store(2, std::sync::atomic::Ordering::Relaxed);
            host.disk.full.store(false, std::sync::atomic::Ordering::Relaxed);
            // A failing disk that was not written to since has no fault any more.
            host.disk.memory.set_faults(fluxgate_store::memory::Faults::default());
            host.paused_until = 0;
            if let Some(process) = &host.process {
                process.resume();
            }
        }
        drop(state);
        // Nodes that are down have a start pending already; a second one has no effect.
        for id in self.nodes() {
            self.start_later(id, 1_000);
        }
    }
}

/// The only limit of a key.
pub(crate) fn limit(tokens: u64, period_ms: u64) -> Limit {
    Limit::new("requests", tokens, period_ms)
}

/// Longest wait for any answer of a node.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
