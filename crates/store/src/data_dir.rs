//! The data directory: its owner, its format, and that only one process uses it.
//!
//! Answers for: a directory of another cluster, node or newer format is rejected and left
//! unchanged; each start that finds its log sound has its own number, durable before that
//! incarnation writes anything else. Must never guess: a directory that is neither complete nor
//! recognizably half created is damaged.
//!
//! Created in the order `VERSION`, `IDENTITY`, then the log (`sled/`, `HARDSTATE`), which is then
//! recorded in `IDENTITY`. The files that exist show where a crash interrupted this.

mod holdings;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::addresses;
use crate::codec::{self, Kind};
use crate::error::OpenError;
use crate::files;
use crate::starts::{self, STARTS};

pub use holdings::{HOLDINGS_PART_BYTES_MAX, HOLDINGS_PARTS_MAX};

/// The format that this build creates, and the newest that it reads.
pub const FORMAT: u64 = 1;
/// Longest name of a cluster, bytes.
pub const CLUSTER_BYTES_MAX: usize = 256;

const VERSION_PREFIX: &str = "fluxgate data directory, format ";
const VERSION: &str = "VERSION";
const IDENTITY: &str = "IDENTITY";
const HOLDINGS: &str = "HOLDINGS";
const CLOCK: &str = "CLOCK";
const LOCK: &str = "LOCK";
pub(crate) const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;
const IDENTITY_VERSION: u8 = 1;
const CLOCK_VERSION: u8 = 1;

/// The owner of a data directory, and the current incarnation of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// Id of the node.
    pub node: u64,
    /// Random, drawn when the directory is created.
    pub dir_id: u64,
    /// Number of this incarnation: 1 on a new directory, then one more than the last that began.
    pub boots: u64,
}

/// The content of `IDENTITY`. Frozen; a change is a `V2`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct IdentityV1 {
    cluster: String,
    node: u64,
    dir_id: u64,
    boots: u64,
    /// Whether a log was created here: from then on, a missing log is damage.
    log_made: bool,
}

/// A checkpoint of cluster time, with this machine's clocks at the same moment. Frozen; a change is
/// a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockNote {
    /// Cluster time, milliseconds since the Unix epoch.
    pub cluster_ms: u64,
    /// The wall clock, milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// The boot clock, nanoseconds.
    pub boot_ns: u64,
    /// The boot of this machine that the boot clock counts from; empty where the system does not
    /// report it.
    pub machine: String,
}

/// An open data directory. Keeps its lock until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    // The number of this incarnation. Higher than in `identity` after `count_on`.
    boots: AtomicU64,
    log_made: AtomicBool,
    /// Whether `IDENTITY` contains the number of this incarnation.
    begun: AtomicBool,
    _lock: File,
}

impl DataDir {
    /// Opens the directory of this node, or creates it if there is none. An existing one is left
    /// unchanged: the start counts only from [`DataDir::begin_incarnation`] on.
    ///
    /// # Errors
    /// When it is in use, belongs to another cluster or node, is newer than this build, or
    /// is damaged. Nothing in it was changed in that case.
    pub fn open(path: &Path, cluster: &str, node: u64) -> Result<Self, OpenError> {
        if cluster.len() > CLUSTER_BYTES_MAX {
            let text = format!("cluster name is longer than {CLUSTER_BYTES_MAX} bytes");
            let source = io::Error::new(io::ErrorKind::InvalidInput, text);
            return Err(OpenError::Io { action: "open", path: path.to_path_buf(), source });
        }
        make_dir(path)?;
        let lock = take_lock(path)?;
        let (record, begun) = match read_record(path)? {
            Some(record) => (next_incarnation(path, record, cluster, node)?, false),
            None => (first_incarnation(path, cluster, node)?, true),
        };
        // Checked here because they are used only after the incarnation has begun.
        read_holdings(path)?;
        read_clock(path)?;
        starts::read(path)?;
        addresses::read(path)?;
        let IdentityV1 { cluster, node, dir_id, boots, log_made } = record;
        Ok(Self {
            path: path.to_path_buf(),
            identity: Identity { cluster, node, dir_id, boots },
            boots: AtomicU64::new(boots),
            log_made: AtomicBool::new(log_made),
            begun: AtomicBool::new(begun),
            _lock: lock,
        })
    }

