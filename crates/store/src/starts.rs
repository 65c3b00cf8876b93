//! Which starts of a node a data directory remembers.
//!
//! Answers for: whether the start that the cluster knows as the newest one was made from this very
//! directory. A number that counts up cannot tell: a copy that was refused counts its starts too, and
//! would overtake the original.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

/// The file.
pub(crate) const STARTS: &str = "STARTS";
const VERSION: u8 = 1;

/// Most starts that are remembered without being confirmed; the oldest of them go first.
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
    /// Whether the start that somebody knows as the newest one was made from this directory: it is
    /// remembered, or it lies before the last confirmed one, and that somebody is behind.
    #[must_use]
    pub fn made(&self, newest: Start) -> bool {
        self.knows(newest) || self.confirmed.is_some_and(|(number, _)| newest.0 < number)
    }

    fn knows(&self, start: Start) -> bool {
        self.confirmed == Some(start) || self.asked.contains(&start)
    }

    /// Remembers a start that is about to ask to be registered. False where it is remembered already.
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

    /// Remembers that a start is registered: no earlier one can be the newest any more. False where
    /// that is remembered already.
    pub fn confirm(&mut self, start: Start) -> bool {
        if self.confirmed == Some(start) && self.asked.is_empty() {
            return false;
        }
        *self = Self { confirmed: Some(start), asked: Vec::new() };
        true
    }
}

impl DataDir {
    /// Notes the starts that this directory remembers. Durable when this returns.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_starts(&self, starts: &Starts) -> io::Result<()> {
        let bytes = codec::encode(Kind::Starts, VERSION, starts).map_err(io::Error::other)?;
        files::replace(self.path(), STARTS, &bytes)
    }

    /// The starts that this directory remembers; none where an older program made all of them.
    ///
    /// # Errors
    /// When the note is damaged or cannot be read.
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
    fn a_registered_start_is_known_however_many_came_after_it() {
        let mut starts = Starts::default();
        assert!(starts.ask((1, 11)) && !starts.ask((1, 11)));
        assert!(starts.confirm((1, 11)) && !starts.confirm((1, 11)));
        for number in 2..1_000 {
            assert!(starts.ask((number, 7)));
        }
        assert!(starts.made((1, 11)) && starts.made((999, 7)));
        assert!(!starts.made((2, 7)), "the oldest go");
        assert!(!starts.made((1, 12)), "another copy made it");
        assert!(starts.confirm((999, 7)));
        // A node that is behind knows an earlier one as the newest.
        assert!(starts.made((1, 11)) && starts.made((998, 7)));
        assert!(
            !starts.made((999, 8)) && !starts.made((1_000, 7)),
            "a copy, or an older directory"
        );
    }

    #[test]
    fn an_older_directory_is_one_however_often_it_counts() {
        let mut copy = Starts::default();
        copy.ask((4, 1));
        copy.confirm((4, 1));
        // The original went on to start 5. What is refused never asks, whatever number it has.
        for _ in 5..20 {
            assert!(!copy.made((5, 2)));
        }
    }
}
