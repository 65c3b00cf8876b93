//! `fluxgate openapi`: prints the OpenAPI document.

use crate::exit::Exit;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate openapi > openapi.json")]
pub(crate) struct Args {}

/// Prints the document, byte for byte as it is kept in git.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    output::data(&fluxgate_api::openapi::json())?;
    Ok(Exit::Done)
}
