//! Forward authentication, for gateways that pass on the head of their client's request.
//!
//! Answers for: only the statuses 200, 401, 403, 429 and 503, for any method, path, header or body;
//! and that only the path decides the required scope.

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Conn, Key, Request};

const STATUSES: [u16; 5] = [200, 401, 403, 429, 503];

fn reader(cluster: &Cluster) -> Key {
    let limits = crate::support::keys::limit(1_000_000, 600);
    cluster.create(1, &json!({"name": "r", "scope": "read", "owner": "Ü 1", "limits": limits}))
}

/// Fails unless this is a gateway's positive answer.
#[track_caller]
fn assert_yes(answer: &Answer, key: &Key) {
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-length"), Some("0"), "{answer}");
    assert_eq!(
        answer.header("x-envoy-auth-headers-to-remove"),
        Some("authorization, x-api-key"),
        "{answer}"
    );
    assert_eq!(answer.header("x-auth-key-id"), Some(&*key.id), "{answer}");
    assert_eq!(answer.header("x-auth-owner"), Some("%C3%9C%201"), "{answer}");
    assert_eq!(answer.header("connection"), None, "{answer}");
    answer.window();
}

#[test]
fn an_admission_has_no_body_and_keeps_the_connection() {
    let cluster = Cluster::start(1);
    let key = reader(&cluster);
    let mut conn = Conn::open(cluster.gateway(1)).unwrap();
    for method in
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "X-ODD!"]
    {
        for path in ["", "/", "/-/v1/things?x=1&y=%2f", "/a//b/../c", "/%ff%00", "?scope=admin"] {
            let request =
                Request::new(method, &format!("/v1/authorize/read{path}")).bearer(&key.secret);
            let answer = conn.call(&request).unwrap();
            assert_yes(&answer, &key);
        }
    }
}

#[test]
fn the_applications_own_authorization_is_returned() {
    let cluster = Cluster::start(1);
    let (key, other) = (reader(&cluster), reader(&cluster));
    let with = |authorization: &str| {
        let request = Request::get("/v1/authorize/read").header("x-api-key", &key.secret);
        cluster.ask(1, &request.header("authorization", authorization))
    };
    for own in ["Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dXNlcjpwYXNz", "Bearer"] {
        let answer = with(own);
        assert_eq!(answer.status, 200, "{own}: {answer}");
        assert_eq!(answer.header("authorization"), Some(own), "{answer}");
        let hidden = answer.header("x-envoy-auth-headers-to-remove");
        assert_eq!(hidden, Some("x-api-key"), "{answer}");
        // The key decides the limit; the same header alone counts as a credential.
        assert_eq!(answer.header("x-auth-key-id"), Some(&*key.id), "{answer}");
        let alone = Request::get("/v1/authorize/read").header("authorization", own);
        cluster.ask(1, &alone).expect_code(401, "authentication_failed");
        let validate = Request::post("/v1/validate").header("x-api-key", &key.secret);
        cluster.ask(1, &validate.header("authorization", own)).expect(200);
    }
    // Our key in both headers is one key; two different keys count as none. Our key is never
    // returned.
    let same = with(&format!("Bearer {}", key.secret));
    assert_yes(&same, &key);
    assert_eq!(same.header("authorization"), None, "{same}");
    with(&format!("Bearer {}", other.secret)).expect_code(401, "authentication_failed");
    let denied = with("Bearer fx_live_AAAAAAAAAAAA_nonsense");
    assert_eq!(denied.header("authorization"), None, "{denied}");
    denied.expect_code(401, "authentication_failed");
    for form in
        [format!("Token {}", key.secret), key.secret.clone(), format!("Basic {}", key.secret)]
    {
        let answer = with(&form);
        assert_yes(&answer, &key);
        assert!(!answer.to_string().contains(&key.secret), "a key is returned");
    }
    with(&format!("Token {}", other.secret)).expect_code(401, "authentication_failed");
    // The admin listener knows nothing of an application's own authorization.
    let request = Request::get("/v1/keys").header("x-api-key", &key.secret);
    cluster.admin(1, request.header("authorization", "Basic dXNlcjpwYXNz")).expect(401);
}

