//! The `fluxgate` binary: parses the command line, runs one command, and exits with its code.
//!
//! Answers for: nothing else. The commands are in `commands/`, their exit codes in `exit`, and all
//! output to standard output and standard error goes through `output`.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 rejected
//! or failed, 2 wrong usage, 3 cluster not reachable, 4 a node whose consensus stopped or whose
//! disk is full.

mod backup;
mod bulk;
mod cli;
mod commands;
mod connect;
mod exit;
mod history;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::Exit::of_parsing(&error).into(),
    };
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => exit::Exit::of_error(&error).into(),
    }
}