    /// Whether there is a data directory at this path.
    #[must_use]
    pub fn is_made(path: &Path) -> bool {
        path.join(IDENTITY).exists()
    }

    /// The owner, and the incarnation as of the open.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a log was ever created here.
    pub(crate) fn log_made(&self) -> bool {
        self.log_made.load(Ordering::SeqCst)
    }

    /// Whether this incarnation has begun.
    pub(crate) fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Counts this start, which begins the incarnation. Durable when this returns; a second call
    /// changes nothing.
    ///
    /// # Errors
    /// When `IDENTITY` cannot be written.
    pub fn begin_incarnation(&self) -> Result<(), OpenError> {
        if !self.begun() {
            self.write_identity(self.log_made())?;
            self.begun.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Raises the number of this incarnation, because an earlier directory of the same node had
    /// reached a higher one. Durable when this returns; a lower number changes nothing.
    ///
    /// # Errors
    /// When `IDENTITY` cannot be written.
    pub fn count_on(&self, boots: u64) -> Result<(), OpenError> {
        let before = self.boots.fetch_max(boots, Ordering::SeqCst);
        if before < boots { self.write_identity(self.log_made()) } else { Ok(()) }
    }

    /// Records, durably, that the log exists.
    pub(crate) fn record_log_made(&self) -> Result<(), OpenError> {
        self.write_identity(true)?;
        self.log_made.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn write_identity(&self, log_made: bool) -> Result<(), OpenError> {
        let Identity { cluster, node, dir_id, .. } = self.identity.clone();
        let boots = self.boots.load(Ordering::SeqCst);
        write_record(&self.path, &IdentityV1 { cluster, node, dir_id, boots, log_made })
    }

    /// Saves the node's token balances for its next incarnation: in one part or, where they exceed
    /// one envelope, in up to [`HOLDINGS_PARTS_MAX`]. Durable when this returns.
    ///
    /// # Errors
    /// When there is no part, too many, or one larger than [`HOLDINGS_PART_BYTES_MAX`]; or the
    /// system's error.
    pub fn write_holdings(&self, parts: &[Vec<u8>]) -> io::Result<()> {
        let bytes = holdings::seal(parts)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        files::replace(&self.path, HOLDINGS, &bytes)
    }

    /// Returns what the previous incarnation saved. The file's removal is durable BEFORE the bytes
    /// are returned, so they are used at most once whatever happens next.
    ///
    /// # Errors
    /// When the file is damaged (it is left unchanged) or cannot be read or removed.
    pub fn take_holdings(&self) -> Result<Option<Vec<Vec<u8>>>, OpenError> {
        let Some(parts) = read_holdings(&self.path)? else {
            return Ok(None);
        };
        let path = self.path.join(HOLDINGS);
        fs::remove_file(&path)
            .and_then(|()| files::sync_dir(&self.path))
            .map_err(OpenError::io("remove", &path))?;
        Ok(Some(parts))
    }

    /// Writes a checkpoint of cluster time. Durable when this returns.
    ///
    /// # Errors
    /// The system's error.
    pub fn write_clock(&self, note: &ClockNote) -> io::Result<()> {
        let bytes =
            codec::encode(Kind::ClockMark, CLOCK_VERSION, note).map_err(io::Error::other)?;
        files::replace(&self.path, CLOCK, &bytes)
    }

    /// The last checkpoint of cluster time; `None` when there is none.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn clock(&self) -> Result<Option<ClockNote>, OpenError> {
        read_clock(&self.path)
    }
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| files::sync_parent(path))
        .map_err(OpenError::io("create directory", path))
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = path.join(LOCK);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(OpenError::io("open", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &lock_path)(error)),
    }
}

