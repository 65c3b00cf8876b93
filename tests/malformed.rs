//! Input that no client should send, on every listener: the node answers or closes the connection
//! in time, and keeps running.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::{Cluster, OPERATOR, SECRET};
use crate::support::http::Conn;
use crate::support::{Answer, Request, wait_until};

/// Longest that a half-sent request may stay open, with room for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(15);

fn listeners(cluster: &Cluster) -> [(&'static str, SocketAddr); 3] {
    let at = cluster.node(1).at;
    [("gateway", at.gateway), ("admin", at.admin), ("peer", at.peer)]
}

/// Sends bytes and returns the answer, or `None` if the connection was closed without one.
#[track_caller]
fn answer_to(to: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut conn = Conn::open(to).unwrap().timeout(GIVEN_UP).unwrap();
    // A server may reject after the first bytes; later bytes then meet a closed socket.
    let _ = conn.write(bytes);
    let _ = conn.finish();
    let started = Instant::now();
    match conn.read(false) {
        Ok(answer) => Some(answer),
        Err(error) => {
            let took = started.elapsed();
            assert!(
                took < GIVEN_UP - Duration::from_secs(1),
                "no answer and no end after {took:?}: {error}"
            );
            None
        }
    }
}

fn head(lines: &str) -> Vec<u8> {
    format!("{lines}\r\n\r\n").into_bytes()
}

#[test]
fn garbage_ends_in_an_answer_or_a_closed_connection() {
    let mut cluster = Cluster::start(1);
    let many: String = (0..500).map(|at| format!("x-{at}: v\r\n")).collect();
    let long = "x".repeat(1 << 20);
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("nothing", Vec::new(), false),
        ("garbage", head("GARBAGE"), true),
        ("a zero byte", b"\0\0\0\0\r\n\r\n".to_vec(), true),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), true),
        ("HTTP/2 by itself", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), false),
        ("an unknown version", head("GET /livez HTTP/9.9"), false),
        ("no version", head("GET /livez"), false),
        ("no path", head("GET  HTTP/1.1\r\nhost: x"), true),
        ("two lengths", head("POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2"), true),
        ("length and chunks", b"POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), false),
        ("a negative length", head("POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-length: -1"), true),
        ("an endless length", head("POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999"), true),
        ("a wrong chunk", b"POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(), false),
        ("a truncated body", b"POST /v1/validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"a\"".to_vec(), false),
        ("a space in a name", head("GET /livez HTTP/1.1\r\nhost: x\r\na b: c"), true),
        ("many headers", head(&format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}x: y")), true),
        ("a long header", head(&format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {long}")), true),
        ("a long path", head(&format!("GET /{long} HTTP/1.1\r\nhost: x")), true),
    ];
    for (name, to) in listeners(&cluster) {
        for (case, bytes, answered) in &cases {
            let Some(answer) = answer_to(to, bytes) else {
                assert!(
                    !answered || name == "peer",
                    "{case} at the {name} listener: closed without an answer"
                );
                continue;
            };
            assert!(
                (400..500).contains(&answer.status) || answer.status == 505,
                "{case} at the {name} listener: {answer}"
            );
            if name != "peer" {
                answer.assert_two_fields();
            }
        }
        cluster.node_mut(1).assert_alive();
    }
    let key = cluster.write_key();
    cluster.ask(1, &key.validate()).expect(200);
    assert!(!cluster.node(1).log_text().contains("panicked"));
}

#[test]
fn oversized_headers_get_a_431() {
    let cluster = Cluster::start(1);
    let long = "x".repeat(1 << 20);
    for (name, to) in listeners(&cluster) {
        if name == "peer" {
            continue;
        }
        let bytes = head(&format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {long}"));
        let answer = answer_to(to, &bytes).unwrap_or_else(|| panic!("the {name} listener closed"));
        answer.expect_code(431, "headers_too_large");
    }
}

#[test]
fn a_malformed_request_below_authorize_gets_a_denial_that_gateways_understand() {
    let cluster = Cluster::start(1);
    let long = "x".repeat(1 << 20);
    let ask = |path: &str| {
        let bytes = head(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-long: {long}"));
        answer_to(cluster.gateway(1), &bytes).unwrap_or_else(|| panic!("{path}: closed"))
    };
    for path in ["/v1/authorize", "/v1/authorize/write", "/v1/authorize/nginxes/any?x=/nginx"] {
        let message = "Invalid or missing API key";
        let answer = ask(path).expect_error(401, "authentication_failed", message);
        assert_eq!(answer.must_header("x-ratelimit-remaining"), "0", "{answer}");
    }
    for path in ["/v1/authorize/nginx/any", "/v1/authorize/nginx?x"] {
        let answer = ask(path).expect(403);
        assert_eq!(answer.must_header("x-auth-status"), "401", "{answer}");
        assert!(answer.must_header("x-auth-body").contains("authentication_failed"), "{answer}");
        assert_eq!(answer.text(), "", "{answer}");
    }
    ask("/v1/authorizes").expect_code(431, "headers_too_large");
}

#[test]
fn a_path_that_is_not_utf8_is_explained_only_to_administrators() {
    let cluster = Cluster::start(1);
    for (method, path, status) in [
        ("GET", "/v1/keys/%ff", 404),
        ("GET", "/v1/keys/%ff/usage", 404),
        ("PATCH", "/v1/keys/%ff", 404),
        ("POST", "/v1/keys/%ff/rotate", 404),
        ("DELETE", "/v1/keys/%ff", 404),
        ("DELETE", "/v1/cluster/nodes/%ff", 404),
    ] {
        let request = Request::new(method, path);
        request.clone().send(cluster.node(1).at.admin).expect_code(401, "authentication_failed");
        cluster.admin(1, request).expect_code(status, "not_found");
    }
}

#[test]
fn a_slow_sender_is_disconnected_and_disturbs_no_other_client() {
    let cluster = Cluster::start_with(1, |settings| {
        settings.text("http", "request_timeout", "1s");
    });
    let key = cluster.write_key();
    let auth = format!("authorization: Bearer {}\r\n", key.secret);
    let admin = format!("authorization: Bearer {OPERATOR}\r\n");
    let open = |to: SocketAddr| Conn::open(to).unwrap().timeout(GIVEN_UP).unwrap();
    let slow = listeners(&cluster).map(|(name, to)| {
        let path = if name == "admin" { "/v1/keys" } else { "/v1/validate" };
        let auth = if name == "admin" { &admin } else { &auth };
        let (mut half_head, mut half_body) = (open(to), open(to));
        half_head.write(format!("POST {path} HTTP/1.1\r\n{auth}").as_bytes()).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{auth}");
        let body = "content-type: application/json\r\ncontent-length: 50\r\n\r\n{";
        half_body.write((head + body).as_bytes()).unwrap();
        (name, half_head, half_body)
    });
    cluster.ask(1, &key.validate()).expect(200);
    for (name, mut half_head, mut half_body) in slow {
        let answer = half_body.read(false);
        if name != "peer" {
            let answer = answer.unwrap_or_else(|error| panic!("no answer from {name}: {error}"));
            answer.expect_code(408, "request_timeout");
        }
        let rest = half_head.read_to_end();
        assert!(rest.is_ok(), "half-sent headers stay open at {name}: {rest:?}");
    }
    cluster.ask(1, &key.validate()).expect(200);
}

#[test]
fn a_client_that_disconnects_during_a_write_leaves_no_partial_key() {
    let cluster = Cluster::start(3);
    for round in 0..20 {
        let body = json!({"name": format!("gone {round}"), "scope": "read"}).to_string();
        let request = Request::post("/v1/keys").bearer(OPERATOR).raw_json(&body).to_bytes();
        let mut conn = Conn::open(cluster.node(1 + round % 3).at.admin).unwrap();
        let cut = if round % 2 == 0 { request.len() } else { request.len() - 5 };
        conn.write(&request[..cut]).unwrap();
        drop(conn);
    }
    cluster.wait_write(1, Duration::from_secs(5));
    let list = |id: u64| cluster.admin(id, Request::get("/v1/keys?limit=200")).expect(200).json();
    wait_until("all nodes list the same keys", Duration::from_secs(5), || {
        list(1) == list(2) && list(2) == list(3)
    });
    let text = list(1).to_string();
    for round in (1..20).step_by(2) {
        assert!(
            !text.contains(&format!("\"gone {round}\"")),
            "half a request created a key: {text}"
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(50, 600);
    let mut conn = Conn::open(cluster.gateway(1)).unwrap();
    let bytes: Vec<u8> = (0..40).flat_map(|_| key.validate().to_bytes()).collect();
    conn.write(&bytes).unwrap();
    let left: Vec<u64> =
        (0..40).map(|_| conn.read(false).unwrap().expect(200).window().1).collect();
    assert_eq!(left, (10..50).rev().collect::<Vec<u64>>());
}

#[test]
fn a_malformed_request_behind_another_one_gets_an_answer_with_a_body() {
    let cluster = Cluster::start(1);
    let mut conn = Conn::open(cluster.node(1).at.gateway).unwrap().timeout(GIVEN_UP).unwrap();
    conn.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGARBAGE\r\n\r\n").unwrap();
    assert_eq!(conn.read(false).unwrap().status, 200);
    let answer = conn.read(false).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"], "invalid_request");
}

#[test]
fn a_chunked_body_is_read_and_bounded() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let head = format!(
        "POST /v1/validate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        key.secret
    );
    let small = answer_to(
        cluster.gateway(1),
        format!("{head}a\r\n{{\"cost\": 5\r\n1\r\n}}\r\n0\r\n\r\n").as_bytes(),
    );
    assert_eq!(small.unwrap().expect(200).window().1, 95);
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let large =
        answer_to(cluster.gateway(1), format!("{head}{}0\r\n\r\n", chunk.repeat(4)).as_bytes());
    large.unwrap().expect_code(413, "too_large");
}

#[test]
fn the_peer_listener_serves_no_caller_without_the_secret() {
    let cluster = Cluster::start(3);
    let paths = [
        "/",
        "/v1/keys",
        "/v1/validate",
        "/v1/cluster",
        "/metrics",
        "/peer/v1/gossip",
        "/peer/v1/ask",
        "/peer/v1/append",
        "/peer/v1/vote",
        "/peer/v1/x",
    ];
    for node in cluster.addresses() {
        for path in paths {
            for request in [
                Request::get(path),
                Request::post(path).raw_json("{}"),
                Request::post(path).body(vec![0xff; 500]),
            ] {
                for request in [
                    request.clone(),
                    request.clone().bearer("wrong-secret-of-the-black-box"),
                    request.clone().bearer(OPERATOR),
                ] {
                    let answer = request.send(node.peer);
                    assert!(matches!(answer.status, 401 | 404 | 405), "{path}: {answer}");
                    answer.assert_two_fields();
                }
            }
        }
    }
    let call = Request::post("/peer/v1/gossip").bearer("wrong-secret-of-the-black-box");
    call.send(cluster.node(1).at.peer).expect_code(401, "authentication_failed");
    // The secret does not open the other listeners, either.
    let node = cluster.node(1).at;
    Request::get("/v1/keys").bearer(SECRET).send(node.admin).expect(401);
    Request::post("/v1/validate").bearer(SECRET).send(node.gateway).expect(401);
}
