//! Sends requests as a gateway and an administrator do, and returns the whole answer.
//!
//! Must never send a request twice. A request that could not be sent is distinct from a lost
//! answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::arena::address;

/// Idle connections to one listener.
const IDLE_MAX: usize = 64;
/// How long an unused connection is kept. Shorter than the calm phase after a fault: a process that
/// died behind a pulled plug could not close its connections, and none of them may be used in that
/// phase.
const IDLE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nothing was sent.
    Connect,
    /// The node may have carried out the request.
    Lost,
    /// The same, and no answer came in time.
    Timeout,
}

impl NoAnswer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Caller(Client<HttpConnector, Full<Bytes>>);

#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) node: u64,
    pub(crate) port: u16,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) bearer: &'a str,
    pub(crate) body: Option<String>,
    pub(crate) within: Duration,
}

impl Caller {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIME)
            .pool_timer(TokioTimer::new())
            .retry_canceled_requests(false)
            .build(connector);
        Self(client)
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer, NoAnswer> {
        let uri = format!("http://{}:{}{}", address(call.node), call.port, call.path);
        let request = Request::builder()
            .method(call.method)
            .uri(uri)
            .header("authorization", format!("Bearer {}", call.bearer));
        let request = match call.body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body))),
            None => request.body(Full::new(Bytes::new())),
        };
        let Ok(request) = request else { return Err(NoAnswer::Connect) };
        let whole = async {
            let response = self.0.request(request).await.map_err(|error| {
                if error.is_connect() { NoAnswer::Connect } else { NoAnswer::Lost }
            })?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| NoAnswer::Lost)?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(call.within, whole).await.unwrap_or(Err(NoAnswer::Timeout))
    }
}

impl Answer {
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}
