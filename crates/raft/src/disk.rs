//! Room on the disk.
//!
//! A log whose write failed must stop for good, so a full disk must be detected before it is hit:
//! with little room left, new entries are rejected, while votes, reads and leases continue; once
//! there is room again, writes continue too.
//!
//! A query of the disk may take as long as the disk does: it runs where blocking is allowed, one
//! query at a time, so that a disk that hangs blocks only one thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fluxgate_peer::process;
use tokio::sync::Mutex;

/// One part in this many of a disk is kept free for votes and for the database's own housekeeping.
const RESERVE_PART: u64 = 16;
/// Bounds of that reserve, bytes.
const RESERVE_BYTES: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);
/// Marks an unknown number of bytes.
const UNKNOWN: u64 = u64::MAX;

/// Queries a disk: free and total bytes; `None` when it cannot be queried.
type Ask = dyn Fn() -> Option<(u64, u64)> + Send + Sync;

/// Watches the disk of a data directory.
#[derive(Clone)]
pub(crate) struct Disk {
    ask: Arc<Ask>,
    // Held while the disk is queried.
    turn: Arc<Mutex<()>>,
    free: Arc<AtomicU64>,
    // The last result; a disk that was never queried counts as having room.
    full: Arc<AtomicBool>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("free", &self.free_bytes()).finish_non_exhaustive()
    }
}

impl Disk {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self::with(Arc::new(move || {
            let disk = rustix::fs::statvfs(&dir).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
        }))
    }

    fn with(ask: Arc<Ask>) -> Self {
        let free = Arc::new(AtomicU64::new(UNKNOWN));
        Self { ask, turn: Arc::default(), free, full: Arc::default() }
    }

    /// Whether entries may be written: one system call. A disk that cannot be queried is assumed to
    /// have room; a failing write will show otherwise.
    pub(crate) async fn has_room(&self) -> bool {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let this = self.clone();
        let asked = process::blocking(move || {
            let room = (this.ask)();
            let has_room = room.is_none_or(|(free, capacity)| {
                free >= (capacity / RESERVE_PART).clamp(RESERVE_BYTES.0, RESERVE_BYTES.1)
            });
            if let Some((bytes, _)) = room {
                this.free.store(bytes, Ordering::Relaxed);
            }
            this.full.store(!has_room, Ordering::Relaxed);
            // Released here, because the caller may have left.
            drop(turn);
            has_room
        });
        asked.await.unwrap_or(true)
    }

    /// Whether it had room at the last query.
    pub(crate) fn had_room(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    /// Bytes that this process could still write at the last query, if known.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    /// A simulated disk.
    #[cfg(feature = "sim")]
    pub(crate) fn pretended(ask: Arc<Ask>) -> Self {
        Self::with(ask)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A disk that hangs delays its caller, and no other task on the same thread.
    #[tokio::test]
    async fn a_disk_that_hangs_ties_up_no_thread_of_the_runtime() {
        let (go_on, held) = mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let disk = Disk::with(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            held.lock().unwrap().recv().ok();
            Some((1 << 40, 1 << 41))
        }));
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let disk = disk.clone();
                tokio::spawn(async move { disk.has_room().await })
            })
            .collect();
        // The test runtime has one thread: if that were blocked, the test would never get here.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(asked.load(Ordering::Relaxed) <= 1, "one question at a time");
        drop(go_on);
        for one in asking {
            assert!(one.await.unwrap());
        }
        assert_eq!(disk.free_bytes(), Some(1 << 40));
    }
}
