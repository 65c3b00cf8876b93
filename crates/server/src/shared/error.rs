//! Why an operation was rejected, independent of how the rejection is rendered.
//!
//! Answers for: the same error for the JSON interface, which sends it as it is, and for the console,
//! which shows it to a person. Must never contain more than strangers may read.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use fluxgate_api::error::{ErrorBody, ErrorCode};

use crate::gateway::validate::Answer;
use crate::shared::respond;

/// A rejection.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// A code and its message.
    Error(ErrorBody),
    /// A denial of the presented credential, which has headers of its own.
    Denied(Box<Answer>),
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(ErrorBody::new(code, message))
    }

    /// The code and the message.
    pub(crate) fn body(&self) -> ErrorBody {
        match self {
            Self::Error(body) => body.clone(),
            Self::Denied(answer) => answer
                .error_body()
                .unwrap_or_else(|| ErrorBody::new(ErrorCode::Internal, "internal error")),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Error(body) => respond::error(&body),
            Self::Denied(answer) => answer.into_reply(HeaderMap::new()).map(Body::from),
        }
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self::Error(body)
    }
}

impl From<Answer> for ApiError {
    fn from(answer: Answer) -> Self {
        Self::Denied(Box::new(answer))
    }
}
