//! sled as a [`LogBackend`]: one database with its default tree, created and opened with care.
//!
//! Answers for sled's parts of the open sequence: a new database appears under its name only when
//! it is complete and durable, and a panic inside sled counts as damage on the disk and does not
//! end the process. Must never store a value above [`VALUE_BYTES_MAX`]: sled writes larger ones to
//! separate files without a sync.

mod trial;

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{LogBackend, LogRead, Visit};
use crate::durable;
use crate::error::{OpenError, is_no_room};
use crate::files;

pub(crate) use trial::Trial;

/// Largest value stored in sled, bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

const NAME: &str = "sled";
/// sled's main file within its directory.
const DB: &str = "db";
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Interval of sled's own flush thread, the only one that reclaims space.
const BACKGROUND_FLUSH_MS: u64 = 500;
/// sled releases its lock some milliseconds after the last handle is dropped.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The open database.
pub(crate) struct SledBackend {
    db: sled::Db,
    /// Our own descriptor of sled's file: the system reports a failed write-back once per
    /// descriptor, so sled's background thread cannot consume the error of this one.
    file: File,
}

/// Whether there is a database in the data directory.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Whether the database at `path` has its main file; sled would create a missing one.
pub(crate) fn has_file(path: &Path) -> bool {
    path.join(DB).is_file()
}

/// Path of a data directory's database.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Creates an empty database under a temporary name and moves it into place. A crash during the
/// first writes of a new database can leave it unopenable; this way it only leaves a temporary
/// directory.
pub(crate) fn create(dir: &Path) -> Result<(), OpenError> {
    let temporary = dir.join(format!("{NAME}{}", files::TEMPORARY_SUFFIX));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(OpenError::io("remove", &temporary))?;
    }
    let db = open_db(&temporary)?;
    db.flush().map_err(|error| from_sled(&temporary, error))?;
    drop(db);
    sync_tree(&temporary)
        .and_then(|()| fs::rename(&temporary, path(dir)))
        .and_then(|()| files::sync_dir(dir))
        .map_err(OpenError::io("create", &path(dir)))
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    files::sync_dir(dir)
}

impl SledBackend {
    /// Opens the database at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        remove_unfinished_snapshots(path).map_err(OpenError::io("clean", path))?;
        let db = open_db(path)?;
        // sled syncs neither its directory nor the parent.
        files::sync_dir(path)
            .and_then(|()| files::sync_parent(path))
            .map_err(OpenError::io("sync", path))?;
        let file = File::open(path.join(DB)).map_err(OpenError::io("open", path))?;
        Ok(Self { db, file })
    }
}

/// sled takes a leftover `snap.*.generating` for its newest snapshot and then fails to open
/// (spacejam/sled#1527); without the file it opens.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_db(path: &Path) -> Result<sled::Db, OpenError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| OpenError::corrupt(path, "sled panicked while opening it"))?;
        match opened {
            Ok(db) => return Ok(db),
            Err(error) if is_lock(&error) => {
                if Instant::now() >= deadline {
                    return Err(OpenError::InUse { path: path.to_path_buf() });
                }
                std::thread::sleep(LOCK_RETRY);
            }
            Err(error) => return Err(from_sled(path, error)),
        }
    }
}

fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn from_sled(path: &Path, error: sled::Error) -> OpenError {
    match error {
        sled::Error::Io(source) if is_of_the_system(&source) => OpenError::io("open", path)(source),
        sled::Error::Io(_)
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => OpenError::corrupt(path, error.to_string()),
    }
}

/// sled wraps its own errors about content in I/O errors; only an error with an OS error number
/// comes from the system.
pub(crate) fn is_of_the_system(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || is_no_room(error)
}

/// Calls into sled; a panic becomes an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(io::Error::from),
        Err(_) => Err(io::Error::other("sled panicked")),
    }
}

impl LogBackend for SledBackend {
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        debug_assert!(value.len() <= VALUE_BYTES_MAX);
        guarded(|| self.db.insert(key, value).map(drop))
    }

    fn delete(&mut self, key: &[u8]) -> io::Result<()> {
        guarded(|| self.db.remove(key).map(drop))
    }

    fn barrier(&mut self) -> io::Result<()> {
        guarded(|| self.db.flush().map(drop))?;
        if durable::failed() {
            return Err(io::Error::other("an earlier sync of the log failed"));
        }
        Ok(())
    }

    fn deep_barrier(&mut self) -> io::Result<()> {
        self.barrier()?;
        self.file.sync_data()
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(SledReader { db: self.db.clone() })
    }
}

struct SledReader {
    db: sled::Db,
}

impl LogRead for SledReader {
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut pairs = guarded(|| Ok(self.db.range(from..to)))?;
        while let Some((key, value)) = guarded(|| pairs.next().transpose())? {
            if let ControlFlow::Break(()) = visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn size_on_disk(&self) -> io::Result<u64> {
        guarded(|| self.db.size_on_disk())
    }
}
