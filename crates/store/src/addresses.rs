//! Member addresses that override those in the log: what `recover addresses` writes.
//!
//! Answers for: an override applies only while the log still has the address that it replaced, so
//! that a forgotten override cannot undo a later move.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

pub(crate) const ADDRESSES: &str = "ADDRESSES";
const VERSION: u8 = 1;

/// The override of one member's address. Frozen; a change is a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Id of the member.
    pub node: u64,
    /// The address in the log that this one replaces; set once a node with this override has read
    /// the log.
    pub instead_of: Option<String>,
    /// The address to use.
    pub address: String,
}

impl DataDir {
    /// Writes the overrides. Durable when this returns.
    ///
    /// # Errors
    /// The system's error.
    pub fn write_addresses(&self, addresses: &[Recovered]) -> io::Result<()> {
        let addresses = addresses.to_vec();
        let bytes =
            codec::encode(Kind::Addresses, VERSION, &addresses).map_err(io::Error::other)?;
        files::replace(self.path(), ADDRESSES, &bytes)
    }

    /// Reads the overrides; empty when there is no file.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn addresses(&self) -> Result<Vec<Recovered>, OpenError> {
        read(self.path())
    }

    /// Removes the overrides.
    ///
    /// # Errors
    /// The system's error.
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
