//! Machines and nodes: how they start, stop, die and come back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxgate_node::{
    Answer, Config, Layers, Listener, Node, NodeError, Secret, Simulated, Surroundings, Tokens,
};
use fluxgate_peer::process::{Clocks, Process};
use fluxgate_raft::SimulatedDisk;
use fluxgate_sim::plan::Us;
use fluxgate_types::{Limit, NodeId};
use tokio::sync::oneshot;

use super::{Host, Shared};
use crate::network::Wire;

/// Wall-clock time at the beginning, milliseconds: 2024-01-20.
const EPOCH_MS: i64 = 1_705_747_200_000;
/// What administrators present.
pub(crate) const OPERATOR: &str = "operator-token-of-the-simulation";
/// What nodes present to each other.
const SECRET: &str = "cluster-secret-of-the-simulation";
/// Pause of a supervisor before it starts a node again that stopped by itself.
const SUPERVISOR_PAUSE: Us = 1_000_000;
/// Longest orderly stop; longer ones are ended.
const STOP_MAX: Us = 40_000_000;

/// A node that serves.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    pub(crate) node: Simulated,
}

/// How a node's process ended by itself.
enum End {
    Stopped,
    Failed(NodeError),
}

/// How far the clocks of a majority are off when a cluster is formed, milliseconds.
const CLOCKS_AGREE_MS: i64 = 100;

impl Shared {
    /// Machines of the first members, each with clocks of its own.
    pub(super) fn make_machines(&self) {
        for id in 1..=self.plan.base.nodes {
            self.make_machine(NodeId(id), false);
        }
    }

    /// A machine that no node has run on.
    pub(super) fn make_machine(&self, id: NodeId, added: bool) {
        let mut state = self.lock();
        let mut signed = |most: u64| {
            let size = i64::try_from(state.rng.below(most + 1)).unwrap_or(0);
            if state.rng.permille(500) { size } else { -size }
        };
        let drift_ppm = signed(self.plan.base.drift_ppm);
        let error_ms = signed(self.plan.base.wall_error_ms);
        // One clock may be far off; a cluster whose clocks agree nowhere is not formed at all.
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
        let slot = Host {
            clocks: Arc::new(Clocks::new(boot_ns, drift_ppm, wall_ms)),
            disk,
            running: None,
            process: None,
            stop: None,
            life: 0,
            gone: false,
            listed: !added,
            failing: false,
            restored: false,
            refused: false,
            paused_until: 0,
        };
        state.slots.insert(id, slot);
    }

