//! When keys were last used, over restarts: noted every minute and at an orderly stop.
//!
//! Answers for: a note costs as much work as keys were used in that minute. The times are for people;
//! a crash loses the last minute of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::registry::record::{KeyEntry, USE_NOTED_MS};
use fluxgate_engine::registry::table::KeyTable;
use fluxgate_raft::process;
use fluxgate_store::DataDir;
use fluxgate_store::last_uses::LastUse;
use fluxgate_types::{ClusterMs, KeyId, caps};

use crate::clock::boot_now;
use crate::core::Core;

/// How often the list of used keys is written.
const EVERY: Duration = Duration::from_millis(USE_NOTED_MS);
/// How often a node that starts looks whether it knows the table.
const LOOK: Duration = Duration::from_millis(100);
/// Rows beyond twice the number of keys before the file is written anew.
const SLACK_ROWS: usize = 65_536;

/// Keys that were used since the last note.
#[derive(Debug, Default)]
pub(crate) struct LastUses {
    fresh: Mutex<Vec<KeyId>>,
    /// What earlier lives noted, until the table that it belongs to is here.
    noted: Mutex<Option<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    uses: BTreeMap<KeyId, ClusterMs>,
    rows: usize,
}

impl LastUses {
    /// Reads what earlier lives noted. Blocks.
    pub(crate) fn open(data: &DataDir) -> Self {
        let mut noted = Noted::default();
        let read = data.read_last_uses(|(id, at_ms)| {
            noted.rows += 1;
            if let Ok(id) = KeyId::new(id) {
                let at = noted.uses.entry(id).or_insert(ClusterMs(0));
                *at = (*at).max(ClusterMs(at_ms));
            }
        });
        match read {
            Ok(true) => {}
            Ok(false) => {
                // Whatever is added behind the damage would not be read again.
                noted.rows = usize::MAX / 2;
                tracing::warn!("a part of when keys were last used cannot be read: it is left out");
            }
            Err(error) => tracing::warn!(%error, "it cannot be read when keys were last used"),
        }
        Self { fresh: Mutex::default(), noted: Mutex::new(Some(noted)) }
    }

    /// A key was used, as its record says.
    pub(crate) fn used(&self, entry: &KeyEntry, now: ClusterMs) {
        if entry.touch(now) {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            // What has no room is noted when it is used again.
            if fresh.len() < caps::LAST_USES_NOTED_MAX {
                fresh.push(entry.record.id);
            }
        }
    }

    fn take_fresh(&self, table: &KeyTable) -> Vec<LastUse> {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        fresh.iter().filter_map(|id| table.with(id, row).flatten()).collect()
    }

    /// Brings what earlier lives noted into the table. Returns how many rows the file has.
    fn bring_in(&self, table: &KeyTable, now: ClusterMs) -> usize {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let noted = noted.unwrap_or_default();
        for (id, at) in &noted.uses {
            // A clock that was ahead must not say that a key will have been used.
            table.with(id, |entry| entry.touch((*at).min(now)));
        }
        noted.rows
    }
}

fn row(entry: &std::sync::Arc<KeyEntry>) -> Option<LastUse> {
    entry.last_used().map(|at| (*entry.record.id.as_bytes(), at.0))
}

/// Notes uses every minute.
pub(super) async fn run(core: std::sync::Arc<Core>) {
    // Under a lease all that was acknowledged is applied: the keys are here.
    while !core.is_leased(boot_now()) {
        tokio::time::sleep(LOOK).await;
    }
    let mut rows = core.last_uses.bring_in(&core.shared.table, core.now());
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        every.tick().await;
        let noting = std::sync::Arc::clone(&core);
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

/// Writes the newest note, or the whole file anew where it has grown too long. Returns how many rows
/// it has. Blocks.
fn note(core: &Core, rows: usize) -> std::io::Result<usize> {
    let table = &core.shared.table;
    let fresh = core.last_uses.take_fresh(table);
    if rows.saturating_add(fresh.len()) <= 2 * table.len() + SLACK_ROWS {
        if !fresh.is_empty() {
            core.data.append_last_uses(&fresh)?;
        }
        return Ok(rows + fresh.len());
    }
    let mut count = 0;
    let all = table.parts().flat_map(|part| part.entries().filter_map(row).collect::<Vec<_>>());
    core.data.replace_last_uses(all.inspect(|_| count += 1))?;
    Ok(count)
}

/// Writes the last note of a life. Blocks.
pub(super) fn write(core: &Core) {
    let has_table = core.last_uses.noted.lock().unwrap_or_else(PoisonError::into_inner).is_none();
    // Before that the file says more than this node knows.
    let fresh = core.last_uses.take_fresh(&core.shared.table);
    if has_table
        && !fresh.is_empty()
        && let Err(error) = core.data.append_last_uses(&fresh)
    {
        tracing::warn!(%error, "when keys were last used was not noted on the disk");
    }
}
