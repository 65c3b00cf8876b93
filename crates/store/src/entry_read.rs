//! Reads entries from the database: whole, checked, contiguous.
//!
//! Must never return an entry whose checksum does not match.

use std::ops::ControlFlow;

use crate::backend::LogRead;
use crate::error::StoreError;
use crate::layout::{self, Assembly, Link, PartKey};

/// Reads whole, checked entries from the database, contiguous from `first`: at least one if
/// present, then as many as fit into `bytes_max`.
pub(crate) fn read_entries(
    reader: &dyn LogRead,
    first: u64,
    last: u64,
    bytes_max: usize,
) -> Result<Vec<(u64, Link, Vec<u8>)>, StoreError> {
    let mut gathered = Gathered { entries: Vec::new(), left: bytes_max, next: first, open: None };
    let mut misfit = None;
    let from = PartKey::first(first).bytes();
    reader
        .scan(&from, &layout::after(last), &mut |key, value| {
            Ok(gathered.visit(key, value).unwrap_or_else(|why| {
                misfit = Some(why);
                ControlFlow::Break(())
            }))
        })
        .map_err(|error| StoreError::Read { cause: error.to_string() })?;
    if misfit.is_none() {
        misfit = gathered.close().err();
    }
    match misfit {
        Some(why) if gathered.entries.is_empty() => Err(StoreError::Corrupt { what: why.0 }),
        // A later entry may be in the middle of a truncation: the caller asks for it again.
        Some(_) | None => Ok(gathered.entries),
    }
}

struct Gathered {
    entries: Vec<(u64, Link, Vec<u8>)>,
    left: usize,
    next: u64,
    open: Option<Assembly>,
}

impl Gathered {
    fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<ControlFlow<()>, layout::Misfit> {
        let Some(key) = PartKey::parse(key) else {
            return Ok(ControlFlow::Break(()));
        };
        if let Some(assembly) = &mut self.open
            && assembly.index == key.index
        {
            assembly.push(key, value)?;
            return Ok(ControlFlow::Continue(()));
        }
        if !self.close()? || key.index != self.next {
            return Ok(ControlFlow::Break(()));
        }
        self.open = Some(Assembly::begin(key, value)?);
        Ok(ControlFlow::Continue(()))
    }

    /// Completes the entry being read; returns whether another one fits.
    fn close(&mut self) -> Result<bool, layout::Misfit> {
        let Some(assembly) = self.open.take() else {
            return Ok(true);
        };
        let index = assembly.index;
        let (link, bytes) = assembly.finish()?;
        if !self.entries.is_empty() && bytes.len() > self.left {
            return Ok(false);
        }
        self.left = self.left.saturating_sub(bytes.len());
        self.next = index + 1;
        self.entries.push((index, link, bytes));
        Ok(self.left > 0)
    }
}
