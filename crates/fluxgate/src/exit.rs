//! Exit codes: one closed enum, part of the interface.
//!
//! Answers for: the code of each outcome of a command, and that an error is printed once, to
//! standard error, with its causes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::output;

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// Rejected or failed.
    Failed,
    Usage,
    /// No node could be reached, or none could serve the call.
    Unreachable,
    /// Consensus stopped in a running node, or its disk is full: start it again.
    Restart,
}

impl Exit {
    /// The code of [`Exit::Restart`].
    pub(crate) const RESTART_CODE: u8 = 4;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Restart => Exit::RESTART_CODE,
        })
    }
}

/// Wrong usage that is only detected when a command runs, such as a missing token.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// An error and its causes on one line. A cause that the text already ends with is not repeated.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.ends_with(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

impl Exit {
    /// Prints the error of a command line, or the help that was requested.
    pub(crate) fn of_parsing(error: &clap::Error) -> Self {
        // A reader that closed the pipe has read what it needed.
        let _ = error.print();
        if error.use_stderr() { Self::Usage } else { Self::Done }
    }

    /// Prints why a command failed.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        let closed = |cause: &(dyn std::error::Error + 'static)| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(closed) {
            // `fluxgate keys list | head -1` is not a failure.
            return Self::Done;
        }
        output::notice(&format!("fluxgate: {}", in_one_line(error)));
        if error.downcast_ref::<Misuse>().is_some() {
            return Self::Usage;
        }
        match error.downcast_ref::<fluxgate_client::Error>() {
            Some(error) if error.is_unreachable() => Self::Unreachable,
            Some(fluxgate_client::Error::BadUrl { .. }) => Self::Usage,
            Some(_) | None => Self::Failed,
        }
    }
}