    /// Every machine that is part of the cluster.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let state = self.lock();
        state.slots.iter().filter(|(_, slot)| !slot.gone).map(|(id, _)| *id).collect()
    }

    /// The nodes that every file names.
    fn listed(&self) -> Vec<NodeId> {
        let state = self.lock();
        let listed = state.slots.iter().filter(|(_, slot)| slot.listed && !slot.gone);
        listed.map(|(id, _)| *id).collect()
    }

    /// The nodes that serve.
    pub(crate) fn running(&self) -> Vec<(NodeId, Running)> {
        let state = self.lock();
        let running = state.slots.iter().filter(|(_, slot)| !slot.gone);
        running.filter_map(|(id, slot)| Some((*id, slot.running.clone()?))).collect()
    }

    /// Hands a request to a node's listener; `None` where nobody listens.
    pub(crate) fn serve(
        &self,
        node: NodeId,
        listener: Listener,
        request: http::Request<Bytes>,
    ) -> Option<oneshot::Receiver<Answer>> {
        let running = self.lock().slots.get(&node)?.running.clone()?;
        let (answer, wait) = oneshot::channel();
        let served = running.node;
        tokio::spawn(running.process.run(async move {
            // A caller that went away needs none.
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
        // Gossip must be faster than a request's patience, or the configuration is refused.
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
        let (process, life, stop, surroundings) = {
            let mut state = self.lock();
            let seed = state.rng.draw();
            let Some(slot) = state.slots.get_mut(&id) else { return };
            if slot.process.is_some() || slot.gone || slot.refused {
                return;
            }
            slot.life += 1;
            let process =
                Process::new(Arc::clone(&slot.clocks), Arc::clone(&slot.disk.sync_ms), seed);
            slot.process = Some(Arc::clone(&process));
            let (stop, stopped) = oneshot::channel();
            slot.stop = Some(stop);
            let link = Arc::new(Wire { world: Arc::downgrade(self), from: id });
            (process, slot.life, stopped, Surroundings { link, disk: slot.disk.clone() })
        };
        self.say(|| format!("node {id} starts life {life}"));
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
            let came = tokio::select! {
                biased;
                _ = stop => {
                    node.stop().await;
                    End::Stopped
                }
                error = node.failed() => End::Failed(error),
            };
            end.send(came).ok();
        }));
        let world = Arc::clone(self);
        tokio::spawn(async move {
            // One that was killed says nothing.
            if let Ok(end) = ended.await {
                world.ended(id, life, &end);
            }
        });
    }

    fn serves(&self, id: NodeId, running: Running) {
        if let Some(slot) = self.lock().slots.get_mut(&id) {
            slot.running = Some(running);
        }
    }

    /// A process ended by itself: its supervisor starts it again.
    fn ended(self: &Arc<Self>, id: NodeId, life: u64, end: &End) {
        let (now, settle) = (self.now(), self.plan.settle());
        match end {
            End::Stopped => self.say(|| format!("node {id} has stopped")),
            End::Failed(error) => {
                self.say(|| format!("node {id} failed: {error}"));
                let mut state = self.lock();
                state.book.counts.fatal += 1;
                state.book.disturb(now, now + SUPERVISOR_PAUSE + settle);
                let bad = state.slots.get_mut(&id).is_none_or(|slot| {
                    slot.refused |= slot.restored;
                    !slot.failing && !slot.gone && !slot.restored
                });
                drop(state);
                // Only a disk that fails or was put back, or being removed, is a reason to stop.
                if bad {
                    self.violate("cluster_heals", format!("node {id} stopped by itself: {error}"));
                }
            }
        }
        let current = self.lock().slots.get(&id).is_some_and(|slot| slot.life == life);
        if current {
            self.kill(id);
            let pause =
                if matches!(end, End::Stopped) { self.draw(1_000_000) } else { SUPERVISOR_PAUSE };
            self.start_later(id, pause.max(1_000));
        }
    }

    /// The process dies: its tasks go no further, unsynced writes are lost but for some.
    pub(crate) fn kill(&self, id: NodeId) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(slot) = state.slots.get_mut(&id) else { return };
        let Some(process) = slot.process.take() else { return };
        let kept = state.rng.below(slot.disk.memory.unsynced() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or(0);
        slot.disk.memory = slot.disk.memory.after_power_cut(kept);
        (slot.running, slot.stop, slot.paused_until) = (None, None, 0);
        // The new disk is sound.
        slot.failing = false;
        process.kill();
    }

    /// Asks a node to stop in good order.
    pub(super) fn stop(self: &Arc<Self>, id: NodeId) {
        let (stop, life) = {
            let mut state = self.lock();
            let Some(slot) = state.slots.get_mut(&id) else { return };
            (slot.stop.take(), slot.life)
        };
        let Some(stop) = stop else { return };
        stop.send(()).ok();
        let world = Arc::clone(self);
        tokio::spawn(async move {
            world.sleep(STOP_MAX).await;
            let hangs =
                world.lock().slots.get(&id).is_some_and(|s| s.life == life && s.process.is_some());
            if hangs {
                world.say(|| format!("node {id} did not stop in time"));
                world.kill(id);
                world.start_later(id, 1_000);
            }
        });
    }

    /// Every fault ends.
    pub(super) fn heal(self: &Arc<Self>) {
        let now = self.now();
        self.say(|| "all faults end".to_owned());
        let mut state = self.lock();
        state.faulty = false;
        state.net.heal();
        state.book.disturb(now, now + self.plan.settle());
        for slot in state.slots.values_mut() {
            slot.disk.sync_ms.store(2, std::sync::atomic::Ordering::Relaxed);
            slot.disk.full.store(false, std::sync::atomic::Ordering::Relaxed);
            // A disk that was to fail and was not written to since fails no more.
            slot.disk.memory.set_faults(fluxgate_store::memory::Faults::default());
            slot.paused_until = 0;
            if let Some(process) = &slot.process {
                process.resume();
            }
        }
        drop(state);
        // Those that are down were going to be started anyway; those that are not told to are now.
        for id in self.nodes() {
            self.start_later(id, 1_000);
        }
    }
}

/// The one limit of this name.
pub(crate) fn limit(tokens: u64, period_ms: u64) -> Limit {
    Limit { name: "requests".into(), tokens, period_ms }
}

/// Longest wait for any answer of a node.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
