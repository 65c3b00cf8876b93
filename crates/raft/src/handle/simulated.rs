//! A log on a simulated disk: in memory, with syncs that take virtual time and can be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fluxgate_peer::process;
use fluxgate_store::{DataDir, Driver, LogStore, Memory, OpenError, Options, Recovered};

use crate::disk::Disk;

/// Size of such a disk, bytes.
const BYTES: u64 = 1 << 40;

#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    /// The disk's content.
    pub memory: Memory,
    /// How long a sync takes, milliseconds.
    pub sync_ms: Arc<AtomicU64>,
    /// The disk has no room for entries.
    pub full: Arc<AtomicBool>,
}

/// Reports the room on such a disk: all of it is free, or none.
pub(super) fn room(disk: &SimulatedDisk) -> Disk {
    let full = Arc::clone(&disk.full);
    Disk::pretended(Arc::new(move || {
        let free = if full.load(Ordering::Relaxed) { 0 } else { BYTES };
        Some((free, BYTES))
    }))
}

/// Opens the log on such a disk. A task of the node's process syncs each group of writes.
pub(super) fn open_log(
    data: &DataDir,
    disk: &SimulatedDisk,
    options: Options,
    fits: impl FnOnce(&Recovered) -> Result<(), String>,
) -> Result<(LogStore, Recovered), OpenError> {
    let options = Options { driver: Driver::Deferred, ..options };
    let (log, recovered) =
        LogStore::open_beside(data, Box::new(disk.memory.clone()), options, fits)?;
    let settle = Arc::new(log.settler());
    let (under_way, sync_ms) = (Arc::new(AtomicBool::new(false)), Arc::clone(&disk.sync_ms));
    log.set_wake(Arc::new(move || {
        if under_way.swap(true, Ordering::Relaxed) {
            return;
        }
        let (settle, under_way) = (Arc::clone(&settle), Arc::clone(&under_way));
        let sync = Duration::from_millis(sync_ms.load(Ordering::Relaxed));
        tokio::spawn(process::bind(async move {
            tokio::time::sleep(sync).await;
            // Writes from here on wait for the next sync.
            under_way.store(false, Ordering::Relaxed);
            settle();
        }));
    }));
    Ok((log, recovered))
}
