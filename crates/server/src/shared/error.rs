//! Why an admin operation was rejected, independent of how the rejection is rendered.
//!
//! Answers for: the same refusal for the JSON interface, which sends it as it is, and for the
//! console, which shows it to a person. Must never carry more than strangers may read.

use axum::body::Body;
use axum::response::Response;
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_node::state::NodeState;

use crate::gateway::validate::Answer;
use crate::shared::respond;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// By a code and its message.
    Said(ErrorBody),
    /// By a verdict on the credential, which has headers of its own.
    Verdict(Box<Answer>),
}

impl ApiError {
    /// A refusal by code and message.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Said(ErrorBody::new(code, message))
    }

    /// What a person is told.
    pub(crate) fn body(&self) -> ErrorBody {
        match self {
            Self::Said(body) => body.clone(),
            Self::Verdict(answer) => answer
                .error_body()
                .unwrap_or_else(|| ErrorBody::new(ErrorCode::Internal, "internal error")),
        }
    }

    /// The answer of the JSON interface.
    pub(crate) fn into_response(self, state: &NodeState) -> Response<Body> {
        match self {
            Self::Said(body) => respond::error(&body),
            Self::Verdict(answer) => answer.into_response(state),
        }
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self::Said(body)
    }
}

impl From<Answer> for ApiError {
    fn from(answer: Answer) -> Self {
        Self::Verdict(Box::new(answer))
    }
}
