//! A copy of the database on which an open is tried.
//!
//! sled rewrites files while it opens, before anybody can look at what is in them. Whether a
//! log is sound is therefore found out on a copy, and a refused one stays as it is, byte by
//! byte. Answers for: the copy is of a database at rest, and is gone when this is dropped. A
//! copy is never data: what a killed process left of one is removed by the next.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::OpenError;
use crate::sled_backend::{self, DB, LOCK_RETRY, LOCK_WAIT};

const NAME: &str = "sled.check";

/// The copy. Holds sled's lock on the original, so that it stays what was copied.
#[derive(Debug)]
pub(crate) struct Trial {
    path: PathBuf,
    _original: File,
}

impl Trial {
    /// Copies the database of a data directory; `None` when the disk has no room for that.
    pub(crate) fn make(dir: &Path) -> Result<Option<Self>, OpenError> {
        let from = sled_backend::path(dir);
        let original = hold(&from)?;
        let path = dir.join(NAME);
        remove(&path).map_err(OpenError::io("remove", &path))?;
        let trial = Self { path, _original: original };
        match copy(&from, &trial.path) {
            Ok(()) => Ok(Some(trial)),
            Err(error) if is_no_room(&error) => Ok(None),
            Err(error) => Err(OpenError::io("copy", &from)(error)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // sled's threads go on for some milliseconds and may make files until they end.
        let _ = hold(&self.path);
        let deadline = Instant::now() + LOCK_WAIT;
        while let Err(error) = remove(&self.path) {
            if Instant::now() >= deadline {
                let path = self.path.display();
                tracing::warn!(%error, %path, "a copy of the log stays until the next start");
                return;
            }
            std::thread::sleep(LOCK_RETRY);
        }
    }
}

/// Whether the disk is full, or what this user may have of it.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes sled's own lock on a database, which nobody has when it is closed.
fn hold(path: &Path) -> Result<File, OpenError> {
    let file = File::open(path.join(DB)).map_err(OpenError::io("open", path))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(OpenError::InUse { path: path.to_path_buf() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", path)(error)),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
