//! Whether the incarnations of a node ended with an orderly stop.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::data_dir::{DataDir, SMALL_FILE_BYTES_MAX, read_checked};
use crate::error::OpenError;
use crate::files;

const STOPS: &str = "STOPS";
const VERSION: u8 = 1;

/// The content of `STOPS`. Frozen; a change is a new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stops {
    /// Whether an incarnation has begun and not ended with an orderly stop.
    runs: bool,
    /// Number of incarnations that ended without an orderly stop.
    unplanned: u64,
}

impl DataDir {
    /// Records that an incarnation begins. Returns the number of earlier ones that ended without an
    /// orderly stop. Durable when this returns.
    ///
    /// # Errors
    /// When the file is damaged, or cannot be read or written.
    pub fn begin_run(&self) -> Result<u64, OpenError> {
        let before = read(self.path())?;
        let unplanned = before.unplanned.saturating_add(u64::from(before.runs));
        self.write_stops(Stops { runs: true, unplanned }).map_err(|source| OpenError::Io {
            action: "write",
            path: self.path().join(STOPS),
            source,
        })?;
        Ok(unplanned)
    }

    /// Records the orderly stop of this incarnation. Durable when this returns.
    ///
    /// # Errors
    /// When the file is damaged, or cannot be read or written.
    pub fn end_run(&self) -> io::Result<()> {
        let before = read(self.path()).map_err(io::Error::other)?;
        self.write_stops(Stops { runs: false, ..before })
    }

    fn write_stops(&self, stops: Stops) -> io::Result<()> {
        let bytes = codec::encode(Kind::Stops, VERSION, &stops).map_err(io::Error::other)?;
        files::replace(self.path(), STOPS, &bytes)
    }
}

fn read(dir: &Path) -> Result<Stops, OpenError> {
    let path = dir.join(STOPS);
    let Some(bytes) = read_checked(&path, SMALL_FILE_BYTES_MAX)? else {
        return Ok(Stops::default());
    };
    codec::decode(Kind::Stops, VERSION, &bytes)
        .map_err(|error| OpenError::corrupt(&path, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orderly_stops_are_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), "test", 1).unwrap();
        assert_eq!(data.begin_run().unwrap(), 0);
        data.end_run().unwrap();
        assert_eq!(data.begin_run().unwrap(), 0);
        assert_eq!(data.begin_run().unwrap(), 1, "the one before did not end");
        assert_eq!(data.begin_run().unwrap(), 2);
        data.end_run().unwrap();
        assert_eq!(data.begin_run().unwrap(), 2);
    }
}