#[test]
fn invalid_uri_characters_reject_no_key() {
    let cluster = Cluster::start(1);
    let key = reader(&cluster);
    let mut conn = Conn::open(cluster.gateway(1)).unwrap();
    for odd in
        ["?q=\"a\"", "?q=a<b>", "?q=`\x7f", "/-/\"a\"<b>`", "/-/ä?q=ö", "/-/a|b^c{d}\\e?\u{80}"]
    {
        for path in ["/v1/authorize/read", "/v1/authorize/nginx/retry/read"] {
            // On one kept-alive connection, whole and in two pieces.
            let request = Request::get(&format!("{path}{odd}")).bearer(&key.secret);
            let answer = conn.call(&request).unwrap();
            assert_eq!(answer.status, 200, "{odd}: {answer}");
            let bytes = request.to_bytes();
            let (first, rest) = bytes.split_at(path.len() + 7);
            conn.write(first).unwrap();
            std::thread::yield_now();
            conn.write(rest).unwrap();
            assert_eq!(conn.read(false).unwrap().status, 200, "{odd}");
        }
    }
    let request = Request::get("/v1/authorize/\"read\"").bearer(&key.secret);
    conn.call(&request).unwrap().expect_code(403, "insufficient_scope");
}

#[test]
fn a_body_of_any_size_and_type_is_ignored() {
    let cluster = Cluster::start(1);
    let key = reader(&cluster);
    for size in [0, 10, 60_000, 300_000] {
        let request = Request::post("/v1/authorize/read").bearer(&key.secret);
        let request = request.header("content-type", "text/weird").body(vec![b'x'; size]);
        let answer = cluster.ask(1, &request);
        assert_eq!(answer.status, 200, "{size} bytes: {answer}");
    }
    // A key in the body has no effect.
    let request = Request::post("/v1/authorize/read").json(&json!({"key": key.secret}));
    cluster.ask(1, &request).expect_code(401, "authentication_failed");
}

#[test]
fn each_requirement_needs_its_scope() {
    let cluster = Cluster::start(1);
    let keys = ["read", "write", "admin"]
        .map(|scope| cluster.create(1, &json!({"name": scope, "scope": scope})));
    for (requirement, least) in [("any", 0), ("read", 0), ("write", 1), ("admin", 2)] {
        for (at, key) in keys.iter().enumerate() {
            let request =
                Request::get(&format!("/v1/authorize/{requirement}/-/x")).bearer(&key.secret);
            let answer = cluster.ask(1, &request);
            if at >= least {
                assert_eq!(answer.status, 200, "{requirement}: {answer}");
            } else {
                let message = format!("This endpoint requires '{requirement}' scope");
                let answer = answer.expect_error(403, "insufficient_scope", &message);
                let challenge =
                    format!("Bearer error=\"insufficient_scope\", scope=\"{requirement}\"");
                assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
                answer.window();
            }
        }
    }
}

#[test]
fn safe_methods_need_read_and_all_others_write() {
    let cluster = Cluster::start(1);
    let key = reader(&cluster);
    for (method, status) in [
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 200),
        ("POST", 403),
        ("PUT", 403),
        ("PATCH", 403),
        ("DELETE", 403),
        ("TRACE", 403),
        ("get", 403),
        ("PROPFIND", 403),
    ] {
        let request = Request::new(method, "/v1/authorize/by-method/-/x").bearer(&key.secret);
        assert_eq!(cluster.ask(1, &request).status, status, "{method}");
        // Headers that a client could forge are ignored.
        let forged = request.header("x-forwarded-method", "GET").header("x-original-method", "GET");
        assert_eq!(cluster.ask(1, &forged).status, status, "{method} with a forged header");
        for name in ["x-forwarded-method", "X-Original-Method"] {
            let request = Request::post("/v1/authorize/by-forwarded-method").bearer(&key.secret);
            let answer = cluster.ask(1, &request.header(name, method));
            assert_eq!(answer.status, status, "{name}: {method}: {answer}");
        }
    }
    let absent = Request::get("/v1/authorize/by-forwarded-method").bearer(&key.secret);
    cluster.ask(1, &absent).expect_code(403, "insufficient_scope");
    for (first, second) in [("GET", "POST"), ("POST", "GET")] {
        let both =
            absent.clone().header("x-forwarded-method", first).header("x-original-method", second);
        assert_eq!(cluster.ask(1, &both).status, 403, "two different ones");
        let twice =
            absent.clone().header("x-forwarded-method", first).header("x-forwarded-method", second);
        assert_eq!(cluster.ask(1, &twice).status, 403, "twice");
    }
}

#[test]
fn denials_are_those_of_validate() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(1, roomy_period_s(60));
    let request = Request::get("/v1/authorize/any").header("x-api-key", &key.secret);
    cluster.ask(1, &request).expect(200);
    let limited = cluster.ask(1, &request).expect(429);
    let message =
        format!("Rate limit exceeded. Try again in {} seconds.", limited.number("retry-after"));
    let limited = limited.expect_error(429, "rate_limit_exceeded", &message);
    assert_eq!((limited.window().0, limited.window().1), (1, 0));
    assert_eq!(limited.header("x-auth-key-id"), Some(&*key.id));
    let missing = cluster.ask(1, &Request::get("/v1/authorize/any"));
    let missing = missing.expect_error(401, "authentication_failed", "Invalid or missing API key");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    assert_eq!(missing.window().1, 0);
}

