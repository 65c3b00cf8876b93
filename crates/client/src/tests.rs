//! Retries against a listener that acts as a node: how often it is called, and with what.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxgate_api::keys::{CreateKey, UpdateKey};
use fluxgate_api::validate::ValidateRequest;
use fluxgate_types::{KeyId, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// How the fake node responds to a request.
#[derive(Clone)]
enum Response {
    Answer(u16, &'static str, String),
    /// Reads the request and closes the connection.
    Drop,
    /// Reads the request and sends nothing.
    Hang,
}

/// A fake node: responds as listed, in order, and repeats the last response.
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(responses: Vec<Response>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                let at = {
                    let mut heard = heard.lock().unwrap();
                    heard.push(request);
                    (heard.len() - 1).min(responses.len() - 1)
                };
                match responses[at].clone() {
                    Response::Answer(status, headers, body) => {
                        let head = format!(
                            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
                            body.len()
                        );
                        stream.write_all(head.as_bytes()).await.unwrap();
                        stream.write_all(body.as_bytes()).await.unwrap();
                    }
                    Response::Drop => drop(stream),
                    Response::Hang => {
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            drop(stream);
                        });
                    }
                }
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0u8; 4096]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        assert!(read > 0, "request ended early: {text}");
    }
}

fn error(code: fluxgate_api::ErrorCode) -> Response {
    let body = fluxgate_api::ErrorBody::new(code, "why");
    Response::Answer(code.status(), "", body.to_json())
}

const ADMITTED: &str = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"a","owner":null,"scope":"read","limit":100,"remaining":99,"reset":1705747200}"#;
const RECORD: &str = r#""id":"key_Qm2xK9dA3f01","name":"a","prefix":"fx_live_Qm2xK9dA3f01","scope":"read","owner":null,"limits":[],"enabled":true,"status":"active","created_at":"2024-01-20T11:20:00Z","created_by":"operator","expires_at":null,"last_used_at":null,"metadata":{},"revision":1,"applied_on":[1],"waited_ms":0"#;

fn ok(body: impl Into<String>) -> Response {
    Response::Answer(200, "", body.into())
}

fn client(urls: &[&str]) -> Client {
    let options = Options {
        deadline: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(500),
        retry: true,
    };
    Client::with_options(urls, Some(Token::new("secret-token").unwrap()), options).unwrap()
}

/// A URL without a listener.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn create() -> CreateKey {
    CreateKey {
        name: "a".to_owned(),
        scope: Scope::Read,
        owner: None,
        limits: None,
        plan: None,
        pools: None,
        expires_at: None,
        metadata: None,
    }
}

fn id() -> KeyId {
    "key_Qm2xK9dA3f01".parse().unwrap()
}

fn header_of<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn after_a_closed_port_the_next_node_is_asked_and_then_preferred() {
    let node = Fake::start(vec![ok(ADMITTED)]).await;
    let client = client(&[&closed().await, &node.url]);
    for _ in 0..2 {
        let report = client
            .validate(&Token::new("fx_key").unwrap(), &ValidateRequest::default())
            .await
            .unwrap();
        assert_eq!(report.status, 200);
    }
    let seen = node.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(header_of(&seen[0], "authorization"), Some("Bearer fx_key"));
    assert_eq!(header_of(&seen[0], "x-gateway-token"), Some("secret-token"));
}

