//! Complete keys from elsewhere: imports and backups.
//!
//! Answers for: each row is independent, and an existing row stays as it is, so that an interrupted
//! run can simply be repeated. Adds one line to the audit trail for each log entry and not one for
//! each key: a large import must not evict the rest of the audit trail.

use std::collections::BTreeSet;

use fluxgate_types::{ClusterMs, LogIndex, caps};

use super::Registry;
use super::apply::{Context, invalid};
use super::audit::{Action, AuditEntry};
use super::command::{Actor, CommandError, ImportSource, Outcome, Put};
use super::limits::own_limits;
use super::row::KeyRow;

impl Registry {
    pub(super) fn put_keys(
        &self,
        context: &Context<'_>,
        rows: &[KeyRow],
        origin: ImportSource,
    ) -> Result<Outcome, CommandError> {
        operator(context)?;
        let put =
            |row: &KeyRow| self.put(context, row.clone(), origin).unwrap_or_else(Put::Refused);
        let puts: Vec<Put> = rows.iter().map(put).collect();
        let made = puts.iter().filter(|put| **put == Put::Made).count();
        if made > 0 {
            let (action, word) = match origin {
                ImportSource::Import => (Action::Imported, "imported"),
                ImportSource::Backup => (Action::Restored, "restored"),
            };
            self.audit(context, action, None, &format!("{word} {made} keys"));
        }
        Ok(Outcome::Put(puts))
    }

    fn put(
        &self,
        context: &Context<'_>,
        row: KeyRow,
        origin: ImportSource,
    ) -> Result<Put, CommandError> {
        let table = &self.shared.table;
        if let Some(known) = table.get(&row.id) {
            let same = *known.digest() == row.digest;
            return if same { Ok(Put::Known) } else { Err(CommandError::IdTaken) };
        }
        own_limits(row.limits.as_deref())?;
        self.check_terms(&row.terms)?;
        let last_used = row.last_used;
        // The record of this key may have been erased before, in a window that is still open, and a
        // node that crashed since may have spent from it: the key is not new for the counters.
        let created_index = if context.level() >= 4 { LogIndex(0) } else { context.index };
        let row = match origin {
            // A backup may have been edited: every row must still be a valid record.
            ImportSource::Backup => KeyRow {
                created_index,
                revision: row.revision.clamp(1, caps::REVISION_RESTORED_MAX),
                previous: row.previous.filter(|_| row.revoked_at.is_none()),
                ..row
            },
            ImportSource::Import => KeyRow {
                created_index,
                created_at: context.at,
                created_by: context.actor,
                revision: 1,
                revoked_at: None,
                previous: None,
                ..row
            },
        };
        let full = || invalid("the table is full");
        let seq = table.next_seq().ok_or_else(full)?;
        let record = row.into_record(seq);
        let record = record.ok_or_else(|| invalid("two limits cannot be distinguished"))?;
        table.insert(&record, last_used);
        Ok(Put::Made)
    }

    pub(super) fn restore_audit(
        &self,
        context: &Context<'_>,
        lines: &[AuditEntry],
    ) -> Result<Outcome, CommandError> {
        operator(context)?;
        if context.level() >= 3 {
            let lines = &lines[..lines.len().min(caps::AUDIT_ENTRIES_MAX)];
            let added = self.shared.change_audit(|log| log.merge(lines)).into_iter();
            let puts = added.map(|new| if new { Put::Made } else { Put::Known });
            return Ok(Outcome::Put(puts.collect()));
        }
        let puts = self.shared.change_audit(|log| {
            // Compare lines without their numbers, so that a repeated restore adds nothing.
            // Only lines of the same time can be equal.
            let of = |line: &AuditEntry| {
                (line.at, line.key_id, line.action.as_str(), line.details.clone())
            };
            let moments: BTreeSet<ClusterMs> = lines.iter().map(|line| line.at).collect();
            let near = log.entries().filter(|line| moments.contains(&line.at));
            let mut known: BTreeSet<_> = near.map(|line| of(line)).collect();
            let put = |line: &AuditEntry| {
                if !known.insert(of(line)) {
                    return Put::Known;
                }
                log.push(line.clone());
                Put::Made
            };
            lines.iter().take(caps::AUDIT_ENTRIES_MAX).map(put).collect()
        });
        Ok(Outcome::Put(puts))
    }
}

/// Only the operator may put complete keys: they name their own creator.
pub(super) fn operator(context: &Context<'_>) -> Result<(), CommandError> {
    if context.actor == Actor::Operator { Ok(()) } else { Err(CommandError::Actor) }
}
