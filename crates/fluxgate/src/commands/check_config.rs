//! `fluxgate check-config`: prints all errors of a configuration at once.

use std::path::PathBuf;

use super::serve::{configuration, misuse};
use crate::exit::Exit;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the effective configuration with its secrets masked, or every error in it.\n\n\
        Example:\n  fluxgate check-config --config /etc/fluxgate/node1.toml"
)]
pub(crate) struct Args {
    /// Configuration file of the node, TOML; the environment (FLUXGATE__NODE__ID=1) overrides it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Prints the errors, or the effective configuration.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = configuration(&args.config).map_err(|problems| misuse(&args.config, &problems))?;
    output::data(&config.masked())?;
    Ok(Exit::Done)
}
