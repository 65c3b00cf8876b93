//! Why a call failed, as cases that a program can distinguish.
//!
//! Answers for: the distinction between "a node rejected the call", "no node could be reached" and
//! "the answer does not follow this contract". Must never contain a token.

use std::error::Error as _;
use std::fmt::Write as _;

use fluxgate_api::ErrorCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node answered and rejected the call.
    #[error("{message} ({code}, status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code of the contract.
        code: ErrorCode,
        /// The node's explanation.
        message: String,
    },
    /// No node could be connected to.
    #[error("no node could be reached ({tries} attempts): {urls}: {cause}")]
    Unreachable {
        /// The URLs of all nodes.
        urls: String,
        /// Number of attempts.
        tries: u32,
        /// The error of the last attempt.
        cause: String,
    },
    /// A node was reached, but its answer did not arrive.
    #[error("{url} was reached but did not answer {call}: {cause}{}", outcome(*.look))]
    NoAnswer {
        /// The node's URL.
        url: String,
        /// Method and path.
        call: String,
        /// The error instead of an answer.
        cause: String,
        /// If the call may have changed something nevertheless: the command that shows it.
        look: Option<&'static str>,
    },
    /// The first attempt succeeded and its answer was lost; the repeat was rejected as already
    /// done. The secret of that answer, which is shown only once, is lost.
    #[error("done, but the answer that showed the key was lost: {message}")]
    AnswerLost {
        /// The node's message, which names the key.
        message: String,
    },
    /// An answer that does not follow this contract: another program listens there.
    #[error("unexpected answer{}: {detail}", at_status(*.status))]
    Unexpected {
        /// The HTTP status, if there was one.
        status: Option<u16>,
        /// What is wrong with the answer.
        detail: String,
    },
    /// An invalid URL.
    #[error("`{url}` is not a URL to call: {reason}")]
    BadUrl {
        /// The URL.
        url: String,
        /// Why it is invalid.
        reason: String,
    },
    /// A token or key that cannot be sent in a header.
    #[error("a token or key must be visible ASCII characters without spaces")]
    BadToken,
    /// The CA file is not a PEM certificate.
    #[error("a CA's certificates must be PEM")]
    BadCa,
    /// The certificate or its private key is not PEM.
    #[error("a certificate and its private key must be PEM")]
    BadIdentity,
    /// No URL was given.
    #[error("no URL given")]
    NoUrl,
}

fn outcome(look: Option<&str>) -> String {
    look.map_or_else(String::new, |look| {
        format!("; the change may have been made, or may still be made: check with `{look}`")
    })
}

fn at_status(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (status {status})"))
}

impl Error {
    pub(crate) fn unexpected(status: Option<u16>, detail: impl Into<String>) -> Self {
        Self::Unexpected { status, detail: detail.into() }
    }

    /// The error code of a node that rejected the call.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// Whether no node could be asked, or none could serve the call.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::Refused { code, .. } => code.retryable(),
            Self::AnswerLost { .. }
            | Self::Unexpected { .. }
            | Self::BadUrl { .. }
            | Self::BadToken
            | Self::BadCa
            | Self::BadIdentity
            | Self::NoUrl => false,
        }
    }
}

/// An error of the HTTP library with its causes, on one line and without the URL, which the caller
/// knows.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{inner}");
        cause = inner.source();
    }
    if error.is_timeout() {
        text = "no answer in time".to_owned();
    }
    if text.is_empty() {
        text = error.to_string();
    }
    text
}