/// Reads a small file. A file that is too large is damage, not an error of the system.
pub(crate) fn read_checked(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, OpenError> {
    files::read_small(path, bytes_max).map_err(|error| {
        if error.kind() == io::ErrorKind::InvalidData {
            OpenError::corrupt(path, error.to_string())
        } else {
            OpenError::io("read", path)(error)
        }
    })
}

/// What the previous incarnation saved, if anything.
fn read_holdings(path: &Path) -> Result<Option<Vec<Vec<u8>>>, OpenError> {
    let path = path.join(HOLDINGS);
    let Some(bytes) = read_checked(&path, holdings::FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let parts =
        holdings::open(&bytes).map_err(|error| OpenError::corrupt(&path, error.to_string()));
    parts.map(Some)
}

fn read_clock(path: &Path) -> Result<Option<ClockNote>, OpenError> {
    let path = path.join(CLOCK);
    let Some(bytes) = read_checked(&path, SMALL_FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    codec::decode(Kind::ClockMark, CLOCK_VERSION, &bytes)
        .map(Some)
        .map_err(|error| OpenError::CorruptClock { path, what: error.to_string() })
}

/// The directory's record; `None` when the directory is new or its creation was interrupted.
fn read_record(path: &Path) -> Result<Option<IdentityV1>, OpenError> {
    let version = read_version(path)?;
    let identity_path = path.join(IDENTITY);
    let identity = read_checked(&identity_path, SMALL_FILE_BYTES_MAX)?;
    match (version, identity) {
        (true, Some(bytes)) => codec::decode(Kind::Identity, IDENTITY_VERSION, &bytes)
            .map(Some)
            .map_err(|error| OpenError::corrupt(&identity_path, error.to_string())),
        (false, Some(_)) => Err(OpenError::corrupt(&path.join(VERSION), "the file is missing")),
        (_, None) => {
            // `IDENTITY` is created before anything of value: if such files exist, it was lost.
            for name in ["sled", "HARDSTATE", "snapshots", HOLDINGS, CLOCK, STARTS] {
                if path.join(name).exists() {
                    let what = format!("the file is missing, but {name} is there");
                    return Err(OpenError::corrupt(&identity_path, what));
                }
            }
            Ok(None)
        }
    }
}

/// Whether there is a `VERSION` file with a format that this build reads.
fn read_version(path: &Path) -> Result<bool, OpenError> {
    let version_path = path.join(VERSION);
    let Some(bytes) = read_checked(&version_path, SMALL_FILE_BYTES_MAX)? else {
        return Ok(false);
    };
    let format = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(VERSION_PREFIX)?.strip_suffix('\n'))
        .and_then(|digits| digits.parse::<u64>().ok());
    match format {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => {
            Err(OpenError::Newer { path: path.to_path_buf(), found, newest: FORMAT })
        }
        Some(_) | None => Err(OpenError::corrupt(&version_path, "it names no known format")),
    }
}

fn next_incarnation(
    path: &Path,
    mut record: IdentityV1,
    cluster: &str,
    node: u64,
) -> Result<IdentityV1, OpenError> {
    if record.cluster != cluster {
        return Err(OpenError::OtherCluster {
            path: path.to_path_buf(),
            expected: cluster.to_owned(),
            found: record.cluster,
        });
    }
    if record.node != node {
        return Err(OpenError::OtherNode {
            path: path.to_path_buf(),
            expected: node,
            found: record.node,
        });
    }
    let Some(boots) = record.boots.checked_add(1) else {
        return Err(OpenError::corrupt(&path.join(IDENTITY), "the start counter overflowed"));
    };
    record.boots = boots;
    Ok(record)
}

fn first_incarnation(path: &Path, cluster: &str, node: u64) -> Result<IdentityV1, OpenError> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random)
        .map_err(|error| OpenError::io("draw random bytes for", path)(io::Error::other(error)))?;
    let text = format!("{VERSION_PREFIX}{FORMAT}\n");
    files::replace(path, VERSION, text.as_bytes())
        .map_err(OpenError::io("write", &path.join(VERSION)))?;
    let record = IdentityV1 {
        cluster: cluster.to_owned(),
        node,
        dir_id: u64::from_le_bytes(random),
        boots: 1,
        log_made: false,
    };
    write_record(path, &record)?;
    Ok(record)
}

fn write_record(path: &Path, record: &IdentityV1) -> Result<(), OpenError> {
    codec::encode(Kind::Identity, IDENTITY_VERSION, record)
        .map_err(io::Error::other)
        .and_then(|bytes| files::replace(path, IDENTITY, &bytes))
        .map_err(OpenError::io("write", &path.join(IDENTITY)))
}
