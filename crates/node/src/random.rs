//! Random bytes: the only file of the node that draws randomness.

/// Fills `bytes` with random bytes of the operating system, or of the simulated process in a
/// simulation.
///
/// # Errors
/// When the operating system provides none.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(feature = "sim")]
    if let Some(process) = fluxgate_peer::process::current() {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&process.random().to_le_bytes()[..chunk.len()]);
        }
        return Ok(());
    }
    getrandom::fill(bytes)
}