#[tokio::test]
async fn calls_without_a_leader_are_retried() {
    let no_leader = error(fluxgate_api::ErrorCode::NoLeader);
    let node = Fake::start(vec![no_leader.clone(), no_leader, ok(format!("{{{RECORD}}}"))]).await;
    let answer = client(&[&node.url]).revoke_key(id()).await.unwrap();
    assert_eq!(answer.applied_on, [1]);
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn a_rejection_is_final_and_has_a_reason() {
    let node = Fake::start(vec![error(fluxgate_api::ErrorCode::NotFound)]).await;
    let refused = client(&[&node.url, &node.url]).read_key(id()).await;
    let Err(Error::Refused { status, code, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((status, code.as_str(), &*message), (404, "not_found", "why"));
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_create_is_repeated_with_the_same_idempotency_key() {
    let done = error(fluxgate_api::ErrorCode::AlreadyDone);
    let node = Fake::start(vec![Response::Drop, done]).await;
    let lost = client(&[&node.url]).create_key(&create(), None).await;
    assert!(matches!(lost, Err(Error::AnswerLost { .. })), "{lost:?}");
    let seen = node.seen();
    let keys: Vec<_> =
        seen.iter().map(|request| header_of(request, "idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!((keys[0].len(), keys[0]), (32, keys[1]));
}

#[tokio::test]
async fn already_done_at_the_first_attempt_is_a_rejection() {
    let node = Fake::start(vec![error(fluxgate_api::ErrorCode::AlreadyDone)]).await;
    let refused = client(&[&node.url]).create_key(&create(), Some("mine")).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(header_of(&node.seen()[0], "idempotency-key"), Some("mine"));
}

#[tokio::test]
async fn a_validate_whose_answer_is_lost_is_not_repeated() {
    for play in [Response::Drop, Response::Hang] {
        let node = Fake::start(vec![play, ok(ADMITTED)]).await;
        let lost = client(&[&node.url, &node.url])
            .validate(&Token::new("fx_key").unwrap(), &ValidateRequest::default())
            .await;
        let Err(Error::NoAnswer { url, call, .. }) = lost else {
            panic!("{lost:?}");
        };
        assert_eq!((&*url, &*call), (&*node.url, "POST /v1/validate"));
        assert_eq!(node.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_guarded_change_is_repeated_only_if_it_was_not_done() {
    let unavailable = error(fluxgate_api::ErrorCode::Unavailable);
    let node = Fake::start(vec![unavailable, Response::Drop, ok(format!("{{{RECORD}}}"))]).await;
    let lost = client(&[&node.url]).update_key(id(), &UpdateKey::default(), Some(7)).await;
    let Err(error @ Error::NoAnswer { .. }) = lost else { panic!("{lost:?}") };
    let text = error.to_string();
    let asked = format!("{} was reached but did not answer PATCH /v1/keys/key_", node.url);
    assert!(text.starts_with(&asked), "{text}");
    assert!(text.ends_with("may still be made: check with `fluxgate keys show ID`"));
    let seen = node.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(header_of(&seen[1], "if-match"), Some("\"7\""));
}

#[tokio::test]
async fn a_read_survives_a_node_that_hangs() {
    let hung = Fake::start(vec![Response::Hang]).await;
    let node = Fake::start(vec![ok("{\"entries\":[],\"next_cursor\":null}")]).await;
    let list = client(&[&hung.url, &node.url])
        .list_audit(&fluxgate_api::usage::AuditQuery::default())
        .await
        .unwrap();
    assert!(list.entries.is_empty());
}

#[tokio::test]
async fn an_unreachable_cluster_fails_before_the_deadline() {
    let started = std::time::Instant::now();
    let gone = client(&[&closed().await]).whoami().await;
    let Err(error @ Error::Unreachable { tries: 5, .. }) = gone else {
        panic!("{gone:?}");
    };
    assert!(error.is_unreachable() && !error.to_string().contains("may have been made"));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_token_unknown_to_one_node_is_tried_on_the_next() {
    let unknown = || error(fluxgate_api::ErrorCode::AuthenticationFailed);
    let (old, new) = (Fake::start(vec![unknown()]).await, Fake::start(vec![ok("{}")]).await);
    let lost = client(&[&old.url, &new.url]).revoke_key(id()).await;
    assert!(matches!(lost, Err(Error::Unexpected { .. })), "the second was asked: {lost:?}");
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
    // If all nodes reject it, the rejection is final after one attempt each.
    let nodes = [Fake::start(vec![unknown()]).await, Fake::start(vec![unknown()]).await];
    let refused = client(&[&nodes[0].url, &nodes[1].url]).whoami().await;
    assert!(matches!(refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    assert_eq!(nodes.map(|node| node.seen().len()), [1, 1]);
    // A key to be validated is not a token of the client.
    let nodes = [Fake::start(vec![unknown()]).await, Fake::start(vec![unknown()]).await];
    let key = Token::new("fx_key").unwrap();
    let asked = client(&[&nodes[0].url, &nodes[1].url]);
    asked.validate(&key, &ValidateRequest::default()).await.unwrap();
    assert_eq!(nodes.map(|node| node.seen().len()), [1, 0]);
}

#[tokio::test]
async fn a_listener_that_is_not_a_node_is_skipped() {
    let other = Fake::start(vec![Response::Answer(404, "", "<html>".to_owned())]).await;
    let node = Fake::start(vec![ok("{\"entries\":[],\"next_cursor\":null}")]).await;
    let both = client(&[&other.url, &node.url]);
    let list = both.list_audit(&fluxgate_api::usage::AuditQuery::default()).await.unwrap();
    assert!(list.entries.is_empty());
}

#[tokio::test]
async fn a_denial_is_a_verdict_with_a_window() {
    let body = fluxgate_api::ErrorBody::rate_limit_exceeded(45);
    let headers = "X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1705747200\r\nRetry-After: 45\r\n";
    let node = Fake::start(vec![Response::Answer(429, headers, body.to_json())]).await;
    let report = client(&[&node.url])
        .validate(&Token::new("fx_key").unwrap(), &ValidateRequest::default())
        .await
        .unwrap();
    assert_eq!(report.verdict, Verdict::Denied(body));
    assert_eq!(report.retry_after_s, Some(45));
    let window = report.window.unwrap();
    assert_eq!((window.limit, window.remaining, window.reset), (100, 0, 1_705_747_200));
}

#[tokio::test]
async fn a_foreign_answer_is_reported_as_unexpected() {
    let node = Fake::start(vec![Response::Answer(502, "", "<html>bad gateway".to_owned())]).await;
    let error = client(&[&node.url]).whoami().await.unwrap_err();
    assert_eq!(error.to_string(), "unexpected answer (status 502): `<html>bad gateway`");
}

#[tokio::test]
async fn a_token_is_sent_and_never_printed() {
    let node = Fake::start(vec![ok("x")]).await;
    let client = client(&[&node.url]);
    let shown = format!("{client:?} {:?}", client.whoami().await);
    assert!(!shown.contains("secret-token"), "{shown}");
    assert_eq!(header_of(&node.seen()[0], "authorization"), Some("Bearer secret-token"));
}

#[test]
fn a_token_must_be_valid_in_a_header() {
    for text in ["", " ", "a b", "a\nb", "ä"] {
        assert!(Token::new(text).is_err(), "{text}");
    }
    assert_eq!(Token::new(" abc\n").unwrap().expose(), "abc");
}

#[test]
fn invalid_urls_are_rejected() {
    for url in ["", "127.0.0.1:7201", "ftp://a", "http://user:pass@a", "http://a/?b=c"] {
        assert!(Client::new(&[url], None).is_err(), "{url}");
    }
    let client = Client::new(&["http://a:1/base/"], None).unwrap();
    assert_eq!(client.urls(), ["http://a:1/base"]);
    assert!(matches!(Client::new::<&str>(&[], None), Err(Error::NoUrl)));
}
