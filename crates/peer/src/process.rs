//! The process that a task belongs to.
//!
//! In production that is the system's process, and everything here is as thin as its name. With the
//! feature `sim` many nodes live in one program on virtual time, and each task carries the node's
//! process with it: its clocks, its randomness, and whether it runs, is paused or is dead. A task
//! that is spawned belongs to the process of the one that spawned it, so every spawn of a node goes
//! through [`bind`].

#[cfg(feature = "sim")]
mod simulated;

use std::io;

#[cfg(feature = "sim")]
pub use simulated::{Bound, Clocks, Process, current};

/// A task of the process that this one belongs to.
#[cfg(not(feature = "sim"))]
pub fn bind<F: Future>(task: F) -> F {
    task
}

/// A task of the process that this one belongs to.
#[cfg(feature = "sim")]
pub fn bind<F: Future>(task: F) -> Bound<F> {
    Bound::new(current(), task)
}

/// Does what may block: in a thread of its own, or, where time is simulated, here and now.
///
/// # Errors
/// When the work panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    #[cfg(feature = "sim")]
    if current().is_some() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The same for work on files: where time is simulated it takes as long as the machine's disk does.
///
/// # Errors
/// When the work panicked.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    #[cfg(feature = "sim")]
    if let Some(process) = current() {
        tokio::time::sleep(process.files_take()).await;
    }
    blocking(work).await
}
