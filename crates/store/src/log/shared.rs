//! State shared by the callers and the writer of a log: the tail, the first failure, and the
//! observer.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::backend::LogRead;
use crate::error::StoreError;
use crate::tail::Tail;

/// Called when operations wait for [`LogStore::settle`](super::LogStore::settle); must not call
/// back into the log.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Receives the duration of every barrier, from the writer.
pub trait Observer: Send + Sync + 'static {
    /// Called after a barrier that covered `ops` writes.
    fn synced(&self, took: Duration, ops: usize);
}

pub(crate) struct Shared {
    pub(super) tail: Mutex<Tail>,
    pub(super) poison: OnceLock<Arc<str>>,
    pub(super) observer: RwLock<Option<Arc<dyn Observer>>>,
    pub(super) wake: OnceLock<Wake>,
    /// Operations queued for the writer's thread.
    pub(super) queued: AtomicUsize,
    /// `None` after a close, so that the database can be dropped.
    pub(super) reader: RwLock<Option<Arc<dyn LogRead>>>,
}

impl Shared {
    pub(super) fn new(tail: Tail, reader: Arc<dyn LogRead>) -> Self {
        Self {
            tail: Mutex::new(tail),
            poison: OnceLock::new(),
            observer: RwLock::new(None),
            wake: OnceLock::new(),
            queued: AtomicUsize::new(0),
            reader: RwLock::new(Some(reader)),
        }
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    pub(crate) fn poison(&self) -> Option<StoreError> {
        self.poison.get().map(|cause| StoreError::Poisoned { cause: Arc::clone(cause) })
    }

    /// Keeps the first cause.
    pub(crate) fn set_poison(&self, cause: Arc<str>) {
        let _ = self.poison.set(cause);
    }

    pub(crate) fn observe(&self, took: Duration, ops: usize) {
        let observer = self.observer.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = observer.as_ref() {
            observer.synced(took, ops);
        }
    }

    pub(super) fn reader(&self) -> Result<Arc<dyn LogRead>, StoreError> {
        let reader = self.reader.read().unwrap_or_else(PoisonError::into_inner);
        reader.clone().ok_or(StoreError::Closed)
    }
}
