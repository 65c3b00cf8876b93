//! The starts of a node that were made from this data directory.
//!
//! Answers for: whether the start that the cluster registered as the newest was made from this very
//! directory. A counter alone cannot answer that: a rejected copy of the directory counts its
//! starts too, and would overtake the original.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

pub(crate) const STARTS: &str = "STARTS";
const VERSION: u8 = 1;

/// Most unconfirmed starts that are remembered; beyond it the oldest are dropped.
const ASKED_MAX: usize = 256;

/// One start: its number, and a random nonce.
pub type Start = (u64, u64);

/// The starts that a directory remembers. Frozen; a change is a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    confirmed: Option<Start>,
    asked: Vec<Start>,
}

impl Starts {
    /// Whether `newest`, the newest start known to another node, was made from this directory:
    /// either it is remembered, or it is older than the last confirmed start because that node lags
    /// behind.
    #[must_use]
    pub fn made(&self, newest: Start) -> bool {
        self.knows(newest) || self.confirmed.is_some_and(|(number, _)| newest.0 < number)
    }

    fn knows(&self, start: Start) -> bool {
        self.confirmed == Some(start) || self.asked.contains(&start)
    }

    /// Remembers a start that is about to be registered. False if it is remembered already.
    pub fn ask(&mut self, start: Start) -> bool {
        if self.knows(start) {
            return false;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.remove(0);
        }
        self.asked.push(start);
        true
    }

    /// Remembers that a start is registered: from here on no earlier one can be the newest. False
    /// if that is remembered already.
    pub fn confirm(&mut self, start: Start) -> bool {
        if self.confirmed == Some(start) && self.asked.is_empty() {
            return false;
        }
        *self = Self { confirmed: Some(start), asked: Vec::new() };
        true
    }
}

impl DataDir {
    /// Writes the starts that this directory remembers. Durable when this returns.
    ///
    /// # Errors
    /// The system's error.
    pub fn write_starts(&self, starts: &Starts) -> io::Result<()> {
        let bytes = codec::encode(Kind::Starts, VERSION, starts).map_err(io::Error::other)?;
        files::replace(self.path(), STARTS, &bytes)
    }

    /// The starts that this directory remembers; empty if older releases made all of them.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn starts(&self) -> Result<Starts, OpenError> {
        read(self.path())
    }
}

pub(crate) fn read(dir: &Path) -> Result<Starts, OpenError> {
    let path = dir.join(STARTS);
    let Some(bytes) = read_checked(&path, SMALL_FILE_BYTES_MAX)? else {
        return Ok(Starts::default());
    };
    codec::decode(Kind::Starts, VERSION, &bytes)
        .map_err(|error| OpenError::corrupt(&path, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_start_is_remembered_after_many_later_ones() {
        let mut starts = Starts::default();
        assert!(starts.ask((1, 11)) && !starts.ask((1, 11)));
        assert!(starts.confirm((1, 11)) && !starts.confirm((1, 11)));
        for number in 2..1_000 {
            assert!(starts.ask((number, 7)));
        }
        assert!(starts.made((1, 11)) && starts.made((999, 7)));
        assert!(!starts.made((2, 7)), "the oldest are dropped");
        assert!(!starts.made((1, 12)), "another copy made it");
        assert!(starts.confirm((999, 7)));
        // A lagging node takes an earlier start for the newest.
        assert!(starts.made((1, 11)) && starts.made((998, 7)));
        assert!(
            !starts.made((999, 8)) && !starts.made((1_000, 7)),
            "a copy, or an older directory"
        );
    }

    #[test]
    fn an_older_copy_is_detected_however_high_it_counts() {
        let mut copy = Starts::default();
        copy.ask((4, 1));
        copy.confirm((4, 1));
        // The original continued to start 5. A rejected start never requests registration, whatever
        // its number.
        for _ in 5..20 {
            assert!(!copy.made((5, 2)));
        }
    }
}
