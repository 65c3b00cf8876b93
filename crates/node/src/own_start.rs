//! This start of the node: its number, and the starts that its data directory remembers.
//!
//! Answers for: a start that requests its registration is on disk before. Must never decide which
//! of two starts may continue (`fluxgate_engine::join`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fluxgate_engine::join::MadeStarts;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_store::DataDir;
use fluxgate_types::{BootId, DirId};

use crate::starts;

/// This start, on its data directory.
#[derive(Debug)]
pub struct OwnStart {
    boot: AtomicU64,
    /// Distinguishes two starts with the same number: they come from two copies of one directory.
    nonce: u64,
    pub dir_id: DirId,
    data: Arc<DataDir>,
    // The starts that the data directory remembers. The lock is held while the file is written,
    // twice per start; no request takes it.
    starts: Mutex<MadeStarts>,
}

impl OwnStart {
    pub fn new(id: StartId, data: Arc<DataDir>, starts: MadeStarts) -> Self {
        Self {
            boot: AtomicU64::new(id.boot.0),
            nonce: id.nonce,
            dir_id: DirId(data.identity().dir_id),
            data,
            starts: Mutex::new(starts),
        }
    }

    pub fn boot(&self) -> BootId {
        BootId(self.boot.load(Ordering::Acquire))
    }

    pub fn id(&self) -> StartId {
        StartId { boot: self.boot(), nonce: self.nonce }
    }

    /// Continues the count of starts above those of an earlier directory under this id; false if
    /// the number was not written. Call it BEFORE this start sends any message.
    pub fn count_on_from(&self, boot: BootId) -> bool {
        if let Err(error) = self.data.count_on(boot.0) {
            tracing::error!(%error, "the number of this start was not written");
            return false;
        }
        self.boot.store(boot.0, Ordering::Release);
        true
    }

    /// Records on disk that this start is about to request its registration. Blocks.
    ///
    /// # Errors
    /// The I/O error. The start must not register then: a registered start that its directory does
    /// not remember would be taken for the start of a copy.
    pub fn note_asking(&self) -> std::io::Result<()> {
        self.change_starts(|starts, own| starts.ask(own))
    }

    /// Records on disk that this start is registered. Blocks.
    ///
    /// # Errors
    /// The I/O error, which is harmless.
    pub fn note_registered(&self) -> std::io::Result<()> {
        self.change_starts(|starts, own| starts.confirm(own))
    }

    fn change_starts(
        &self,
        change: impl FnOnce(&mut MadeStarts, StartId) -> bool,
    ) -> std::io::Result<()> {
        let own = self.id();
        let mut slot = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = slot.clone();
        if change(&mut changed, own) {
            starts::write(&self.data, &changed)?;
            *slot = changed;
        }
        Ok(())
    }

    /// Whether `newest`, which another node knows as this node's newest start, came from this
    /// directory.
    pub fn made(&self, newest: StartId) -> bool {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        newest == self.id() || starts.made(newest)
    }
}
