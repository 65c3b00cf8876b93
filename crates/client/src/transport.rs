//! One call: which node is asked, for how long, and whether it is asked again.
//!
//! Answers for: a call that is not safe to repeat is sent again only if it was certainly not
//! executed: the connection was never made, or the node said so. After each round over all nodes
//! the pause doubles, from `PAUSE_MIN` to `PAUSE_MAX`, until the deadline.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxgate_api::error::NEEDS_CERTIFICATE;
use fluxgate_api::{ErrorBody, ErrorCode, bulk};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::{Error, chain};
use crate::{Client, Token};

/// The first pause between rounds.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between rounds.
const PAUSE_MAX: Duration = Duration::from_millis(800);
/// Rounds without a single connection after which the cluster counts as down. During an election
/// nodes reject calls, but do not close their ports.
const ROUNDS_UNCONNECTED_MAX: u32 = 5;
/// Largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// When a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Always: it changes nothing, or doing it twice has the same effect as once.
    Harmless,
    /// Only if it was certainly not executed.
    IfNotDone,
}

/// The credential in `Authorization`.
#[derive(Clone, Debug)]
pub(crate) enum Present {
    /// The client's own token, if it has one.
    Own,
    /// A key to be validated.
    Key(Token),
    Nothing,
}

/// A call, ready to be sent to any node.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) media_type: &'static str,
    pub(crate) present: Present,
    pub(crate) repeat: Repeat,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>, repeat: Repeat) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            media_type: "application/json",
            present: Present::Own,
            repeat,
        }
    }

    /// A change that applies only at this revision, if one is given.
    pub(crate) fn guarded(method: Method, path: impl Into<String>, revision: Option<u64>) -> Self {
        // A repeat of a guarded change that was already done would get 412, as if another caller
        // had made a change first.
        let repeat = if revision.is_some() { Repeat::IfNotDone } else { Repeat::Harmless };
        Self::new(method, path, repeat).if_revision(revision)
    }

    pub(crate) fn if_revision(self, revision: Option<u64>) -> Self {
        match revision {
            Some(revision) => self.header("if-match", format!("\"{revision}\"")),
            None => self,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Repeat::Harmless)
    }

    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::unexpected(None, format!("cannot write JSON: {error}")))?;
        self.body = Some(body);
        Ok(self)
    }

    pub(crate) fn lines(mut self, lines: Vec<u8>) -> Self {
        self.body = Some(lines);
        self.media_type = bulk::MEDIA_TYPE;
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whether another node may answer differently although this one rejected the call.
    fn may_ask_another(&self, answer: &Answer) -> bool {
        let own = matches!(self.present, Present::Own);
        let foreign = self.repeat == Repeat::Harmless && answer.error_body().is_none();
        !answer.is_success() && ((own && answer.status == 401) || foreign)
    }

    /// The command that shows whether this call was executed, if it changes anything.
    fn look(&self) -> Option<&'static str> {
        if self.method == Method::GET {
            return None;
        }
        let below = |path: &str| self.path.strip_prefix(path).is_some_and(|rest| !rest.is_empty());
        if below("/v1/keys/key_") {
            Some("fluxgate keys show ID")
        } else if self.path.starts_with("/v1/keys") {
            Some("fluxgate keys list")
        } else if self.path.starts_with("/v1/cluster") {
            Some("fluxgate cluster status")
        } else {
            None
        }
    }
}

/// The complete answer of a node.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether an earlier attempt of this call may have been executed.
    pub(crate) after_unknown: bool,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let shown = excerpt(&self.body);
            Error::unexpected(Some(self.status), format!("{error} in `{shown}`"))
        })
    }

    /// The body of a failure, if it follows the contract.
    pub(crate) fn error_body(&self) -> Option<ErrorBody> {
        serde_json::from_slice(&self.body).ok()
    }

    /// This failure as an error.
    pub(crate) fn refused(&self) -> Error {
        match self.error_body() {
            Some(body) if body.error == ErrorCode::AlreadyDone && self.after_unknown => {
                Error::AnswerLost { message: body.message.into_owned() }
            }
            Some(body) => Error::Refused {
                status: self.status,
                code: body.error,
                message: body.message.into_owned(),
            },
            None => Error::unexpected(Some(self.status), format!("`{}`", excerpt(&self.body))),
        }
    }

    fn is_retryable(&self) -> bool {
        // Every node would answer a caller without a certificate like this.
        let can_change = |body: &ErrorBody| body.message != NEEDS_CERTIFICATE;
        let body = self.error_body().filter(can_change);
        !self.is_success() && body.is_some_and(|body| body.error.retryable())
    }
}

/// The start of a body, on one line, for a message.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(120).collect()
}

/// What rustls reports when the other side ends the connection with an alert.
const TLS_ALERT: &str = "received fatal alert";

/// Why an attempt got no answer.
#[derive(Debug)]
struct Failure {
    cause: String,
    /// Whether the node certainly did not receive the call.
    unconnected: bool,
    /// Whether the node rejected this client's TLS; it would do so again.
    rejected_by_tls: bool,
}

