//! Makes sled's flush reach the disk. Contains the only `unsafe` item of the project.
//!
//! sled 0.34.7 ends each flush with `sync_file_range`, which writes neither the drive's cache nor
//! the file's metadata: acknowledged data is lost in a power cut, and sled's own reuse of file
//! segments then damages older data too. A symbol defined in the executable takes precedence over
//! libc's, so this file defines that symbol as `fdatasync`. Assumes that nothing else in the
//! process needs a real range sync. [`probe`] checks at start that the linker used this definition.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicBool = AtomicBool::new(false);

/// Called by sled on Linux to make a written buffer "stable"; makes it durable.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "replaces libc's symbol by name; same signature, and fdatasync takes any descriptor"
)]
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(
    descriptor: libc::c_int,
    _offset: libc::off64_t,
    _bytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a plain system call without pointers; a bad descriptor yields EBADF.
    let result = unsafe { libc::fdatasync(descriptor) };
    if result != 0 {
        FAILED.store(true, Ordering::SeqCst);
    }
    result
}

/// Number of calls by sled to the override.
#[must_use]
pub fn calls() -> u64 {
    // Naming the symbol keeps the linker from dropping it.
    #[cfg(target_os = "linux")]
    std::hint::black_box(sync_file_range as *const ());
    CALLS.load(Ordering::SeqCst)
}

/// Whether a sync through the override ever failed in this process. sled only logs a failure in its
/// background thread, so every barrier checks here too.
#[must_use]
pub fn failed() -> bool {
    FAILED.load(Ordering::SeqCst)
}

/// Runs `flush_fresh_value`, which must write a new value and flush it. Returns whether sled's flush
/// called the `sync_file_range` of this module. Only on Linux does sled use that function; elsewhere it
/// syncs in full, and the result is true.
///
/// # Errors
/// The error of the closure.
pub fn probe<E>(flush_fresh_value: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
    let before = calls();
    flush_fresh_value()?;
    Ok(!cfg!(target_os = "linux") || calls() > before)
}
