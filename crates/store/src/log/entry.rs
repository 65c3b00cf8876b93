//! An entry of the log, and the answer to an operation on it.

use std::sync::Arc;

use crate::error::StoreError;

/// Called once with the outcome of an operation, by the writer, in the order of submission. It must
/// be quick, and must not call back into the log.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// An entry: its index, and bytes that are opaque to the log.
pub type Entry = (u64, Arc<[u8]>);
