//! `fluxgate completions`: prints the completion script of a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fluxgate completions bash > ~/.local/share/bash-completion/completions/fluxgate"
)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the completion script.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fluxgate", &mut script);
    output::data(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
