//! Why a call failed, as facts that a program can tell apart.
//!
//! Answers for: the line between "a node said no", "no node could be asked" and "what came back
//! is not of this contract". Must never carry a token.

use std::error::Error as _;
use std::fmt::Write as _;

use fluxgate_api::ErrorCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node answered, and refused.
    #[error("{message} ({code}, status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of the contract.
        code: ErrorCode,
        /// What the node says.
        message: String,
    },
    /// No node could be asked: none was connected to.
    #[error("no node could be reached ({tries} attempts): {urls}: {cause}")]
    Unreachable {
        /// The URLs that were tried.
        urls: String,
        /// How often.
        tries: u32,
        /// What the last try met with.
        cause: String,
    },
    /// A node was asked, and its answer did not come.
    #[error("{url} was reached and gave no answer to {call}: {cause}{}", outcome(*.look))]
    NoAnswer {
        /// The node's URL.
        url: String,
        /// Method and path.
        call: String,
        /// What came instead.
        cause: String,
        /// Where the call may have changed something all the same: how to find out.
        look: Option<&'static str>,
    },
    /// The first try was done and its answer lost; the second was told so. Whatever the answer
    /// showed only once is gone.
    #[error("done, but the answer that showed the key was lost: {message}")]
    AnswerLost {
        /// What the node says: which key it was.
        message: String,
    },
    /// An answer that is not of this contract: something else listens there.
    #[error("unexpected answer{}: {detail}", at_status(*.status))]
    Unexpected {
        /// The HTTP status, if there was one.
        status: Option<u16>,
        /// What is wrong with it.
        detail: String,
    },
    /// A URL that cannot be called.
    #[error("`{url}` is not a URL to call: {reason}")]
    BadUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A token or key that no header can carry.
    #[error("a token or key must be visible ASCII characters without spaces")]
    BadToken,
    /// What should be a CA's certificates is none.
    #[error("a CA's certificates must be PEM")]
    BadCa,
    /// What should be a certificate and its key is none.
    #[error("a certificate and its private key must be PEM")]
    BadIdentity,
    /// No URL was given.
    #[error("no URL given")]
    NoUrl,
}

fn outcome(look: Option<&str>) -> String {
    look.map_or_else(String::new, |look| {
        format!("; it may have been done, or be done yet: `{look}` tells")
    })
}

fn at_status(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (status {status})"))
}

impl Error {
    pub(crate) fn unexpected(status: Option<u16>, detail: impl Into<String>) -> Self {
        Self::Unexpected { status, detail: detail.into() }
    }

    /// What a node that refused says it is.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// Whether the cluster could not be asked at all, or had nobody to serve the call.
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

/// An error of the HTTP library with its causes, on one line and without the URL, which the
/// caller knows.
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
