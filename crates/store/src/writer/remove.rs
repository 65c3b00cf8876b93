//! Removal of entries: a truncation goes from the highest index down, a purge from the lowest up.
//!
//! Answers for: at every moment in between, the remaining log has no gaps. Must never remove an
//! entry that the hard state still records as durable.

use std::io;
use std::ops::ControlFlow;

use crate::entry_read::read_entries;
use crate::hard_state::Mark;
use crate::layout::{self, CHAIN_START, Link, PartKey, Purged};
use crate::writer::Writer;

/// Keys removed at a time by the purge.
const PURGE_SLICE_KEYS: usize = 64;

impl Writer {
    pub(super) fn truncate_after(&mut self, last_kept: Option<u64>) -> io::Result<()> {
        let keep = last_kept.max(self.purged);
        let Some((last, _)) = self.last.filter(|(last, _)| Some(*last) > keep) else {
            return Ok(());
        };
        let kept = match keep {
            Some(index) if keep > self.purged => self.read_link(index)?,
            Some(_) | None => None,
        };
        self.lower_mark(keep, kept)?;
        let lowest = keep.map_or(0, |keep| keep + 1).max(self.start.unwrap_or(0));
        for index in (lowest..=last).rev() {
            let keys = self.keys(index, index, usize::MAX)?;
            for key in keys.into_iter().rev() {
                self.delete(&key.bytes())?;
            }
        }
        self.last = keep.and_then(|index| Some((index, kept?.crc)));
        self.chain = kept.map_or(CHAIN_START, |link| link.crc);
        Ok(())
    }

    /// Lowers the mark BEFORE entries are removed, so that the hard state no longer records them as
    /// durable.
    fn lower_mark(&mut self, keep: Option<u64>, kept: Option<Link>) -> io::Result<()> {
        let Some(hard) = &mut self.hard else {
            return Ok(());
        };
        if hard.state().mark.is_none_or(|mark| Some(mark.index) <= keep) {
            return Ok(());
        }
        let mark = keep.map(|index| Mark { index, crc: kept.map(|link| link.crc) });
        hard.update(|state| state.mark = mark)
    }

    pub(super) fn purge(&mut self, upto: u64, marker: Vec<u8>) -> io::Result<()> {
        if self.purged.is_some_and(|purged| purged >= upto) {
            return Ok(());
        }
        let value = layout::encode_purged(&Purged { upto, marker }).map_err(io::Error::other)?;
        self.put(layout::PURGED, &value)?;
        self.purged = Some(upto);
        self.purge_from.get_or_insert(0);
        if self.last.is_some_and(|(last, _)| last <= upto) {
            self.last = None;
            self.chain = CHAIN_START;
        }
        Ok(())
    }

    /// Removes some purged entries, lowest first, and ends with a barrier.
    pub(super) fn purge_slice(&mut self) -> io::Result<()> {
        let (Some(from), Some(upto)) = (self.purge_from, self.purged) else {
            return Ok(());
        };
        let keys = self.keys(from, upto, PURGE_SLICE_KEYS)?;
        for key in &keys {
            self.delete(&key.bytes())?;
        }
        self.purge_from = match keys.last() {
            Some(last) if keys.len() == PURGE_SLICE_KEYS => Some(last.index),
            Some(_) | None => None,
        };
        self.barrier()
    }

    fn keys(&self, first: u64, last: u64, count_max: usize) -> io::Result<Vec<PartKey>> {
        let mut keys = Vec::new();
        let from = PartKey::first(first).bytes();
        self.reader.scan(&from, &layout::after(last), &mut |key, _| {
            keys.extend(PartKey::parse(key));
            Ok(if keys.len() < count_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(keys)
    }

    fn read_link(&self, index: u64) -> io::Result<Option<Link>> {
        let entries = read_entries(self.reader.as_ref(), index, index, 0)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(entries.into_iter().next().map(|(_, link, _)| link))
    }
}
