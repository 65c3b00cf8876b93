//! Retries against a listener that plays a node: how often it is asked, and with what.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxgate_api::keys::{CreateKey, UpdateKey};
use fluxgate_api::validate::ValidateRequest;
use fluxgate_types::{KeyId, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What the fake node does with a request.
#[derive(Clone)]
enum Play {
    Answer(u16, &'static str, String),
    /// Reads it and closes the connection.
    Drop,
    /// Reads it and says nothing.
    Hang,
}

/// A fake node: plays its list in order, the last one for ever.
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(plays: Vec<Play>) -> Self {
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
                    (heard.len() - 1).min(plays.len() - 1)
                };
                match plays[at].clone() {
                    Play::Answer(status, headers, body) => {
                        let head = format!(
                            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
                            body.len()
                        );
                        stream.write_all(head.as_bytes()).await.unwrap();
                        stream.write_all(body.as_bytes()).await.unwrap();
                    }
                    Play::Drop => drop(stream),
                    Play::Hang => {
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

fn error(code: fluxgate_api::ErrorCode) -> Play {
    let body = fluxgate_api::ErrorBody::new(code, "why");
    Play::Answer(code.status(), "", body.to_json())
}

const ADMITTED: &str = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"a","owner":null,"scope":"read","limit":100,"remaining":99,"reset":1705747200}"#;
const RECORD: &str = r#""id":"key_Qm2xK9dA3f01","name":"a","prefix":"fx_live_Qm2xK9dA3f01","scope":"read","owner":null,"limits":[],"enabled":true,"status":"active","created_at":"2024-01-20T11:20:00Z","created_by":"operator","expires_at":null,"last_used_at":null,"metadata":{},"revision":1,"applied_on":[1],"waited_ms":0"#;

fn ok(body: impl Into<String>) -> Play {
    Play::Answer(200, "", body.into())
}

fn client(urls: &[&str]) -> Client {
    let options = Options {
        deadline: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(500),
        retry: true,
    };
    Client::with_options(urls, Some(Token::new("secret-token").unwrap()), options).unwrap()
}

/// A URL at which nothing listens.
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
async fn a_closed_port_leads_to_the_next_node_and_the_next_call_goes_there_first() {
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
async fn no_leader_is_tried_again_until_there_is_one() {
    let no_leader = error(fluxgate_api::ErrorCode::NoLeader);
    let node = Fake::start(vec![no_leader.clone(), no_leader, ok(format!("{{{RECORD}}}"))]).await;
    let answer = client(&[&node.url]).revoke_key(id()).await.unwrap();
    assert_eq!(answer.applied_on, [1]);
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_says_why() {
    let node = Fake::start(vec![error(fluxgate_api::ErrorCode::NotFound)]).await;
    let refused = client(&[&node.url, &node.url]).read_key(id()).await;
    let Err(Error::Refused { status, code, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((status, code.as_str(), &*message), (404, "not_found", "why"));
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_create_is_repeated_with_the_same_idempotency_key_and_told_apart() {
    let done = error(fluxgate_api::ErrorCode::AlreadyDone);
    let node = Fake::start(vec![Play::Drop, done]).await;
    let lost = client(&[&node.url]).create_key(&create(), None).await;
    assert!(matches!(lost, Err(Error::AnswerLost { .. })), "{lost:?}");
    let seen = node.seen();
    let keys: Vec<_> =
        seen.iter().map(|request| header_of(request, "idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!((keys[0].len(), keys[0]), (32, keys[1]));
}

#[tokio::test]
async fn already_done_at_the_first_try_is_a_refusal() {
    let node = Fake::start(vec![error(fluxgate_api::ErrorCode::AlreadyDone)]).await;
    let refused = client(&[&node.url]).create_key(&create(), Some("mine")).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(header_of(&node.seen()[0], "idempotency-key"), Some("mine"));
}

#[tokio::test]
async fn a_validate_whose_answer_is_lost_is_not_repeated() {
    for play in [Play::Drop, Play::Hang] {
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
async fn a_guarded_change_is_repeated_only_when_it_was_not_done() {
    let unavailable = error(fluxgate_api::ErrorCode::Unavailable);
    let node = Fake::start(vec![unavailable, Play::Drop, ok(format!("{{{RECORD}}}"))]).await;
    let lost = client(&[&node.url]).update_key(id(), &UpdateKey::default(), Some(7)).await;
    let Err(error @ Error::NoAnswer { .. }) = lost else { panic!("{lost:?}") };
    let text = error.to_string();
    let asked = format!("{} was reached and gave no answer to PATCH /v1/keys/key_", node.url);
    assert!(text.starts_with(&asked), "{text}");
    assert!(text.ends_with("it may have been done, or be done yet: `fluxgate keys show ID` tells"));
    let seen = node.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(header_of(&seen[1], "if-match"), Some("\"7\""));
}

#[tokio::test]
async fn a_read_survives_a_node_that_hangs() {
    let hung = Fake::start(vec![Play::Hang]).await;
    let node = Fake::start(vec![ok("{\"entries\":[],\"next_cursor\":null}")]).await;
    let list = client(&[&hung.url, &node.url])
        .list_audit(&fluxgate_api::usage::AuditQuery::default())
        .await
        .unwrap();
    assert!(list.entries.is_empty());
}

#[tokio::test]
async fn a_cluster_that_is_gone_is_given_up_before_the_deadline() {
    let started = std::time::Instant::now();
    let gone = client(&[&closed().await]).whoami().await;
    let Err(error @ Error::Unreachable { tries: 5, .. }) = gone else {
        panic!("{gone:?}");
    };
    assert!(error.is_unreachable() && !error.to_string().contains("may have been done"));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_token_that_one_node_does_not_know_yet_is_shown_to_the_next() {
    let unknown = || error(fluxgate_api::ErrorCode::AuthenticationFailed);
    let (old, new) = (Fake::start(vec![unknown()]).await, Fake::start(vec![ok("{}")]).await);
    let lost = client(&[&old.url, &new.url]).revoke_key(id()).await;
    assert!(matches!(lost, Err(Error::Unexpected { .. })), "the second was asked: {lost:?}");
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
    // Where all say so it is so, once each.
    let nodes = [Fake::start(vec![unknown()]).await, Fake::start(vec![unknown()]).await];
    let refused = client(&[&nodes[0].url, &nodes[1].url]).whoami().await;
    assert!(matches!(refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    assert_eq!(nodes.map(|node| node.seen().len()), [1, 1]);
    // A key that is judged is no token of ours.
    let nodes = [Fake::start(vec![unknown()]).await, Fake::start(vec![unknown()]).await];
    let key = Token::new("fx_key").unwrap();
    let asked = client(&[&nodes[0].url, &nodes[1].url]);
    asked.validate(&key, &ValidateRequest::default()).await.unwrap();
    assert_eq!(nodes.map(|node| node.seen().len()), [1, 0]);
}

#[tokio::test]
async fn what_is_no_node_is_passed_over() {
    let other = Fake::start(vec![Play::Answer(404, "", "<html>".to_owned())]).await;
    let node = Fake::start(vec![ok("{\"entries\":[],\"next_cursor\":null}")]).await;
    let both = client(&[&other.url, &node.url]);
    let list = both.list_audit(&fluxgate_api::usage::AuditQuery::default()).await.unwrap();
    assert!(list.entries.is_empty());
}

#[tokio::test]
async fn a_denial_is_a_verdict_with_its_window() {
    let body = fluxgate_api::ErrorBody::rate_limit_exceeded(45);
    let headers = "X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1705747200\r\nRetry-After: 45\r\n";
    let node = Fake::start(vec![Play::Answer(429, headers, body.to_json())]).await;
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
async fn what_is_no_answer_of_ours_is_said_so() {
    let node = Fake::start(vec![Play::Answer(502, "", "<html>bad gateway".to_owned())]).await;
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
fn what_no_header_can_carry_is_no_token() {
    for text in ["", " ", "a b", "a\nb", "ä"] {
        assert!(Token::new(text).is_err(), "{text}");
    }
    assert_eq!(Token::new(" abc\n").unwrap().expose(), "abc");
}

#[test]
fn what_is_no_url_to_call_is_refused() {
    for url in ["", "127.0.0.1:7201", "ftp://a", "http://user:pass@a", "http://a/?b=c"] {
        assert!(Client::new(&[url], None).is_err(), "{url}");
    }
    let client = Client::new(&["http://a:1/base/"], None).unwrap();
    assert_eq!(client.urls(), ["http://a:1/base"]);
    assert!(matches!(Client::new::<&str>(&[], None), Err(Error::NoUrl)));
}
