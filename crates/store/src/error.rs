//! What can go wrong at open and while running, as facts for the operator.
//!
//! Every message is one line in lower case, names the path and the cause, and where the
//! operator has to act it says how. Nothing here decides what happens next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a data directory, or something in it, was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error("data directory {path} is in use by another process", path = .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "data directory {path} belongs to cluster `{found}`, not to `{expected}`; nothing was changed",
        path = .path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The configured cluster.
        expected: String,
        /// The cluster that made the directory.
        found: String,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {path} belongs to node {found}, not to node {expected}; nothing was changed",
        path = .path.display()
    )]
    OtherNode {
        /// The directory.
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
        /// The directory.
        path: PathBuf,
        /// The format of the directory.
        found: u64,
        /// The newest format that this build reads.
        newest: u64,
    },
    /// Something on disk is not what was written there.
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
    /// The note of cluster time is not what was written there.
    #[error(
        "{path} is damaged: {what}; nothing was changed: remove that file, and the node takes the clock of this machine for what time the cluster had reached",
        path = .path.display()
    )]
    CorruptClock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The build lacks the repair of sled's flush.
    #[error(
        "this binary was linked without the durable override of sync_file_range; it would lose acknowledged data in a power cut and will not start"
    )]
    BarrierNotLinked,
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), what: what.into() }
    }

    /// The same about another path: what was found on a copy is true of the original.
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

    /// Whether there was no room on the disk: with some, another start works.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::sled_backend::is_no_room(source))
    }

    /// For `map_err`: names what was tried and on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Why an operation on a running log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A write or sync failed once; the log takes nothing more until it is opened anew.
    #[error("log is stopped after a failed write: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The log was closed.
    #[error("log is closed")]
    Closed,
    /// The entries do not continue the log. They were not written.
    #[error("entry {found} does not continue the log, which wants entry {expected}")]
    Gap {
        /// The index that would continue the log.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// A value is larger than its place. It was not written.
    #[error("{what} of {bytes} bytes, at most {bytes_max} are stored")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The most that is stored.
        bytes_max: usize,
    },
    /// What was read is not what was written.
    #[error("log is damaged: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The system could not read.
    #[error("cannot read the log: {cause}")]
    Read {
        /// What the system said.
        cause: String,
    },
}
