//! Keeps when each key was last used across restarts: written every minute and at an orderly stop.
//!
//! Answers for: the cost of a write grows with the keys used in that minute, not with all keys. The
//! times are for display; a crash loses the last minute of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::state::Shared;
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::USE_NOTED_MS;
use fluxgate_peer::process;
use fluxgate_store::DataDir;
use fluxgate_store::last_uses::LastUse;
use fluxgate_types::{ClusterMs, KeyId, caps};

use crate::clock::boot_now;
use crate::published::Published;

/// How often the list of used keys is written.
const EVERY: Duration = Duration::from_millis(USE_NOTED_MS);
/// How often a starting node checks whether its table is complete.
const LOOK: Duration = Duration::from_millis(100);
/// Rows beyond twice the number of keys before the file is rewritten.
const SLACK_ROWS: usize = 65_536;
/// A row count that causes a rewrite of the file.
const REWRITE: usize = usize::MAX;

#[derive(Debug)]
pub struct LastUses {
    data: Arc<DataDir>,
    shared: Arc<Shared>,
    // Keys that were used since the last write.
    fresh: Mutex<Vec<KeyId>>,
}

impl LastUses {
    pub fn new(data: Arc<DataDir>, shared: Arc<Shared>) -> Self {
        Self { data, shared, fresh: Mutex::default() }
    }

    /// Records the use of a key.
    pub fn used(&self, entry: &KeyEntry, now: ClusterMs) {
        if entry.touch(now) {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            // A key that does not fit is recorded at its next use.
            if fresh.len() < caps::LAST_USES_NOTED_MAX {
                fresh.push(entry.id());
            }
        }
    }

    fn take_fresh(&self) -> Vec<LastUse> {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        fresh.iter().filter_map(|id| self.shared.table.with(id, row).flatten()).collect()
    }

    /// Loads the file of earlier runs into the table. Returns its number of rows. Blocks.
    fn load(&self, now: ClusterMs) -> usize {
        let mut rows = 0;
        let read = self.data.read_last_uses(|(id, at_ms)| {
            rows += 1;
            if let Ok(id) = KeyId::new(id) {
                // A clock that was ahead must not put a last use into the future.
                let at = ClusterMs(at_ms).min(now);
                self.shared.table.with(&id, |entry| entry.touch(at));
            }
        });
        match read {
            Ok(true) => rows,
            // Rows appended after the damage would not be read again: the file is rewritten.
            Ok(false) => {
                tracing::warn!("the file of last uses is damaged: a part of it was skipped");
                REWRITE
            }
            Err(error) => {
                tracing::warn!(%error, "the file of last uses cannot be read");
                rows
            }
        }
    }

    /// Appends the newest uses, or rewrites the file if it has grown too long. Returns its number of
    /// rows. Blocks.
    fn write_fresh(&self, rows: usize) -> std::io::Result<usize> {
        let table = &self.shared.table;
        let fresh = self.take_fresh();
        if rows.saturating_add(fresh.len()) <= 2 * table.len() + SLACK_ROWS {
            if !fresh.is_empty() {
                self.data.append_last_uses(&fresh)?;
            }
            return Ok(rows + fresh.len());
        }
        let mut count = 0;
        let all = table.parts().flat_map(|part| part.entries().filter_map(row).collect::<Vec<_>>());
        self.data.replace_last_uses(all.inspect(|_| count += 1))?;
        Ok(count)
    }

    /// Writes the uses since the last write. Blocks.
    pub fn write(&self) {
        let fresh = self.take_fresh();
        if !fresh.is_empty()
            && let Err(error) = self.data.append_last_uses(&fresh)
        {
            tracing::warn!(%error, "the last uses of keys were not written to disk");
        }
    }
}

fn row(entry: &KeyEntry) -> Option<LastUse> {
    entry.last_used().map(|at| (*entry.id().as_bytes(), at.0))
}

/// Writes the uses every minute.
pub async fn run(last_uses: Arc<LastUses>, published: Arc<Published>) {
    // With a lease, everything that was acknowledged is applied: the table is complete.
    while !published.is_leased(boot_now()) {
        tokio::time::sleep(LOOK).await;
    }
    let reading = Arc::clone(&last_uses);
    let mut rows =
        process::blocking(move || reading.load(published.now())).await.unwrap_or(REWRITE);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        every.tick().await;
        let writing = Arc::clone(&last_uses);
        let known = rows;
        let written = process::blocking(move || writing.write_fresh(known)).await;
        let written = written.map_err(std::io::Error::other).and_then(|written| written);
        match &written {
            Ok(count) => rows = *count,
            Err(error) if !failed => {
                tracing::warn!(%error, "the last uses of keys were not written to disk");
            }
            Err(_) => {}
        }
        failed = written.is_err();
    }
}
