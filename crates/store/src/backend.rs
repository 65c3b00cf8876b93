//! What the log asks of a database: ordered puts and deletes, and a barrier.
//!
//! Assumes of an implementation: after a power cut it holds everything before the last
//! finished barrier and a prefix, in call order, of what came after. One thread writes;
//! any thread reads.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a visitor of a scan says to each pair.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<ControlFlow<()>> + 'a;

/// The writing side of a database. Keys of at most 16 bytes, values of at most 4096.
pub trait LogBackend: Send + 'static {
    /// Stores a value, over an older one if there is any.
    ///
    /// # Errors
    /// What the system said; nothing is retried.
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Removes a key; one that is not there is no error.
    ///
    /// # Errors
    /// What the system said; nothing is retried.
    fn delete(&mut self, key: &[u8]) -> io::Result<()>;

    /// Everything before is durable after.
    ///
    /// # Errors
    /// What the system said. The backend is then of no further use.
    fn barrier(&mut self) -> io::Result<()>;

    /// A slower barrier that also looks for failures which the database may have met in a
    /// thread of its own and kept to itself. Called about once a second.
    ///
    /// # Errors
    /// As for [`LogBackend::barrier`].
    fn deep_barrier(&mut self) -> io::Result<()> {
        self.barrier()
    }

    /// The reading side. Sees every put and delete at once.
    fn reader(&self) -> Arc<dyn LogRead>;
}

/// The reading side of a database.
pub trait LogRead: Send + Sync + 'static {
    /// Visits pairs with `from <= key < to` in the order of their keys, until told to stop.
    ///
    /// # Errors
    /// What the system or the visitor said.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> io::Result<()>;

    /// Bytes that the database takes on its disk.
    ///
    /// # Errors
    /// What the system said.
    fn size_on_disk(&self) -> io::Result<u64>;
}
