//! The process that a task belongs to.
//!
//! In production that is the operating system's process, and these functions are thin wrappers.
//! With the feature `sim`, many nodes live in one program on virtual time, and each task carries
//! its node's process: its clocks, its randomness, and whether it runs, is paused or is dead. A
//! spawned task must belong to the process of the task that spawned it, so every spawn of a node
//! goes through [`bind`].

#[cfg(feature = "sim")]
mod simulated;

use std::io;

#[cfg(feature = "sim")]
pub use simulated::{Bound, Clocks, Process, current};

/// Binds a task to the current process.
#[cfg(not(feature = "sim"))]
pub fn bind<F: Future>(task: F) -> F {
    task
}

/// Binds a task to the current process.
#[cfg(feature = "sim")]
pub fn bind<F: Future>(task: F) -> Bound<F> {
    Bound::new(current(), task)
}

/// Runs work that may block: on a thread of its own, or inline in a simulation.
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

/// The same for work on files: in a simulation it takes as long as the machine's disk does.
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
