//! The calls of the gateway listener, typed.
//!
//! Answers for: that a denial is a verdict and not an error, and that nothing is counted twice:
//! a validate whose answer was lost is not repeated.

use fluxgate_api::cluster::Health;
use fluxgate_api::paths::{self, header};
use fluxgate_api::validate::{BatchAnswer, BatchRequest, ValidateAnswer, ValidateRequest};
use fluxgate_api::{ErrorBody, ErrorCode};
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::transport::{Answer, Call, Present, Repeat};
use crate::{Client, Error, Token};

/// May the request pass?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and its cost is spent.
    Admitted(ValidateAnswer),
    /// It may not: 401, 403 or 429.
    Denied(ErrorBody),
}

/// The window of the limit that decided, as the headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Tokens in one window.
    pub limit: u64,
    /// Tokens left.
    pub remaining: u64,
    /// When it ends, Unix seconds.
    pub reset: u64,
}

/// A verdict with what its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictReport {
    /// The HTTP status.
    pub status: u16,
    /// The verdict.
    pub verdict: Verdict,
    /// The window, where the headers name one.
    pub window: Option<Window>,
    /// Seconds to wait, on a 429.
    pub retry_after_s: Option<u64>,
}

impl Client {
    /// Asks for a verdict on a key. The client's own token, if it has one, is the gateway's.
    ///
    /// # Errors
    /// When no node gives a verdict. A denial is a verdict.
    pub async fn validate(
        &self,
        key: &Token,
        request: &ValidateRequest,
    ) -> Result<VerdictReport, Error> {
        let mut call = Call::new(Method::POST, paths::VALIDATE, Repeat::IfNotDone).json(request)?;
        call.present = Present::Key(key.clone());
        let answer = self.send(&self.as_gateway(call)).await?;
        if answer.is_success() {
            let admitted = answer.read()?;
            return Ok(report(&answer, Verdict::Admitted(admitted)));
        }
        match answer.error_body() {
            Some(body) if is_denial(body.error) => Ok(report(&answer, Verdict::Denied(body))),
            Some(_) | None => Err(answer.refused()),
        }
    }

    /// Asks for many verdicts.
    ///
    /// # Errors
    /// When no node gives them.
    pub async fn validate_batch(&self, requests: &BatchRequest) -> Result<BatchAnswer, Error> {
        let mut call =
            Call::new(Method::POST, paths::VALIDATE_BATCH, Repeat::IfNotDone).json(requests)?;
        call.present = Present::Nothing;
        self.ask(&self.as_gateway(call)).await
    }

    /// Whether the node would answer validates. Served by every listener.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason when it would not.
    pub async fn ready(&self) -> Result<Health, Error> {
        self.ask(&Call::get(paths::READYZ)).await
    }

    /// Puts the client's own token where a gateway presents it.
    fn as_gateway(&self, call: Call) -> Call {
        match &self.token {
            Some(token) => call.header(header::X_GATEWAY_TOKEN, token.expose()),
            None => call,
        }
    }
}

/// Whether a failure says something about the key, and not about the call or the node.
fn is_denial(code: ErrorCode) -> bool {
    match code {
        ErrorCode::AuthenticationFailed
        | ErrorCode::InsufficientScope
        | ErrorCode::RateLimitExceeded => true,
        ErrorCode::InvalidRequest
        | ErrorCode::Unavailable
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::Conflict
        | ErrorCode::AlreadyDone
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::PreconditionFailed
        | ErrorCode::TooLarge
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::NoLeader
        | ErrorCode::GatewayUnauthorized
        | ErrorCode::RequestTimeout
        | ErrorCode::HeadersTooLarge
        | ErrorCode::Internal => false,
    }
}

fn report(answer: &Answer, verdict: Verdict) -> VerdictReport {
    let headers = &answer.headers;
    let window = || {
        Some(Window {
            limit: number(headers, header::X_RATELIMIT_LIMIT)?,
            remaining: number(headers, header::X_RATELIMIT_REMAINING)?,
            reset: number(headers, header::X_RATELIMIT_RESET)?,
        })
    };
    VerdictReport {
        status: answer.status,
        verdict,
        window: window(),
        retry_after_s: number(headers, "retry-after"),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
