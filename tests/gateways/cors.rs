//! What pages of another origin can request and read in a browser, with the marked lines enabled
//! and without them.

use super::application::{WITH_CORS, WITH_VARY};
use super::program::{Kind, Lines};
use super::{Stage, get};
use crate::support::{Answer, Key, Request};

/// The origin that replaces the example in the files.
const PAGE: &str = "https://shop.example.org:8443";
const FOREIGN: [&str; 5] = [
    "https://app.example.com",
    "https://shop.example.org",
    "http://shop.example.org:8443",
    "https://shop.example.org:8443.example.com",
    "null",
];
const EXPOSED: [&str; 4] =
    ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Sends preflights with keys too, which no browser does, to show that they spend nothing.
const PREFLIGHTS: u64 = 12;

fn preflight(origin: &str, path: &str, method: &str) -> Request {
    let request = Request::new("OPTIONS", path).header("Origin", origin);
    request
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "authorization,x-api-key")
}

/// The words of a list in a header that occurs once.
#[track_caller]
fn words(answer: &Answer, name: &str) -> Vec<String> {
    answer.must_header(name).split(',').map(|word| word.trim().to_lowercase()).collect()
}

/// The words of all lines of `Vary`: it is a list, so an application's own line may be beside it.
fn vary(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.iter().filter(|(name, _)| name == "vary");
    let words = lines.flat_map(|(_, line)| line.split(','));
    words.map(|word| word.trim().to_lowercase()).collect()
}

/// Fails unless a page of the origin can read this answer, and each header occurs once.
#[track_caller]
fn assert_readable(answer: &Answer) {
    assert_eq!(answer.must_header("access-control-allow-origin"), PAGE, "{answer}");
    assert_eq!(words(answer, "access-control-expose-headers"), EXPOSED, "{answer}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
    assert!(vary(answer).contains(&"origin".to_owned()), "{answer}");
}

/// Fails unless a browser lets its page send the requested method.
#[track_caller]
fn assert_passed(answer: &Answer, method: &str) {
    assert!(matches!(answer.status, 200 | 204) && answer.body.is_empty(), "{answer}");
    assert_eq!(answer.must_header("access-control-allow-origin"), PAGE, "{answer}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
    let methods = words(answer, "access-control-allow-methods");
    assert!(methods.contains(&method.to_lowercase()), "{answer}");
    let headers = words(answer, "access-control-allow-headers");
    for name in ["authorization", "x-api-key", "content-type"] {
        assert!(headers.contains(&name.to_owned()), "{name}: {answer}");
    }
    assert!(answer.number("access-control-max-age") > 0, "{answer}");
}

/// Without the marked lines no answer has a CORS header but the application's own.
pub(super) fn nothing_of_it_is_answered(stage: &Stage, reader: &Key) {
    let example = "https://app.example.com";
    let (answer, seen) = stage.pass(&preflight(example, "/api/v1/x", "GET"));
    answer.assert_denied(401, "authentication_failed", "Invalid or missing API key");
    assert!(seen.is_empty(), "{seen:?}");
    let request = get("/api/v1/x").bearer(&reader.secret).header("Origin", example);
    for answer in [answer, stage.send(&request).expect(200)] {
        let of_cors = |name: &str| name.starts_with("access-control-") || name == "vary";
        assert!(!answer.headers.iter().any(|(name, _)| of_cors(name)), "{answer}");
    }
    let own = get(&format!("/api/v1{WITH_CORS}")).bearer(&reader.secret).header("Origin", example);
    let answer = stage.send(&own).expect(200);
    assert_eq!(answer.must_header("access-control-allow-origin"), "*", "{answer}");
}

/// With the marked lines enabled.
#[track_caller]
pub(super) fn answers_browsers(kind: Kind) {
    let mut stage = Stage::set_with(kind, Lines::Cors(PAGE));
    let reader = stage.key("read", 1_000_000);
    preflights_pass(&stage, &reader);
    preflights_spend_nothing(&stage, kind);
    other_requests_need_a_key(&stage, &reader);
    answers_are_readable(&stage, &reader, kind);
    denials_are_readable(&stage, &reader, kind);
    foreign_pages_read_nothing(&stage, &reader, kind);

    for id in [1, 2, 3] {
        stage.cluster.node_mut(id).kill();
    }
    let answer = stage.send(&get("/api/v1/x").bearer(&reader.secret).header("Origin", PAGE));
    assert_eq!(answer.status, 503, "{answer}");
    assert_readable(&answer);
    if kind.has_own_words() {
        assert!(answer.number("retry-after") >= 1, "{answer}");
    }
    // No node is asked about a preflight.
    assert_passed(&stage.send(&preflight(PAGE, "/api/v1/x", "GET")), "GET");
}

/// The gateway answers preflights itself, for any method, headers and credentials.
fn preflights_pass(stage: &Stage, reader: &Key) {
    for path in ["/api/v1/x", "/api/admin/users", "/api/v1/x?method=DELETE"] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let (answer, seen) = stage.pass(&preflight(PAGE, path, method));
            assert_passed(&answer, method);
            assert!(seen.is_empty(), "{seen:?}");
        }
    }
    // A preflight must not reach an application that would take it for another request.
    let hidden = "GET /api/admin/hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let request = preflight(PAGE, "/api/v1/x", "PUT").bearer(&reader.secret);
    for request in [
        request.clone().header("X-HTTP-Method-Override", "PUT"),
        request.clone().header("X-HTTP-Method", "DELETE"),
        request.clone().header("X-Original-URL", "/api/admin/users"),
        request.clone().header("X-Auth-Scope", "admin"),
        request.body(hidden),
    ] {
        let (answer, seen) = stage.pass(&request);
        assert_passed(&answer, "PUT");
        assert!(seen.is_empty(), "{seen:?}");
    }
}

