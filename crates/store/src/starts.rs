//! The file with the starts of a node that were made from this data directory.
//!
//! Answers for: it is durable once it is written. What it says of a start is decided elsewhere.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

pub(crate) const STARTS: &str = "STARTS";
const VERSION: u8 = 1;

/// One start: its number, and a random nonce.
pub type Start = (u64, u64);

/// The starts that a directory remembers. Frozen; a change is a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// The newest one that is known to be registered.
    pub confirmed: Option<Start>,
    /// Those that requested their registration since.
    pub asked: Vec<Start>,
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
