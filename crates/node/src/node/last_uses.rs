//! Keeps when each key was last used across restarts: written every minute and at an orderly stop.
//!
//! Answers for: the cost of a write grows with the keys used in that minute, not with all keys. The
//! times are for display; a crash loses the last minute of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::state::record::{KeyEntry, USE_NOTED_MS};
use fluxgate_engine::state::table::KeyTable;
use fluxgate_peer::process;
use fluxgate_store::last_uses::LastUse;
use fluxgate_types::{ClusterMs, KeyId, caps};

use crate::clock::boot_now;
use crate::state::NodeState;

/// How often the list of used keys is written.
const EVERY: Duration = Duration::from_millis(USE_NOTED_MS);
/// How often a starting node checks whether its table is complete.
const LOOK: Duration = Duration::from_millis(100);
/// Rows beyond twice the number of keys before the file is rewritten.
const SLACK_ROWS: usize = 65_536;
/// A row count that causes a rewrite of the file.
const REWRITE: usize = usize::MAX;

/// Keys that were used since the last write.
#[derive(Debug, Default)]
pub struct LastUses {
    fresh: Mutex<Vec<KeyId>>,
}

impl LastUses {
    /// Records the use of a key.
    pub fn used(&self, entry: &KeyEntry, now: ClusterMs) {
        if entry.touch(now) {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            // A key that does not fit is recorded at its next use.
            if fresh.len() < caps::LAST_USES_NOTED_MAX {
                fresh.push(entry.record.id);
            }
        }
    }

    fn take_fresh(&self, table: &KeyTable) -> Vec<LastUse> {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        fresh.iter().filter_map(|id| table.with(id, row).flatten()).collect()
    }
}

/// Loads the file of earlier runs into the table. Returns its number of rows. Blocks.
fn load(state: &NodeState) -> usize {
    let now = state.now();
    let mut rows = 0;
    let read = state.data.read_last_uses(|(id, at_ms)| {
        rows += 1;
        if let Ok(id) = KeyId::new(id) {
            // A clock that was ahead must not put a last use into the future.
            let at = ClusterMs(at_ms).min(now);
            state.shared.table.with(&id, |entry| entry.touch(at));
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

fn row(entry: &Arc<KeyEntry>) -> Option<LastUse> {
    entry.last_used().map(|at| (*entry.record.id.as_bytes(), at.0))
}

/// Writes the uses every minute.
pub(super) async fn run(state: Arc<NodeState>) {
    // With a lease, everything that was acknowledged is applied: the table is complete.
    while !state.published.is_leased(boot_now()) {
        tokio::time::sleep(LOOK).await;
    }
    let reading = Arc::clone(&state);
    let mut rows = process::blocking(move || load(&reading)).await.unwrap_or(REWRITE);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        every.tick().await;
        let writing = Arc::clone(&state);
        let known = rows;
        let written = process::blocking(move || write_fresh(&writing, known)).await;
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

/// Appends the newest uses, or rewrites the file if it has grown too long. Returns its number of
/// rows. Blocks.
fn write_fresh(state: &NodeState, rows: usize) -> std::io::Result<usize> {
    let table = &state.shared.table;
    let fresh = state.last_uses.take_fresh(table);
    if rows.saturating_add(fresh.len()) <= 2 * table.len() + SLACK_ROWS {
        if !fresh.is_empty() {
            state.data.append_last_uses(&fresh)?;
        }
        return Ok(rows + fresh.len());
    }
    let mut count = 0;
    let all = table.parts().flat_map(|part| part.entries().filter_map(row).collect::<Vec<_>>());
    state.data.replace_last_uses(all.inspect(|_| count += 1))?;
    Ok(count)
}

/// Writes the uses since the last write. Blocks.
pub(super) fn write(state: &NodeState) {
    let fresh = state.last_uses.take_fresh(&state.shared.table);
    if !fresh.is_empty()
        && let Err(error) = state.data.append_last_uses(&fresh)
    {
        tracing::warn!(%error, "the last uses of keys were not written to disk");
    }
}
