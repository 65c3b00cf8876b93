//! Errors at open and while running, as facts for the operator.
//!
//! Every message is one line in lower case, names the path and the cause, and says what to do where
//! the operator has to act. Nothing here decides what happens next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a data directory, or something in it, could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error("data directory {path} is in use by another process", path = .path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "data directory {path} belongs to cluster `{found}`, not `{expected}`; nothing was changed",
        path = .path.display()
    )]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// The configured cluster.
        expected: String,
        /// The cluster that made the directory.
        found: String,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {path} belongs to node {found}, not node {expected}; nothing was changed",
        path = .path.display()
    )]
    OtherNode {
        /// The data directory.
        path: PathBuf,
        /// The configured node.
        expected: u64,
        /// The node that made the directory.
        found: u64,
    },
    /// The directory was written by a newer release.
    #[error(
        "data directory {path} has format {found}, this build reads up to {newest}; nothing was changed: start the newer release",
        path = .path.display()
    )]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// The format of the directory.
        found: u64,
        /// The newest format that this build reads.
        newest: u64,
    },
    /// A file on disk does not have the content that was written.
    #[error(
        "{path} is damaged: {what}; nothing was changed: remove this node from the cluster, then add it with a new id and an empty directory",
        path = .path.display()
    )]
    Corrupt {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The checkpoint of cluster time does not have the content that was written.
    #[error(
        "{path} is damaged: {what}; nothing was changed: remove that file, and the node assumes that cluster time has reached this machine's clock",
        path = .path.display()
    )]
    CorruptClock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The build lacks the override that makes sled's flush durable.
    #[error(
        "this binary was linked without the durable override of sync_file_range; it would lose acknowledged data in a power cut and will not start"
    )]
    BarrierNotLinked,
    /// The operating system returned an error.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// The attempted action, for the message.
        action: &'static str,
        /// The file or directory it was attempted on.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), what: what.into() }
    }

    /// The same error with another path: what was found on a copy is true of the original.
    pub(crate) fn about(mut self, of: &Path) -> Self {
        match &mut self {
            Self::InUse { path }
            | Self::OtherCluster { path, .. }
            | Self::OtherNode { path, .. }
            | Self::Newer { path, .. }
            | Self::Corrupt { path, .. }
            | Self::CorruptClock { path, .. }
            | Self::Io { path, .. } => *path = of.to_path_buf(),
            Self::BarrierNotLinked => {}
        }
        self
    }

    /// Whether the disk was full: once there is space, another start works.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_no_room(source))
    }

    /// For `map_err`: names the action and its path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Why an operation on an open log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A write or sync failed once; the log accepts nothing more until it is reopened.
    #[error("log is stopped after a failed write: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The log was closed.
    #[error("log is closed")]
    Closed,
    /// The entries do not continue the log, and were not written.
    #[error("entry {found} does not continue the log, which expects entry {expected}")]
    Gap {
        /// The index that would continue the log.
        expected: u64,
        /// The index of the entry that was passed.
        found: u64,
    },
    /// A value exceeds its size limit, and was not written.
    #[error("{what} of {bytes} bytes, at most {bytes_max} are stored")]
    TooLarge {
        /// Which value: an entry or the vote.
        what: &'static str,
        /// Its size, bytes.
        bytes: usize,
        /// The largest size that is stored, bytes.
        bytes_max: usize,
    },
    /// The bytes that were read are not those that were written.
    #[error("log is damaged: {what}")]
    Corrupt {
        /// Which entry or marker, and how it differs.
        what: String,
    },
    /// The system could not read from the disk.
    #[error("cannot read the log: {cause}")]
    Read {
        /// The system's error.
        cause: String,
    },
}

/// Whether the disk or this user's quota is full.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
