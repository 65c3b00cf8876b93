//! Faults of operators and their machines: a full disk, a clock that is years ahead, a directory that
//! is put back to what it was.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fluxgate_sim::plan::{MS, SECOND, Us};
use fluxgate_store::Memory;
use fluxgate_types::NodeId;

use super::{Shared, writes};
use crate::plan::ClusterFault;

/// Within this, at a lease of 3 s, writes succeed again after the leader's disk became full.
const WRITES_WITHIN: Us = 5 * SECOND;
/// The lease that it is said for, milliseconds.
const LEASE_MS: u64 = 3_000;
/// Pause between two tries of a write.
const AGAIN: Us = 100 * MS;
/// How far ahead a clock gets, milliseconds: three years.
const AHEAD_MS: i64 = 3 * 365 * 24 * 3_600 * 1_000;

/// What lies on a machine's disk.
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
    /// Does a fault of these kinds.
    pub(super) fn inflict_newer(self: &Arc<Self>, extra: ClusterFault, node: NodeId) {
        match extra {
            ClusterFault::DiskFull => self.fill_disk(node),
            ClusterFault::YearsAhead => self.go_ahead(node),
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

    /// The disk of whoever leads has no room for a while. Nothing else happens meanwhile, so that it
    /// can be told whether writes go on.
    fn fill_disk(self: &Arc<Self>, node: NodeId) {
        let leader = self.running().into_iter().find(|(_, r)| r.node.leads_in().is_some());
        let node = leader.map_or(node, |(id, _)| id);
        let within = WRITES_WITHIN * self.plan.base.terms.lease_ms.max(LEASE_MS) / LEASE_MS;
        let (begun, span) = (self.now(), 2 * within);
        let calm = {
            let mut state = self.lock();
            let Some(slot) = state.slots.get(&node) else { return };
            slot.disk.full.store(true, Ordering::Relaxed);
            state.hold_until = begun + span;
            state.book.was_calm(begun, begun) && leads(&state.slots, node)
        };
        self.count(ClusterFault::DiskFull.as_str(), node, span);
        self.disturb(span);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            if calm && world.plan.base.nodes >= 3 {
                let written = world.write_within(within).await;
                *world.lock().book.counts.full.entry(written).or_default() += 1;
                if !written {
                    let what = format!("node {node} led and its disk is full since {begun}");
                    world.violate("writes_go_on", what);
                }
            }
            let left = (begun + span).saturating_sub(world.now());
            world.sleep(left).await;
            if let Some(slot) = world.lock().slots.get(&node) {
                slot.disk.full.store(false, Ordering::Relaxed);
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

    /// One machine's wall clock, and only one's in a run, goes years ahead.
    fn go_ahead(&self, node: NodeId) {
        if std::mem::replace(&mut self.lock().ahead, true) {
            return;
        }
        crate::checks::time_is_bounded::begin(self);
        self.count(ClusterFault::YearsAhead.as_str(), node, 0);
        if let Some(slot) = self.lock().slots.get(&node) {
            slot.clocks.jump(AHEAD_MS);
        }
        // As after any jump, its lease is dropped with the next renewal.
        self.disturb(self.plan.base.terms.lease_ms * MS);
    }

    fn data_dir(&self, node: NodeId) -> std::path::PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    /// What is on the disk of a node that does not run.
    fn image(&self, node: NodeId) -> io::Result<Option<Image>> {
        let state = self.lock();
        let Some(slot) = state.slots.get(&node) else { return Ok(None) };
        let memory = &slot.disk.memory;
        let log = memory.after_power_cut(memory.unsynced());
        let files = tempfile::tempdir_in(self.dir.path())?;
        copy(&self.data_dir(node), files.path())?;
        Ok(Some(Image { log, files }))
    }

    fn put_back(&self, node: NodeId, image: Image) -> io::Result<()> {
        let dir = self.data_dir(node);
        fs::remove_dir_all(&dir)?;
        copy(image.files.path(), &dir)?;
        if let Some(slot) = self.lock().slots.get_mut(&node) {
            slot.disk.memory = image.log;
            slot.restored = true;
        }
        Ok(())
    }
}

fn leads(slots: &std::collections::BTreeMap<NodeId, super::Host>, node: NodeId) -> bool {
    let running = slots.get(&node).and_then(|slot| slot.running.as_ref());
    running.is_some_and(|running| running.node.leads_in().is_some())
}

/// Puts a node back to what was on its disk before its last life. It is refused, and then replaced,
/// or is as if nothing had been: that is for all other checks to say.
async fn restore(world: Arc<Shared>, node: NodeId) {
    let lease = world.plan.base.terms.lease_ms * MS;
    let stop = |world: &Arc<Shared>| {
        let (now, settle) = (world.now(), world.plan.settle());
        world.lock().book.disturb(now, now + 4 * lease + settle);
        world.kill(node);
    };
    // Nothing else happens between the stop and the copy, nor later between stop and start.
    stop(&world);
    let image = world.image(node);
    world.start_later(node, MS);
    let lives = {
        let mut state = world.lock();
        state.rng.between(1, 4) * lease
    };
    world.sleep(lives).await;
    let faulty = world.lock().faulty;
    match image {
        Ok(Some(image)) if faulty => {
            stop(&world);
            if let Err(error) = world.put_back(node, image) {
                world.say(|| format!("node {node} is not put back: {error}"));
            }
            world.start_later(node, MS);
            // Long enough for whoever must notice.
            world.sleep(4 * lease + 10 * SECOND).await;
            if world.lock().slots.get(&node).is_some_and(|slot| slot.refused) {
                return writes::replace(world, node).await;
            }
            if let Some(slot) = world.lock().slots.get_mut(&node) {
                slot.restored = false;
            }
        }
        Ok(_) => {}
        Err(error) => world.say(|| format!("node {node} is not copied: {error}")),
    }
    world.lock().replacing = false;
}
