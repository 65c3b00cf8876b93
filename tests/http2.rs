//! HTTP/2 with prior knowledge on the gateway listener: the same answers as over HTTP/1.1.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Request};

/// A connection over which requests go at the same time.
struct Http2 {
    to: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Http2 {
    async fn open(to: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { to, sender }
    }

    async fn call(&self, request: &Request) -> Answer {
        let request = request.to_http(self.to).map(|body| Full::new(Bytes::from(body)));
        let response = self.sender.clone().send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: headers.collect(), body }
    }
}

/// What of an answer must be the same over both protocols: HTTP/2 needs no framing in headers.
fn comparable(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let framing = ["date", "content-length", "transfer-encoding", "connection"];
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !framing.contains(&name.as_str()));
    (answer.status, headers, answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_same_as_over_http1() {
    let cluster = Cluster::start(1);
    let to = cluster.node(1).at.gateway;
    let writer = cluster.write_key();
    let reader = cluster.create(1, &json!({"name": "r \"ä\"", "scope": "read", "owner": "a b"}));
    let spent = cluster.limited_key(1, roomy_period_s(30));
    cluster.ask(1, &spent.validate()).expect(200);
    let peek = json!({"cost": 0});
    let validate = |secret: &str| Request::post("/v1/validate").bearer(secret);
    let authorize = |path: &str| Request::get(&format!("/v1/authorize{path}"));
    let http2 = Http2::open(to).await;
    let mut statuses = Vec::new();
    for request in [
        validate(&writer.secret).json(&peek),
        validate(&reader.secret).json(&peek),
        validate(&spent.secret),
        validate(&reader.secret).json(&json!({"scope": "admin"})),
        validate("nonsense"),
        validate(&writer.secret).json(&json!({"cost": 101})),
        validate(&writer.secret).raw_json("{"),
        validate(&writer.secret).header("content-type", "text/plain").body("x"),
        Request::post("/v1/validate"),
        Request::post("/v1/validate").json(&json!({"key": writer.secret, "cost": 0})),
        Request::get("/v1/validate"),
        authorize("/admin").bearer(&reader.secret),
        authorize("/nginx/admin").bearer(&reader.secret),
        authorize("/read").bearer(&spent.secret),
        authorize("/nginx/read").bearer(&spent.secret),
        authorize("/nginx/retry/read"),
        authorize(""),
        authorize("/unknown").bearer(&writer.secret),
        Request::new("HEAD", "/v1/authorize/read"),
        Request::get("/v1/authorizer"),
        Request::get("/livez"),
        Request::get("/nothing"),
        Request::post("/v1/validate/batch")
            .json(&json!({"requests": [{"key": writer.secret, "cost": 0}, {"key": "nonsense"}]})),
    ] {
        let over1 = request.send(to);
        let over2 = http2.call(&request).await;
        assert_eq!(comparable(&over2), comparable(&over1), "{request:?}");
        statuses.push(over2.status);
    }
    for status in [200, 400, 401, 403, 404, 405, 415, 429] {
        assert!(statuses.contains(&status), "no {status} in {statuses:?}");
    }
}

/// The limit is exact over many requests at the same time on few connections.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_exact_over_streams() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(100, roomy_period_s(30));
    let mut calls = tokio::task::JoinSet::new();
    for id in cluster.ids() {
        let connection = std::sync::Arc::new(Http2::open(cluster.node(id).at.gateway).await);
        for _ in 0..60 {
            let (connection, request) = (std::sync::Arc::clone(&connection), key.validate());
            calls.spawn(async move { connection.call(&request).await.status });
        }
    }
    let statuses = calls.join_all().await;
    let of = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((of(200), of(429)), (100, 80), "{statuses:?}");
}

/// A body that no handler reads, as forward authentication ignores it, ends no stream but its own.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_read_harm_no_other_request() {
    let cluster = Cluster::start(1);
    let connection = std::sync::Arc::new(Http2::open(cluster.node(1).at.gateway).await);
    let body = "x".repeat(30_000);
    for path in ["/v1/authorize/any", "/v1/nothing"] {
        let mut calls = tokio::task::JoinSet::new();
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(16));
        for _ in 0..1_500 {
            let place = std::sync::Arc::clone(&places).acquire_owned().await.unwrap();
            let (connection, body) = (std::sync::Arc::clone(&connection), body.clone());
            calls.spawn(async move {
                let answer = connection.call(&Request::post(path).body(body)).await;
                drop(place);
                answer.status
            });
        }
        let expected = if path == "/v1/nothing" { 404 } else { 401 };
        let statuses = calls.join_all().await;
        assert!(statuses.iter().all(|status| *status == expected), "{path}: {statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_header_fields_are_rejected_as_over_http1() {
    let cluster = Cluster::start(1);
    let connection = Http2::open(cluster.node(1).at.gateway).await;
    let key = cluster.write_key();
    let with_fields = |request: Request, count: usize| {
        (0..count).fold(request, |request, at| request.header(&format!("x-{at}"), "1"))
    };
    let validate = |count| with_fields(key.validate(), count);
    connection.call(&validate(250)).await.expect(200);
    connection.call(&validate(300)).await.expect_code(431, "headers_too_large");
    let authorize = Request::get("/v1/authorize/write").bearer(&key.secret);
    connection.call(&with_fields(authorize, 300)).await.expect_code(401, "authentication_failed");
}

/// A caller that sends a part of the preface and then something else, or nothing, gets an answer in
/// HTTP/1.1 or none, and the node continues to serve others.
#[test]
fn a_broken_preface_ends_only_its_own_connection() {
    let cluster = Cluster::start(1);
    let to = cluster.node(1).at.gateway;
    for (sent, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nXX"[..], "HTTP/1.1 "),
        (b"PRI / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 "),
        (b"PRI", ""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frame of HTTP/2", ""),
    ] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{}: {answer}", sent.escape_ascii());
        Request::get("/livez").send(to).expect(200);
    }
    // A part of the preface has no more time than the headers of a request.
    for sent in [&b"P"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"POST /v1"] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(sent).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok(), "{}: not closed: {end:?}", sent.escape_ascii());
    }
}