/// A limit is exact, so one counted preflight would show.
fn preflights_spend_nothing(stage: &Stage, kind: Kind) {
    let key = stage.key("read", PREFLIGHTS);
    let request = get("/api/v1/x").bearer(&key.secret).header("Origin", PAGE);
    let remaining = || {
        let (answer, seen) = stage.pass(&request);
        assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
        if kind.shows_limits_on_success() {
            return answer.window().1;
        }
        let shown = seen[0].header("x-ratelimit-remaining").map(str::parse);
        shown.unwrap().unwrap()
    };
    let before = remaining();
    for _ in 0..PREFLIGHTS {
        let asked = preflight(PAGE, "/api/v1/x", "GET");
        assert_passed(&stage.send(&asked.clone().bearer(&key.secret)), "GET");
        assert_passed(&stage.send(&asked.header("x-api-key", &key.secret)), "GET");
    }
    // A node may not have heard yet what another node has spent: then it shows more.
    let after = remaining();
    assert!(after + 1 >= before, "{before} before the preflights, {after} after them");
    (2..PREFLIGHTS).for_each(|_| assert!(remaining() < PREFLIGHTS));
    stage.send(&request).expect(429);
}

/// Any other request needs a key, and reaches the application unchanged.
fn other_requests_need_a_key(stage: &Stage, reader: &Key) {
    let options = || Request::new("OPTIONS", "/api/v1/x");
    let asks = |request: Request, method| request.header("Access-Control-Request-Method", method);
    let ours = |request: Request| request.header("Origin", PAGE);
    for request in [options(), ours(options()), asks(options(), "PUT"), asks(ours(options()), "")] {
        let (answer, seen) = stage.pass(&request);
        answer.assert_denied(401, "authentication_failed", "Invalid or missing API key");
        assert!(seen.is_empty(), "{seen:?}");
        let (answer, seen) = stage.pass(&request.bearer(&reader.secret));
        assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
        seen[0].assert_knows(reader);
    }
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let request = asks(ours(Request::new(method, "/api/v1/x")), "GET");
        let (answer, seen) = stage.pass(&request);
        answer.assert_denied(401, "authentication_failed", "Invalid or missing API key");
        assert!(seen.is_empty(), "{seen:?}");
        assert_readable(&answer);
    }
    // Methods are case-sensitive.
    let request = asks(ours(Request::new("options", "/api/v1/x")), "GET");
    let (answer, seen) = stage.pass(&request);
    assert!((400..500).contains(&answer.status), "{answer}");
    assert!(seen.is_empty(), "{seen:?}");
}

