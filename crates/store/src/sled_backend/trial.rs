//! A copy of the database on which an open is tried first.
//!
//! sled rewrites files while it opens, before we can examine their content. The check therefore
//! runs on a copy, and a rejected log stays byte for byte as it was. Answers for: the copy is of a
//! database at rest, and is removed when this is dropped. A copy is never data: the next start
//! removes a copy that a killed process left.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{OpenError, is_no_room};
use crate::sled_backend::{self, DB, LOCK_RETRY, LOCK_WAIT};

const NAME: &str = "sled.check";

/// The copy. Holds sled's lock on the original, so that the original does not change meanwhile.
#[derive(Debug)]
pub(crate) struct Trial {
    path: PathBuf,
    _original: File,
}

impl Trial {
    /// Copies the database of a data directory; `None` when the disk has no space for it.
    pub(crate) fn make(dir: &Path) -> Result<Option<Self>, OpenError> {
        let from = sled_backend::path(dir);
        let original = lock(&from)?;
        let path = dir.join(NAME);
        remove(&path).map_err(OpenError::io("remove", &path))?;
        let trial = Self { path, _original: original };
        match copy(&from, &trial.path) {
            Ok(()) => Ok(Some(trial)),
            Err(error) if is_no_room(&error) => Ok(None),
            Err(error) => Err(OpenError::io("copy", &from)(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // sled's threads run on for some milliseconds and may create files until they end.
        let _ = lock(&self.path);
        let deadline = Instant::now() + LOCK_WAIT;
        while let Err(error) = remove(&self.path) {
            if Instant::now() >= deadline {
                let path = self.path.display();
                tracing::warn!(%error, %path, "cannot remove a copy of the log; the next start will");
                return;
            }
            std::thread::sleep(LOCK_RETRY);
        }
    }
}

/// Takes sled's own lock on a database, which is free once the database is closed.
fn lock(path: &Path) -> Result<File, OpenError> {
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
