//! Reads and writes the starts that a data directory remembers.

use fluxgate_engine::join::MadeStarts;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_store::starts::{Start, Starts};
use fluxgate_store::{DataDir, OpenError};
use fluxgate_types::BootId;

/// The starts that the directory remembers.
///
/// # Errors
/// When the file is damaged or cannot be read.
pub(crate) fn read(data: &DataDir) -> Result<MadeStarts, OpenError> {
    let start = |(boot, nonce): Start| StartId { boot: BootId(boot), nonce };
    let Starts { confirmed, asked } = data.starts()?;
    Ok(MadeStarts {
        confirmed: confirmed.map(start),
        asked: asked.into_iter().map(start).collect(),
    })
}

/// Writes them. Durable when this returns.
///
/// # Errors
/// The system's error.
pub(crate) fn write(data: &DataDir, starts: &MadeStarts) -> std::io::Result<()> {
    let start = |start: &StartId| (start.boot.0, start.nonce);
    data.write_starts(&Starts {
        confirmed: starts.confirmed.as_ref().map(start),
        asked: starts.asked.iter().map(start).collect(),
    })
}