/// Also when the application sends other CORS headers and `Vary`.
fn answers_are_readable(stage: &Stage, reader: &Key, kind: Kind) {
    for end in ["/x", WITH_CORS, WITH_VARY] {
        let request = get(&format!("/api/v1{end}")).bearer(&reader.secret);
        let (answer, seen) = stage.pass(&request.clone().header("Origin", PAGE));
        assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
        assert_eq!(seen[0].header("origin"), Some(PAGE), "{seen:?}");
        assert_readable(&answer);
        let without_origin = stage.send(&request).expect(200);
        assert_eq!(without_origin.header("access-control-allow-origin"), None, "{without_origin}");
        for answer in [answer, without_origin] {
            let words = vary(&answer);
            let of = |word: &str| words.iter().filter(|found| *found == word).count();
            assert_eq!(of("accept-encoding"), usize::from(end != "/x"), "{answer}");
            // Traefik adds its own headers to those of the application.
            let twice = kind == Kind::Traefik && end == WITH_CORS;
            assert_eq!(of("origin"), 1 + usize::from(twice), "{answer}");
        }
    }
}

fn denials_are_readable(stage: &Stage, reader: &Key, kind: Kind) {
    let send = |request: Request| stage.pass(&request.header("Origin", PAGE));
    let invalid = "fx_live_AAAAAAAAAAAA_nonsense";
    let spent = stage.key("read", 1);
    send(get("/api/v1/x").bearer(&spent.secret)).0.expect(200);
    for (request, status) in [
        (get("/api/v1/x"), 401),
        (get("/api/v1/x").bearer(invalid), 401),
        (Request::post("/api/v1/x").bearer(&reader.secret), 403),
        (get("/api/admin/users").bearer(&reader.secret), 403),
        (get("/api/v1/x").bearer(&spent.secret), 429),
    ] {
        let (answer, seen) = send(request);
        assert_eq!((answer.status, seen.len()), (status, 0), "{answer}");
        assert_readable(&answer);
        assert_eq!(vary(&answer), ["origin"], "{answer}");
        answer.window();
        assert!(status != 429 || answer.number("retry-after") >= 1, "{answer}");
    }
    // Envoy has no CORS for a route that is answered without a cluster.
    if !matches!(kind, Kind::Envoy | Kind::EnvoyGrpc) {
        let (answer, _) = send(get("/api/;/x").bearer(&reader.secret));
        assert_readable(&answer.expect(400));
    }
    if kind == Kind::EnvoyGrpc {
        let limits = stage.gateway.limits();
        assert_passed(&preflight(PAGE, "/api/v1/x", "PUT").send(limits), "PUT");
        let request = get("/api/v1/x").bearer(&spent.secret).header("Origin", PAGE);
        assert_readable(&request.send(limits).expect(429));
    }
}

/// A browser shows its page nothing without `Access-Control-Allow-Origin`.
fn foreign_pages_read_nothing(stage: &Stage, reader: &Key, kind: Kind) {
    for origin in FOREIGN {
        let (asked, seen) = stage.pass(&preflight(origin, "/api/v1/x", "GET"));
        // Traefik answers every preflight itself.
        assert_eq!(asked.status, if kind == Kind::Traefik { 200 } else { 401 }, "{asked}");
        assert!(seen.is_empty(), "{seen:?}");
        let read = get(&format!("/api/v1{WITH_CORS}")).bearer(&reader.secret);
        let read = stage.send(&read.header("Origin", origin)).expect(200);
        let denied = stage.send(&get("/api/v1/x").header("Origin", origin)).expect(401);
        for answer in [asked, read, denied] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{answer}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
        }
    }
}