#[test]
fn nginx_gets_a_bodiless_403_from_which_it_rebuilds_the_answer() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(1, roomy_period_s(60));
    let nginx = |requirement: &str| Request::get(&format!("/v1/authorize/nginx/{requirement}/-/x"));
    let yes = cluster.ask(1, &nginx("write").bearer(&key.secret)).expect(200);
    assert_eq!(yes.header("content-length"), Some("0"));
    assert_eq!((yes.header("x-auth-status"), yes.header("x-auth-body")), (None, None));
    for (request, like, status) in [
        (nginx("retry/any"), Request::get("/v1/authorize/any"), 401),
        (nginx("any"), Request::get("/v1/authorize/any"), 401),
        (nginx("any").bearer("x"), Request::get("/v1/authorize/any").bearer("x"), 401),
        (
            nginx("admin").bearer(&key.secret),
            Request::get("/v1/authorize/admin").bearer(&key.secret),
            403,
        ),
        (
            nginx("any").bearer(&key.secret),
            Request::get("/v1/authorize/any").bearer(&key.secret),
            429,
        ),
    ] {
        let (answer, like) = (cluster.ask(1, &request), cluster.ask(1, &like).expect(status));
        assert_eq!((answer.status, answer.text()), (403, String::new()), "{answer}");
        assert_eq!(answer.header("content-length"), Some("0"), "{answer}");
        assert_eq!(answer.header("x-auth-status"), Some(&*status.to_string()), "{answer}");
        let same =
            |name: &str| assert_eq!(answer.header(name), like.header(name), "{name}: {answer}");
        for name in [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "www-authenticate",
            "x-auth-key-id",
        ] {
            same(name);
        }
        let body: serde_json::Value =
            serde_json::from_str(answer.must_header("x-auth-body")).unwrap();
        assert_eq!(body["error"], like.json()["error"], "{answer}");
        if status != 429 {
            assert_eq!(answer.must_header("x-auth-body"), like.text());
        }
    }
}

#[test]
fn any_input_gets_one_of_the_five_statuses() {
    let cluster = Cluster::start(1);
    let key = reader(&cluster);
    let secret = key.secret.as_str();
    let get = |path: &str| Request::get(path).bearer(secret);
    let mut many = get("/v1/authorize/read");
    for at in 0..150 {
        many = many.header(&format!("x-client-{at}"), "v");
    }
    let long = "x".repeat(6_000);
    for request in [
        get("/v1/authorize/nonsense"),
        get("/v1/authorize/"),
        get("/v1/authorize/READ"),
        get("/v1/authorize/nginx"),
        get("/v1/authorize/nginx/"),
        get("/v1/authorize/nginx/nonsense"),
        get("/v1/authorize/%72ead"),
        get("/v1/authorize/read%2f"),
        get("/v1/authorize/%ff"),
        get("/v1/authorize//read"),
        get(&format!("/v1/authorize/read/{long}")),
        get("/v1/authorize/read").header("x-long", &long),
        get("/v1/authorize/read").header("content-type", "\u{fffd}"),
        get("/v1/authorize/read").header("expect", "100-continue"),
        get("/v1/authorize/read").header("upgrade", "websocket").header("connection", "upgrade"),
        get("/v1/authorize/read").header("if-match", "\"x\"").header("range", "bytes=0-1"),
        get("/v1/authorize/read").header("x-api-key", "\u{e9}"),
        many,
    ] {
        let answer = cluster.ask(1, &request);
        let shown = format!("{request:?}");
        assert!(STATUSES.contains(&answer.status), "{shown:.200}: {answer}");
    }
    for wrong in ["/v1/authorize/nonsense", "/v1/authorize/READ", "/v1/authorize/nginx/nonsense"] {
        let answer = cluster.ask(1, &get(wrong));
        assert_ne!(answer.status, 200, "an unknown requirement admitted a key: {wrong}");
    }
}

#[test]
fn an_unknown_requirement_costs_nothing() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(5, roomy_period_s(60));
    for _ in 0..5 {
        cluster.ask(1, &Request::get("/v1/authorize/nonsense").bearer(&key.secret));
    }
    assert_eq!(cluster.ask(1, &key.validate()).expect(200).window().1, 4);
}
