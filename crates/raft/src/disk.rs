//! Room on the disk.
//!
//! A log whose write failed must stop for good, so a full disk must be seen before it is hit: with
//! little room left new entries are refused, while votes, reads and leases go on, and as soon as
//! there is room writes go on too.

use std::path::PathBuf;

/// The part of a disk that is kept free for votes and what the database moves about.
const RESERVE_PART: u64 = 16;
/// Bounds of that reserve, bytes.
const RESERVE_BYTES: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);

/// Watches the disk of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Whether entries may be written: one system call. A disk that cannot be asked is taken to
    /// have room; a failing write will show.
    pub(crate) fn has_room(&self) -> bool {
        self.room().is_none_or(|(free, capacity)| {
            free >= (capacity / RESERVE_PART).clamp(RESERVE_BYTES.0, RESERVE_BYTES.1)
        })
    }

    /// Bytes that this process may still write, unless the disk cannot be asked.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.room().map(|(free, _)| free)
    }

    /// Bytes that are free, and all.
    fn room(&self) -> Option<(u64, u64)> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
    }
}
