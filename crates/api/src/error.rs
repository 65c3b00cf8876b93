//! How a call fails: one closed enum of codes, and one body for every failure.
//!
//! Answers for: the name, the HTTP status and the retryability of each code, and the exact messages
//! that are part of the contract. Must never contain anything meant for the log only: strangers
//! read the messages.

use std::borrow::Cow;
use std::fmt;

use fluxgate_types::Scope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a call was rejected. Closed: a new reason is a change of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No credential, or none that is accepted; the same answer for every cause.
    AuthenticationFailed,
    /// A valid credential whose scope is insufficient.
    InsufficientScope,
    /// The window's tokens are spent.
    RateLimitExceeded,
    /// The request cannot be understood; the message names the field.
    InvalidRequest,
    /// This node holds no lease. Nothing was counted.
    Unavailable,
    /// No such path or record.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The record's state does not permit the change.
    Conflict,
    /// The idempotency key was used before; the message names what it made.
    AlreadyDone,
    /// The idempotency key was used before, for a request with another content.
    IdempotencyKeyReused,
    /// A node of the cluster runs a version that does not know what was asked for.
    ClusterTooOld,
    /// `If-Match` names an older revision.
    PreconditionFailed,
    /// The body is too large.
    TooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// No leader is known. Nothing was written.
    NoLeader,
    /// The gateway's own token is missing or wrong.
    GatewayUnauthorized,
    /// The request did not finish in time. A write may or may not have happened.
    RequestTimeout,
    /// The request's headers are too large.
    HeadersTooLarge,
    /// An internal error. A write may or may not have happened.
    Internal,
}

impl ErrorCode {
    /// Every code, for tests and tables.
    pub const ALL: [Self; 19] = [
        Self::AuthenticationFailed,
        Self::InsufficientScope,
        Self::RateLimitExceeded,
        Self::InvalidRequest,
        Self::Unavailable,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::AlreadyDone,
        Self::IdempotencyKeyReused,
        Self::ClusterTooOld,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::NoLeader,
        Self::GatewayUnauthorized,
        Self::RequestTimeout,
        Self::HeadersTooLarge,
        Self::Internal,
    ];

