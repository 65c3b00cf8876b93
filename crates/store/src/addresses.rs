//! Addresses of the members that count in place of those in the log: what `recover addresses` leaves.
//!
//! Answers for: an address counts only as long as the log has the one that it was given in place of, so
//! that a note which was forgotten cannot undo a later move.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

/// The file.
pub(crate) const ADDRESSES: &str = "ADDRESSES";
const VERSION: u8 = 1;

/// Where one member is. Frozen; a change is a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The member.
    pub node: u64,
    /// What the log had for it, once a node with this note has seen that.
    pub instead_of: Option<String>,
    /// Where it is.
    pub address: String,
}

impl DataDir {
    /// Notes addresses. Durable when this returns.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_addresses(&self, addresses: &[Recovered]) -> io::Result<()> {
        let addresses = addresses.to_vec();
        let bytes =
            codec::encode(Kind::Addresses, VERSION, &addresses).map_err(io::Error::other)?;
        files::replace(self.path(), ADDRESSES, &bytes)
    }

    /// The addresses that were noted; none where there is no note.
    ///
    /// # Errors
    /// When the note is damaged or cannot be read.
    pub fn addresses(&self) -> Result<Vec<Recovered>, OpenError> {
        read(self.path())
    }

    /// Removes the note.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove_addresses(&self) -> io::Result<()> {
        fs::remove_file(self.path().join(ADDRESSES)).and_then(|()| files::sync_dir(self.path()))
    }
}

pub(crate) fn read(dir: &Path) -> Result<Vec<Recovered>, OpenError> {
    let path = dir.join(ADDRESSES);
    let Some(bytes) = read_checked(&path, SMALL_FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
    codec::decode(Kind::Addresses, VERSION, &bytes)
        .map_err(|error| OpenError::corrupt(&path, error.to_string()))
}
