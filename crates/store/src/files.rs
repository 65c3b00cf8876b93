//! Small files that must exist, complete, after a power cut.
//!
//! Answers for one order: temporary file, sync, rename, sync of the directory. Must never
//! leave a half-written file under its final name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Suffix of unfinished files; they are removed at open.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Makes the entries of a directory durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the directory entry of `path` durable.
///
/// # Errors
/// When the parent directory cannot be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Writes or replaces `dir/name`; the file is durable when this returns. After a crash before that,
/// either the old file or the new one exists.
///
/// # Errors
/// The system's error; the old file then still exists.
pub fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, dir.join(name)))
        .and_then(|()| sync_dir(dir));
    if written.is_err() {
        // Best effort: the next open removes a leftover.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file of at most `bytes_max` bytes; `None` when there is none.
///
/// # Errors
/// The system's error, or `InvalidData` when the file is larger.
pub fn read_small(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes, at most {bytes_max} expected"),
        ));
    }
    fs::read(path).map(Some)
}
