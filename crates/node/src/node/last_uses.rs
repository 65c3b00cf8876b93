//! When keys were last used, across restarts: written every minute and at an orderly shutdown.
//!
//! Answers for: a write costs as much work as keys were used in that minute. The times are for
//! people; a crash loses the last minute of them.

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
/// How often a starting node checks whether it has the table.
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

/// Loads what earlier starts wrote into the table. Returns how many rows the file has. Blocks.
fn bring_in(state: &NodeState) -> usize {
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
            tracing::warn!("a part of when keys were last used cannot be read: it is left out");
            REWRITE
        }
        Err(error) => {
            tracing::warn!(%error, "when keys were last used cannot be read");
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
    while !state.is_leased(boot_now()) {
        tokio::time::sleep(LOOK).await;
    }
    let reading = Arc::clone(&state);
    let mut rows = process::blocking(move || bring_in(&reading)).await.unwrap_or(REWRITE);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        every.tick().await;
        let noting = Arc::clone(&state);
        let known = rows;
        let noted = process::blocking(move || note(&noting, known)).await;
        let noted = noted.map_err(std::io::Error::other).and_then(|noted| noted);
        match &noted {
            Ok(count) => rows = *count,
            Err(error) if !failed => {
                tracing::warn!(%error, "when keys were last used was not noted on the disk");
            }
            Err(_) => {}
        }
        failed = noted.is_err();
    }
}

/// Appends the newest uses, or rewrites the file if it has grown too long. Returns how many rows it
/// has. Blocks.
fn note(state: &NodeState, rows: usize) -> std::io::Result<usize> {
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

/// Writes the last uses of this start. Blocks.
pub(super) fn write(state: &NodeState) {
    let fresh = state.last_uses.take_fresh(&state.shared.table);
    if !fresh.is_empty()
        && let Err(error) = state.data.append_last_uses(&fresh)
    {
        tracing::warn!(%error, "when keys were last used was not noted on the disk");
    }
}
