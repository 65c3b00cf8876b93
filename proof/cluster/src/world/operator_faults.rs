//! Faults of operators and their machines: a full disk, a clock that is years ahead, a restored
//! directory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fluxgate_plan::{MS, SECOND, Us};
use fluxgate_store::Memory;
use fluxgate_types::NodeId;

use super::{Shared, writes};
use crate::plan::ClusterFault;

/// How soon writes succeed again, at a lease of 3 s, after the leader's disk became full.
const WRITES_WITHIN: Us = 5 * SECOND;
/// The lease for which that bound holds, milliseconds.
const LEASE_MS: u64 = 3_000;
/// Pause between two attempts of a write.
const AGAIN: Us = 100 * MS;
/// How far ahead the clock goes, milliseconds: three years.
const AHEAD_MS: i64 = 3 * 365 * 24 * 3_600 * 1_000;

/// The content of a machine's disk.
struct Image {
    log: Memory,
    files: tempfile::TempDir,
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

impl Shared {
    /// Injects a fault of one of the newer kinds.
    pub(super) fn inject_operator_fault(self: &Arc<Self>, extra: ClusterFault, node: NodeId) {
        match extra {
            ClusterFault::DiskFull => self.fill_disk(node),
            ClusterFault::YearsAhead => self.set_years_ahead(node),
            ClusterFault::Restored => {
                let begun = std::mem::replace(&mut self.lock().replacing, true);
                if !begun && self.plan.base.nodes >= 3 {
                    self.count(extra.as_str(), node, 0);
                    tokio::spawn(restore(Arc::clone(self), node));
                } else if !begun {
                    self.lock().replacing = false;
                }
            }
            ClusterFault::Replace | ClusterFault::DiskFails => {}
        }
    }

    /// Fills the leader's disk for a while. No other fault is injected meanwhile, so that the check
    /// can judge whether writes continue.
    fn fill_disk(self: &Arc<Self>, node: NodeId) {
        let leader = self.running().into_iter().find(|(_, r)| r.node.leads_in().is_some());
        let node = leader.map_or(node, |(id, _)| id);
        let within = WRITES_WITHIN * self.plan.base.terms.lease_ms.max(LEASE_MS) / LEASE_MS;
        let (begun, span) = (self.now(), 2 * within);
        let calm = {
            let mut state = self.lock();
            let Some(host) = state.hosts.get(&node) else { return };
            host.disk.full.store(true, Ordering::Relaxed);
            state.hold_until = begun + span;
            state.observations.was_calm(begun, begun) && leads(&state.hosts, node)
        };
        self.count(ClusterFault::DiskFull.as_str(), node, span);
        self.disturb(span);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            if calm && world.plan.base.nodes >= 3 {
                let written = world.write_within(within).await;
                *world.lock().observations.counts.full.entry(written).or_default() += 1;
                if !written {
                    let what = format!("node {node} led, and its disk has been full since {begun}");
                    world.violate("writes_go_on", what);
                }
            }
            let left = (begun + span).saturating_sub(world.now());
            world.sleep(left).await;
            if let Some(host) = world.lock().hosts.get(&node) {
                host.disk.full.store(false, Ordering::Relaxed);
            }
        });
    }

    async fn write_within(self: &Arc<Self>, within: Us) -> bool {
        let until = self.now() + within;
        while self.now() < until {
            if writes::create(self).await.is_some() {
                return self.now() <= until;
            }
            self.sleep(AGAIN).await;
        }
        false
    }

    /// Sets one machine's wall clock years ahead, at most once in a run.
    fn set_years_ahead(&self, node: NodeId) {
        if std::mem::replace(&mut self.lock().ahead, true) {
            return;
        }
        crate::checks::time_is_bounded::begin(self);
        self.count(ClusterFault::YearsAhead.as_str(), node, 0);
        if let Some(host) = self.lock().hosts.get(&node) {
            host.clocks.jump(AHEAD_MS);
        }
        // As after any jump, the node drops its lease at the next renewal.
        self.disturb(self.plan.base.terms.lease_ms * MS);
    }

    fn data_dir(&self, node: NodeId) -> std::path::PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    /// Copies the disk of a node that is not running.
    fn image(&self, node: NodeId) -> io::Result<Option<Image>> {
        let state = self.lock();
        let Some(host) = state.hosts.get(&node) else { return Ok(None) };
        let memory = &host.disk.memory;
        let log = memory.after_power_cut(memory.unsynced());
        let files = tempfile::tempdir_in(self.dir.path())?;
        copy(&self.data_dir(node), files.path())?;
        Ok(Some(Image { log, files }))
    }

    fn restore_image(&self, node: NodeId, image: Image) -> io::Result<()> {
        let dir = self.data_dir(node);
        fs::remove_dir_all(&dir)?;
        copy(image.files.path(), &dir)?;
        if let Some(host) = self.lock().hosts.get_mut(&node) {
            host.disk.memory = image.log;
            host.restored = true;
        }
        Ok(())
    }
}

fn leads(hosts: &std::collections::BTreeMap<NodeId, super::Host>, node: NodeId) -> bool {
    let running = hosts.get(&node).and_then(|host| host.running.as_ref());
    running.is_some_and(|running| running.node.leads_in().is_some())
}

/// Restores the disk of a node to its state before the last incarnation. Either the cluster rejects
/// the node, which is then replaced, or the restore has no effect: all other checks judge that.
async fn restore(world: Arc<Shared>, node: NodeId) {
    let lease = world.plan.base.terms.lease_ms * MS;
    let stop = |world: &Arc<Shared>| {
        let (now, cooldown) = (world.now(), world.plan.cooldown());
        world.lock().observations.disturb(now, now + 4 * lease + cooldown);
        world.kill(node);
    };
    // No task runs between the stop and the copy, nor later between the stop and the restore.
    stop(&world);
    let image = world.image(node);
    world.start_later(node, MS);
    let span = {
        let mut state = world.lock();
        state.rng.between(1, 4) * lease
    };
    world.sleep(span).await;
    let faulty = world.lock().faulty;
    match image {
        Ok(Some(image)) if faulty => {
            stop(&world);
            if let Err(error) = world.restore_image(node, image) {
                world.say(|| format!("node {node} is not put back: {error}"));
            }
            world.start_later(node, MS);
            // Long enough for other nodes to notice.
            world.sleep(4 * lease + 10 * SECOND).await;
            if world.lock().hosts.get(&node).is_some_and(|host| host.rejected) {
                return writes::replace(world, node).await;
            }
            if let Some(host) = world.lock().hosts.get_mut(&node) {
                host.restored = false;
            }
        }
        Ok(_) => {}
        Err(error) => world.say(|| format!("node {node} is not copied: {error}")),
    }
    world.lock().replacing = false;
}
