//! `HARDSTATE`: a small second record, outside the database, of what this node promised.
//!
//! sled drops damaged records silently. This file holds the vote and a mark of the last durable
//! entry, so that a log that is shorter, older or different after a restart is detected and
//! rejected. Must never claim what is not yet durable in the database: a mark is raised AFTER the
//! barrier, and lowered BEFORE entries are removed.
//!
//! Two slots of 512 bytes, written in turn, each with a sequence number and a checksum: when a
//! power cut tears one write, the other slot remains.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::error::OpenError;
use crate::files;

/// Largest vote, bytes: it must fit into a slot together with the other fields.
pub const VOTE_BYTES_MAX: usize = 384;

const NAME: &str = "HARDSTATE";
const SLOT_BYTES: usize = 512;
const SLOT_VERSION: u8 = 1;
/// Largest size of the other fields of a slot, bytes, with all integers at their widest.
const OTHER_FIELDS_BYTES_MAX: usize = 64;

const _: () = assert!(codec::HEADER_BYTES + OTHER_FIELDS_BYTES_MAX + VOTE_BYTES_MAX <= SLOT_BYTES);

/// A durable entry: its index, and the checksum that covers it and all entries before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    /// `None` right after a truncation.
    pub(crate) crc: Option<u32>,
}

/// A vote and its number. Votes are numbered because this crate cannot compare their content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberedVote {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The content of the file. Frozen as version 1 of [`Kind::HardState`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HardState {
    pub(crate) sequence: u64,
    pub(crate) vote: Option<NumberedVote>,
    pub(crate) mark: Option<Mark>,
    pub(crate) purged: Option<u64>,
}

/// The open `HARDSTATE` file.
#[derive(Debug)]
pub struct HardStateFile {
    file: File,
    path: PathBuf,
    state: HardState,
}

/// Whether the data directory has the file.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

impl HardStateFile {
    /// Creates the file with an empty state. Durable when this returns.
    ///
    /// # Errors
    /// The system's error.
    pub fn create(dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(NAME);
        let mut bytes = Vec::with_capacity(2 * SLOT_BYTES);
        for sequence in 0..2 {
            let state = HardState { sequence, ..HardState::default() };
            bytes.extend_from_slice(&slot(&state).map_err(OpenError::io("write", &path))?);
        }
        files::replace(dir, NAME, &bytes).map_err(OpenError::io("write", &path))
    }

    /// Opens the file of a directory and reads the newer of its intact slots.
    ///
    /// # Errors
    /// When it is missing, or neither slot is intact.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(NAME);
        let bytes = files::read_small(&path, 2 * SLOT_BYTES as u64)
            .map_err(|error| OpenError::corrupt(&path, error.to_string()))?
            .ok_or_else(|| OpenError::corrupt(&path, "the file is missing"))?;
        if bytes.len() != 2 * SLOT_BYTES {
            let what = format!("{} bytes instead of {}", bytes.len(), 2 * SLOT_BYTES);
            return Err(OpenError::corrupt(&path, what));
        }
        let (even, odd) = bytes.split_at(SLOT_BYTES);
        let state = [(even, 0), (odd, 1)]
            .into_iter()
            .filter_map(|(slot, parity)| {
                read_slot(slot).filter(|state| state.sequence % 2 == parity)
            })
            .max_by_key(|state| state.sequence)
            .ok_or_else(|| OpenError::corrupt(&path, "neither of its two slots is intact"))?;
        let file =
            OpenOptions::new().write(true).open(&path).map_err(OpenError::io("open", &path))?;
        Ok(Self { file, path, state })
    }

    pub(crate) fn state(&self) -> &HardState {
        &self.state
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the state; durable when this returns.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut HardState)) -> std::io::Result<()> {
        let mut next = self.state.clone();
        change(&mut next);
        next.sequence = self.state.sequence + 1;
        let offset = (next.sequence % 2) * SLOT_BYTES as u64;
        self.file.write_all_at(&slot(&next)?, offset)?;
        self.file.sync_data()?;
        self.state = next;
        Ok(())
    }
}

fn slot(state: &HardState) -> std::io::Result<[u8; SLOT_BYTES]> {
    let bytes =
        codec::encode(Kind::HardState, SLOT_VERSION, state).map_err(std::io::Error::other)?;
    let mut slot = [0u8; SLOT_BYTES];
    let Some(place) = slot.get_mut(..bytes.len()) else {
        return Err(std::io::Error::other("hard state is larger than its slot"));
    };
    place.copy_from_slice(&bytes);
    Ok(slot)
}

fn read_slot(slot: &[u8]) -> Option<HardState> {
    let bytes = codec::HEADER_BYTES + codec::payload_bytes(slot).ok()?;
    codec::decode(Kind::HardState, SLOT_VERSION, slot.get(..bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_state_fits_into_a_slot() {
        let state = HardState {
            sequence: u64::MAX,
            vote: Some(NumberedVote { number: u64::MAX, bytes: vec![0xff; VOTE_BYTES_MAX] }),
            mark: Some(Mark { index: u64::MAX, crc: Some(u32::MAX) }),
            purged: Some(u64::MAX),
        };
        assert_eq!(read_slot(&slot(&state).unwrap()), Some(state));
    }

    #[test]
    fn a_torn_write_leaves_the_state_before_it() {
        let dir = tempfile::tempdir().unwrap();
        HardStateFile::create(dir.path()).unwrap();
        let mut file = HardStateFile::open(dir.path()).unwrap();
        for purged in 1..=5u64 {
            file.update(|state| state.purged = Some(purged)).unwrap();
            let whole = std::fs::read(dir.path().join(NAME)).unwrap();
            let newest = usize::from(file.state().sequence % 2 == 1) * SLOT_BYTES;
            let mut torn = whole.clone();
            torn[newest + 14] ^= 0x10;
            std::fs::write(dir.path().join(NAME), &torn).unwrap();
            let older = HardStateFile::open(dir.path()).unwrap().state().purged;
            assert_eq!(older.unwrap_or(0), purged - 1);
            std::fs::write(dir.path().join(NAME), &whole).unwrap();
            assert_eq!(HardStateFile::open(dir.path()).unwrap().state().purged, Some(purged));
        }
    }

    #[test]
    fn two_broken_slots_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        HardStateFile::create(dir.path()).unwrap();
        std::fs::write(dir.path().join(NAME), [0u8; 2 * SLOT_BYTES]).unwrap();
        assert!(matches!(HardStateFile::open(dir.path()), Err(OpenError::Corrupt { .. })));
    }
}
