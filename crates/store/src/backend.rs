//! The interface between the log and a database: ordered puts and deletes, and a barrier.
//!
//! An implementation must keep, after a power cut, every call before the last finished barrier and, of
//! the later calls, a prefix in call order. One thread writes; any thread reads.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Called for each pair of a scan; decides whether the scan continues.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<ControlFlow<()>> + 'a;

/// The writing side of a database. Keys of at most 16 bytes, values of at most 4096.
pub trait LogBackend: Send + 'static {
    /// Stores a value, replacing any older one.
    ///
    /// # Errors
    /// The system's error; nothing is retried.
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Removes a key; a missing key is not an error.
    ///
    /// # Errors
    /// The system's error; nothing is retried.
    fn delete(&mut self, key: &[u8]) -> io::Result<()>;

    /// Makes every earlier call durable before it returns.
    ///
    /// # Errors
    /// The system's error. The backend must not be used after one.
    fn barrier(&mut self) -> io::Result<()>;

    /// A slower barrier that also detects failures which the database met in a thread of its own
    /// and did not report. Called about once a second.
    ///
    /// # Errors
    /// As for [`LogBackend::barrier`].
    fn deep_barrier(&mut self) -> io::Result<()> {
        self.barrier()
    }

    /// The reading side. It sees every put and delete immediately.
    fn reader(&self) -> Arc<dyn LogRead>;
}

/// The reading side of a database.
pub trait LogRead: Send + Sync + 'static {
    /// Visits pairs with `from <= key < to` in key order until the visitor breaks.
    ///
    /// # Errors
    /// The error of the system or of the visitor.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> io::Result<()>;

    /// Size of the database on disk, bytes.
    ///
    /// # Errors
    /// The system's error.
    fn size_on_disk(&self) -> io::Result<u64>;
}
