//! Typed calls of the gateway listener.
//!
//! Answers for: a denial is a verdict and not an error, and nothing is counted twice: a validate
//! whose answer was lost is not repeated.

use fluxgate_api::ErrorBody;
use fluxgate_api::cluster::Health;
use fluxgate_api::paths::{self, header};
use fluxgate_api::validate::{BatchAnswer, BatchRequest, ValidateAnswer, ValidateRequest};
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::transport::{Answer, Call, Present, Repeat};
use crate::{Client, Error, Token};

/// Whether the request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and its cost is spent.
    Admitted(ValidateAnswer),
    /// It may not: 401, 403 or 429.
    Denied(ErrorBody),
}

/// The window of the deciding limit, as the headers state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Tokens per window.
    pub limit: u64,
    /// Tokens left in the window.
    pub remaining: u64,
    /// When the window ends, Unix seconds.
    pub reset: u64,
}

/// A verdict with the content of its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictReport {
    /// The HTTP status.
    pub status: u16,
    /// The decision, with the body of the answer.
    pub verdict: Verdict,
    /// The window, if the headers describe one.
    pub window: Option<Window>,
    /// Seconds to wait, on a 429.
    pub retry_after_s: Option<u64>,
}

impl Client {
    /// Requests a verdict on a key. The client's own token, if any, is sent as the gateway's token.
    ///
    /// # Errors
    /// When no node gives a verdict. A denial is a verdict, not an error.
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
            Some(body) if body.error.is_denial() => Ok(report(&answer, Verdict::Denied(body))),
            Some(_) | None => Err(answer.refused()),
        }
    }

    /// Requests many verdicts.
    ///
    /// # Errors
    /// When no node gives the verdicts.
    pub async fn validate_batch(&self, requests: &BatchRequest) -> Result<BatchAnswer, Error> {
        let mut call =
            Call::new(Method::POST, paths::VALIDATE_BATCH, Repeat::IfNotDone).json(requests)?;
        call.present = Present::Nothing;
        self.ask(&self.as_gateway(call)).await
    }

    /// Checks whether the node would answer validate requests. Every listener serves this.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason when the node is not ready.
    pub async fn ready(&self) -> Result<Health, Error> {
        self.ask(&Call::get(paths::READYZ)).await
    }

    /// Sends the client's own token as the gateway's token.
    fn as_gateway(&self, call: Call) -> Call {
        match &self.token {
            Some(token) => call.header(header::X_GATEWAY_TOKEN, token.expose()),
            None => call,
        }
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