impl Client {
    /// Sends a call until a node answers; returns an answer once no other node could give a better
    /// one.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let until = Instant::now() + self.options.deadline;
        let count = self.urls.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let (mut tries, mut rounds, mut pause) = (0u32, 0u32, PAUSE_MIN);
        let (mut after_unknown, mut all_unconnected) = (false, true);
        let mut silent = None;
        loop {
            let mut last = None;
            let mut can_change = false;
            for step in 0..count {
                let at = (first + step) % count;
                tries += 1;
                match self.attempt(at, call, until).await {
                    // While the operator token is being replaced one node may know it and another
                    // not yet; and the program that listens there may not be a node. Nothing was
                    // executed.
                    Ok(answer)
                        if step + 1 < count
                            && self.options.retry
                            && call.may_ask_another(&answer) =>
                    {
                        all_unconnected = false;
                        if !matches!(last, Some(Ok(_))) {
                            last = Some(Ok(answer));
                        }
                    }
                    Ok(mut answer) => {
                        answer.after_unknown = after_unknown;
                        if !answer.is_retryable() || !self.options.retry {
                            self.preferred.store(at, Ordering::Relaxed);
                            return Ok(answer);
                        }
                        all_unconnected = false;
                        can_change = true;
                        last = Some(Ok(answer));
                    }
                    Err(failure) => {
                        can_change |= !failure.rejected_by_tls;
                        after_unknown |= !failure.unconnected;
                        all_unconnected &= failure.unconnected;
                        let harmless = failure.unconnected || call.repeat == Repeat::Harmless;
                        let again = self.options.retry && harmless;
                        if !failure.unconnected {
                            silent = Some((at, failure.cause.clone()));
                        }
                        let error = match &silent {
                            Some((at, cause)) => self.no_answer(*at, call, cause.clone()),
                            None => self.unreachable(tries, failure.cause),
                        };
                        if !again {
                            return Err(error);
                        }
                        // The answer of one node says more than the silence of another.
                        if !matches!(last, Some(Ok(_))) {
                            last = Some(Err(error));
                        }
                    }
                }
                if Instant::now() >= until {
                    break;
                }
            }
            rounds += 1;
            let is_final = matches!(&last, Some(Ok(answer)) if !answer.is_retryable());
            let gone = all_unconnected && rounds >= ROUNDS_UNCONNECTED_MAX;
            if is_final || gone || !can_change || Instant::now() + pause >= until {
                return last
                    .unwrap_or_else(|| Err(self.unreachable(tries, "no attempt was made".into())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a call and parses the answer of a success.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let answer = self.send(call).await?;
        if answer.is_success() { answer.read() } else { Err(answer.refused()) }
    }

    async fn attempt(&self, at: usize, call: &Call, until: Instant) -> Result<Answer, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        // Half of the time suffices if another node can be asked for the same.
        let elsewhere = self.urls.len() > 1 && call.repeat == Repeat::Harmless;
        let patience = self.options.attempt_timeout / if elsewhere { 2 } else { 1 };
        let timeout = patience.min(left);
        let failure = |error: reqwest::Error| {
            let cause = chain(&error);
            let rejected_by_tls = cause.contains(TLS_ALERT);
            let hint = if rejected_by_tls {
                ": is this client's certificate of the right CA?"
            } else {
                ""
            };
            let unconnected = error.is_connect() || error.is_builder();
            Failure { unconnected, rejected_by_tls, cause: format!("{cause}{hint}") }
        };
        let request = self.request(at, call).timeout(timeout);
        let mut response = request.send().await.map_err(failure)?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure {
                    cause: "the answer is too large".to_owned(),
                    unconnected: false,
                    rejected_by_tls: false,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body, after_unknown: false })
    }

    /// Sends a call once; the caller reads the answer chunk by chunk.
    pub(crate) async fn open(&self, at: usize, call: &Call) -> Result<reqwest::Response, Error> {
        let failed = |error: reqwest::Error| {
            if error.is_connect() {
                self.unreachable(1, chain(&error))
            } else {
                self.no_answer(at, call, chain(&error))
            }
        };
        // No time limit for the whole answer: its length is that of the key table.
        let sent = self.request(at, call).send();
        let late = |_| self.no_answer(at, call, "no answer in time".to_owned());
        let answered = tokio::time::timeout(self.options.attempt_timeout, sent).await;
        answered.map_err(late)?.map_err(failed)
    }

    /// Converts an unsuccessful answer into an error.
    pub(crate) async fn refusal(&self, response: reqwest::Response) -> Error {
        let status = response.status().as_u16();
        let body = response.bytes().await.map(|body| body.to_vec()).unwrap_or_default();
        Answer { status, headers: HeaderMap::new(), body, after_unknown: false }.refused()
    }

    fn request(&self, at: usize, call: &Call) -> reqwest::RequestBuilder {
        let mut url = format!("{}{}", self.urls[at], call.path);
        if !call.query.is_empty()
            && let Ok(parsed) = reqwest::Url::parse_with_params(&url, &call.query)
        {
            url = parsed.into();
        }
        let mut request = self.http.request(call.method.clone(), url);
        let token = match &call.present {
            Present::Own => self.token.as_ref(),
            Present::Key(key) => Some(key),
            Present::Nothing => None,
        };
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, call.media_type).body(body.clone());
        }
        request
    }

    fn unreachable(&self, tries: u32, cause: String) -> Error {
        Error::Unreachable { urls: self.urls.join(", "), tries, cause }
    }

    fn no_answer(&self, at: usize, call: &Call, cause: String) -> Error {
        let asked = format!("{} {}", call.method, call.path);
        Error::NoAnswer { url: self.urls[at].clone(), call: asked, cause, look: call.look() }
    }
}