    /// The code as it appears in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationFailed => "authentication_failed",
            Self::InsufficientScope => "insufficient_scope",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::InvalidRequest => "invalid_request",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::AlreadyDone => "already_done",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::ClusterTooOld => "cluster_too_old",
            Self::PreconditionFailed => "precondition_failed",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::NoLeader => "no_leader",
            Self::GatewayUnauthorized => "gateway_unauthorized",
            Self::RequestTimeout => "request_timeout",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of the code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::AuthenticationFailed | Self::GatewayUnauthorized => 401,
            Self::InsufficientScope => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict
            | Self::AlreadyDone
            | Self::IdempotencyKeyReused
            | Self::ClusterTooOld => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimitExceeded => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::Unavailable | Self::NoLeader => 503,
        }
    }

    /// Whether the same call may be repeated at once on another node: nothing was done, and the
    /// cause is the node, not the call. A code that leaves the outcome of a write unknown is
    /// therefore not retryable.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            Self::Unavailable | Self::NoLeader => true,
            Self::AuthenticationFailed
            | Self::InsufficientScope
            | Self::RateLimitExceeded
            | Self::InvalidRequest
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::AlreadyDone
            | Self::IdempotencyKeyReused
            | Self::ClusterTooOld
            | Self::PreconditionFailed
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::GatewayUnauthorized
            | Self::RequestTimeout
            | Self::HeadersTooLarge
            | Self::Internal => false,
        }
    }

    /// Whether it is a verdict on the key that was presented, and not a failure of the call or of the
    /// node.
    #[must_use]
    pub const fn is_denial(self) -> bool {
        match self {
            Self::AuthenticationFailed | Self::InsufficientScope | Self::RateLimitExceeded => true,
            Self::InvalidRequest
            | Self::Unavailable
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::AlreadyDone
            | Self::IdempotencyKeyReused
            | Self::ClusterTooOld
            | Self::PreconditionFailed
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::NoLeader
            | Self::GatewayUnauthorized
            | Self::RequestTimeout
            | Self::HeadersTooLarge
            | Self::Internal => false,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The message to a caller without a certificate on a listener that requires one. Every other node
/// would reject that caller as well.
pub const NEEDS_CERTIFICATE: &str = "this listener requires a client certificate";

/// The body of every failure: exactly these two fields, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"error": "authentication_failed", "message": "Invalid or missing API key"}))]
pub struct ErrorBody {
    /// The code, for programs.
    pub error: ErrorCode,
    /// The reason in words, for people.
    #[schema(value_type = String)]
    pub message: Cow<'static, str>,
}

/// Bytes that the buffer of a body begins with.
const BODY_BYTES: usize = 128;

impl ErrorBody {
    /// A failure with its own message.
    #[must_use]
    pub fn new(error: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { error, message: message.into() }
    }

    /// The 401 for every credential that is not accepted, the same for every cause.
    #[must_use]
    pub fn authentication_failed() -> Self {
        Self::new(ErrorCode::AuthenticationFailed, "Invalid or missing API key")
    }

    /// The 403 of a valid key whose scope does not include `required`.
    #[must_use]
    pub fn insufficient_scope(required: Scope) -> Self {
        Self::new(
            ErrorCode::InsufficientScope,
            match required {
                Scope::Read => "This endpoint requires 'read' scope",
                Scope::Write => "This endpoint requires 'write' scope",
                Scope::Admin => "This endpoint requires 'admin' scope",
            },
        )
    }

    /// The 429 of a spent window. Waits below one second are shown as 1, never 0.
    #[must_use]
    pub fn rate_limit_exceeded(retry_after_s: u64) -> Self {
        let retry_after_s = retry_after_s.max(1);
        Self::new(
            ErrorCode::RateLimitExceeded,
            // Made for most requests of a busy key: without the machinery of formats.
            ["Rate limit exceeded. Try again in ", &retry_after_s.to_string(), " seconds."]
                .concat(),
        )
    }

    /// The 401 for a gateway that did not present its token.
    #[must_use]
    pub fn gateway_unauthorized() -> Self {
        Self::new(ErrorCode::GatewayUnauthorized, "Invalid or missing gateway token")
    }

    /// The HTTP status of the failure.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.error.status()
    }

    /// The JSON of the body. Infallible: a code and a text always have a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = Vec::with_capacity(BODY_BYTES);
        self.write_json(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends the JSON to a buffer.
    pub fn write_json(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"{\"error\":\"");
        text.extend_from_slice(self.error.as_str().as_bytes());
        text.extend_from_slice(b"\",\"message\":");
        // A text is always JSON, and a vector takes every byte.
        serde_json::to_writer(&mut *text, &self.message).ok();
        text.push(b'}');
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(body: &ErrorBody) -> String {
        let text = serde_json::to_string(body).unwrap();
        assert_eq!(text, body.to_json());
        assert_eq!(serde_json::from_str::<ErrorBody>(&text).unwrap(), *body);
        text
    }

    #[test]
    fn the_three_documented_denials_are_byte_exact() {
        assert_eq!(
            bytes(&ErrorBody::authentication_failed()),
            r#"{"error":"authentication_failed","message":"Invalid or missing API key"}"#
        );
        assert_eq!(
            bytes(&ErrorBody::insufficient_scope(Scope::Write)),
            r#"{"error":"insufficient_scope","message":"This endpoint requires 'write' scope"}"#
        );
        assert_eq!(
            bytes(&ErrorBody::rate_limit_exceeded(45)),
            r#"{"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in 45 seconds."}"#
        );
    }

    #[test]
    fn the_wait_is_never_shown_as_zero() {
        let message = "Rate limit exceeded. Try again in 1 seconds.";
        assert_eq!(ErrorBody::rate_limit_exceeded(0).message, message);
        assert_eq!(ErrorBody::rate_limit_exceeded(1).message, message);
    }

    #[test]
    fn quotes_and_control_characters_in_a_message_are_escaped() {
        let body = ErrorBody::new(ErrorCode::InvalidRequest, "a \"b\"\n\u{1}ä\\");
        bytes(&body);
    }

    #[test]
    fn codes_round_trip_and_have_an_error_status() {
        for code in ErrorCode::ALL {
            let quoted = format!("\"{code}\"");
            assert_eq!(serde_json::to_string(&code).unwrap(), quoted);
            assert_eq!(serde_json::from_str::<ErrorCode>(&quoted).unwrap(), code);
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.retryable() || code.status() == 503, "{code}");
        }
    }

    #[test]
    fn the_list_of_codes_has_no_duplicates() {
        let names: std::collections::BTreeSet<_> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }
}
