//! The real gateways, with the files of `config/gateways`, before a real cluster.
//!
//! Answers for: a client of each gateway sees exactly the answers of the contract; the application
//! learns the caller and never the key; a client's forged headers have no effect; connections to
//! the nodes are kept; what pages of another origin can request and read; and what the loss of
//! nodes costs a client.

mod application;
mod busy;
mod claims;
mod cors;
mod over_http2;
mod over_tls;
mod paths;
mod program;

use std::time::{Duration, Instant};

use serde_json::json;

use self::application::{Application, Seen};
use self::program::{Gateway, Kind, Lines};
use crate::support::cluster::{Cluster, metric_in};
use crate::support::keys::limit;
use crate::support::ports::Port;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Conn, Key, Request, wait_until};

/// Longest time until a gateway has noticed that a node is down or back.
const NOTICE: Duration = Duration::from_secs(10);
/// The timeout of one request to a node in every file, and room for a busy machine.
const ONE_TIMEOUT: Duration = Duration::from_millis(500 + 1_000);

/// A cluster, an application and a gateway between it and its clients.
struct Stage {
    gateway: Gateway,
    application: Application,
    cluster: Cluster,
    _claimed: Vec<Port>,
}

impl Stage {
    fn set(kind: Kind) -> Self {
        Self::set_with(kind, Lines::AsTheyStand)
    }

    #[track_caller]
    fn set_with(kind: Kind, lines: Lines<'_>) -> Self {
        let mut cluster = Cluster::plan(3, |_| {});
        let (nodes, claimed) = asked_ports(&mut cluster, kind);
        cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).spawn());
        cluster.wait_ready();
        Self::before(cluster, kind, &nodes, claimed, lines)
    }

    /// A gateway before nodes that are ready.
    #[track_caller]
    fn before(
        cluster: Cluster,
        kind: Kind,
        nodes: &[u16],
        claimed: Vec<Port>,
        lines: Lines<'_>,
    ) -> Self {
        let application = Application::start();
        let gateway = Gateway::start(kind, nodes, application.port(), lines);
        let stage = Self { gateway, application, cluster, _claimed: claimed };
        stage.wait_through();
        stage
    }

    /// Some gateways use a node only after a successful health check.
    #[track_caller]
    fn wait_through(&self) {
        let key = self.key("read", 1_000_000);
        wait_until("the gateway lets requests through", NOTICE, || {
            let answer = self.try_send(&get("/api/v1/ready").bearer(&key.secret));
            answer.is_some_and(|answer| answer.status == 200)
        });
        self.application.forget();
    }

    fn key(&self, scope: &str, tokens: u64) -> Key {
        let limits = limit(tokens, roomy_period_s(60));
        let body = json!({"name": "Café 1", "scope": scope, "owner": "user_42", "limits": limits});
        self.cluster.create(1, &body)
    }

    fn try_send(&self, request: &Request) -> Option<Answer> {
        request.try_send(self.gateway.address()).ok()
    }

    /// Sends until the gateway contacts this node again.
    #[track_caller]
    fn wait_asked(&self, node: u64, request: &Request) {
        let asked = || {
            let text = get("/metrics").send(self.cluster.node(node).at.admin).expect(200).text();
            metric_in(&text, "fluxgate_validate_requests_total", "")
        };
        let before = asked();
        wait_until("the gateway contacts the node again", NOTICE, || {
            self.send(request).expect(200);
            asked() > before
        });
    }

    #[track_caller]
    fn send(&self, request: &Request) -> Answer {
        request.send(self.gateway.address())
    }

    /// Sends, and returns the requests that the application saw.
    #[track_caller]
    fn pass(&self, request: &Request) -> (Answer, Vec<Seen>) {
        self.application.forget();
        let answer = self.send(request);
        (answer, self.application.seen())
    }
}

/// The node ports that a gateway uses in a planned cluster, with those claimed for it.
fn asked_ports(cluster: &mut Cluster, kind: Kind) -> (Vec<u16>, Vec<Port>) {
    if !kind.asks_by_grpc() {
        return (cluster.ids().iter().map(|&id| cluster.gateway(id).port()).collect(), Vec::new());
    }
    let claimed: Vec<Port> = cluster.ids().iter().map(|_| Port::claim()).collect();
    for (id, own) in cluster.ids().into_iter().zip(&claimed) {
        cluster.node_mut(id).settings.text("gateway", "grpc_listen", own.addr());
    }
    (claimed.iter().map(|own| own.addr().port()).collect(), claimed)
}

fn get(path: &str) -> Request {
    Request::get(path)
}

/// The exact answers, the headers that the application sees, and the effect of forged headers.
#[track_caller]
fn keeps_the_contract(kind: Kind) {
    let stage = Stage::set(kind);
    let (reader, admin) = (stage.key("read", 1_000_000), stage.key("admin", 1_000_000));

    for with_key in [get("/api/v1/connections?limit=5&q=a%2Fb").bearer(&reader.secret), {
        get("/api/v1/connections?limit=5&q=a%2Fb").header("x-api-key", &reader.secret)
    }] {
        let (answer, seen) = stage.pass(&with_key);
        assert_eq!((answer.status, answer.text().as_str()), (200, application::BODY), "{answer}");
        if kind.shows_limits_on_success() {
            let (tokens, remaining, _) = answer.window();
            assert_eq!(tokens, 1_000_000, "{answer}");
            assert!(remaining < tokens, "{answer}");
        } else {
            assert_eq!(answer.header("x-ratelimit-limit"), None, "not the application's: {answer}");
        }
        let [seen] = &*seen else { panic!("the application was asked {} times", seen.len()) };
        assert_eq!(seen.line, "GET /api/v1/connections?limit=5&q=a%2Fb", "{seen:?}");
        seen.assert_knows(&reader);
    }

    // A body arrives whole, and a write needs its scope.
    let body = "x".repeat(100_000);
    let (answer, seen) = stage.pass(&Request::post("/api/v1/x").bearer(&admin.secret).body(&*body));
    assert_eq!((answer.status, seen[0].body.len()), (200, body.len()), "{answer}");
    let (answer, seen) = stage.pass(&Request::post("/api/v1/x").bearer(&reader.secret));
    answer.assert_denied(403, "insufficient_scope", "This endpoint requires 'write' scope");
    let challenge = answer.must_header("www-authenticate");
    assert_eq!(challenge, r#"Bearer error="insufficient_scope", scope="write""#, "{answer}");
    assert!(seen.is_empty(), "{seen:?}");
    // A part of the API with a higher requirement needs its scope, too.
    let to_admin = get("/api/admin/users");
    let (answer, seen) = stage.pass(&to_admin.clone().bearer(&reader.secret));
    answer.assert_denied(403, "insufficient_scope", "This endpoint requires 'admin' scope");
    assert!(seen.is_empty(), "{seen:?}");
    assert_eq!(stage.send(&to_admin.bearer(&admin.secret)).status, 200);

    let invalid = "fx_live_AAAAAAAAAAAA_nonsense";
    for (request, challenge) in [
        (get("/api/v1/x"), "Bearer"),
        (get("/api/v1/x").bearer(invalid), r#"Bearer error="invalid_token""#),
        (get("/api/v1/x").header("x-api-key", invalid), r#"Bearer error="invalid_token""#),
        // Two different keys count as none.
        (
            get("/api/v1/x").bearer(&reader.secret).header("x-api-key", &admin.secret),
            r#"Bearer error="invalid_token""#,
        ),
    ] {
        let (answer, seen) = stage.pass(&request);
        answer.assert_denied(401, "authentication_failed", "Invalid or missing API key");
        assert_eq!(answer.must_header("www-authenticate"), challenge, "{answer}");
        assert_eq!(answer.window().1, 0, "{answer}");
        assert!(seen.is_empty(), "{seen:?}");
    }

    let spent = stage.key("read", 1);
    stage.send(&get("/api/v1/x").bearer(&spent.secret)).expect(200);
    let (answer, seen) = stage.pass(&get("/api/v1/x").bearer(&spent.secret));
    let seconds = answer.number("retry-after");
    let message = format!("Rate limit exceeded. Try again in {seconds} seconds.");
    answer.assert_denied(429, "rate_limit_exceeded", &message);
    assert_eq!((answer.window().0, answer.window().1), (1, 0), "{answer}");
    assert!(seen.is_empty(), "{seen:?}");

    claims::the_applications_own_authorization_arrives(&stage, &reader);
    claims::forged_headers_have_no_effect(&stage, &reader);
    paths::invalid_characters_reject_no_key(&stage, &reader);
    claims::no_spelling_of_forged_headers_arrives(&stage);
    claims::headers_named_in_connection_are_still_sent(&stage, &reader);
    claims::no_upgrade_is_tunnelled(&stage, &reader, kind);
    cors::nothing_of_it_is_answered(&stage, &reader);
    smuggled_requests_do_not_reach_the_application(&stage, &reader);
    paths::ambiguous_paths_reach_no_other_part(&stage, &reader);
    paths::all_that_is_read_as_admin_requires_it(&stage, &reader, &admin);
}

/// Requests whose end the gateway and the server behind it could see in different places: a request
/// hidden in the body of one with a key must not pass without a key.
fn smuggled_requests_do_not_reach_the_application(stage: &Stage, reader: &Key) {
    let hidden = "GET /api/admin/hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = hidden.len();
    let ends = [
        format!("content-length: {length}\r\ntransfer-encoding: chunked"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
        format!("transfer-encoding: xchunked\r\ncontent-length: {length}"),
        format!("transfer-encoding : chunked\r\ncontent-length: {length}"),
        format!("transfer-encoding: chunked, identity\r\ncontent-length: {length}"),
        format!("transfer-encoding:\x0bchunked\r\ncontent-length: {length}"),
        format!("content-length: 0\r\ncontent-length: {length}"),
        format!("content-length: +{length}"),
        format!("content-length: 0, {length}"),
    ];
    for end in ends {
        stage.application.forget();
        let text = format!(
            "GET /api/v1/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{end}\r\n\r\n0\r\n\r\n{hidden}",
            reader.secret
        );
        let mut conn = Conn::open(stage.gateway.address()).unwrap();
        conn.write(text.as_bytes()).unwrap();
        conn.finish().ok();
        // However the gateway reacts, the connection ends.
        conn.read_to_end().ok();
        for seen in stage.application.seen() {
            assert!(!seen.line.contains("admin"), "{end:?}: {seen:?}");
            assert!(seen.header("x-auth-key-id").is_some(), "{end:?}: {seen:?}");
        }
    }
}

/// 300 requests from six clients at once, with a key that has 100.
#[track_caller]
fn lets_exactly_the_limit_through(kind: Kind) {
    let stage = Stage::set(kind);
    let key = stage.key("read", 100);
    let connections = stage.gateway.connections();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let request = get("/api/v1/x").bearer(&key.secret);
                    (0..50).map(|_| stage.send(&request)).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((of(200), of(429)), (100, 200), "{kind:?}");
    assert_eq!(stage.application.seen().len(), 100, "{kind:?}");
    if kind.shows_limits_on_success() {
        let mut left: Vec<u64> = answers.iter().map(|answer| answer.window().1).collect();
        left.sort_unstable();
        assert_eq!((left[0], left.last()), (0, Some(&99)), "{kind:?}");
    }
    // New connections to the nodes for 300 requests: at most six clients' worth on each node.
    let opened = stage.gateway.connections() - connections;
    assert!(opened <= 6 * 3, "{kind:?} opened {opened} connections to the nodes for 300 requests");
}

/// The cost of lost nodes for clients that keep sending.
#[track_caller]
fn survives_the_loss_of_nodes(kind: Kind) {
    let mut stage = Stage::set(kind);
    let key = stage.key("read", 1_000_000);
    let request = get("/api/v1/x").bearer(&key.secret);
    let ask = |stage: &Stage, times: u32| {
        for at in 0..times {
            let began = Instant::now();
            let answer = stage.send(&request);
            assert_eq!(answer.status, 200, "{kind:?}, request {at}: {answer}");
            let took = began.elapsed();
            assert!(took < ONE_TIMEOUT, "{kind:?}, request {at} took {took:?}");
        }
    };
    ask(&stage, 30);
    stage.cluster.node_mut(2).kill();
    ask(&stage, 60);
    stage.cluster.restart(2);
    stage.wait_asked(2, &request);

    // A paused node delays a request by at most one timeout, and soon the gateway skips the node.
    stage.cluster.node(3).signal(rustix::process::Signal::STOP);
    ask(&stage, 60);
    wait_until("the paused node is left out", NOTICE, || {
        let began = Instant::now();
        (0..6).for_each(|_| drop(stage.send(&request).expect(200)));
        began.elapsed() < Duration::from_millis(300)
    });
    stage.cluster.node(3).signal(rustix::process::Signal::CONT);
    stage.cluster.wait_ready();
    stage.wait_asked(3, &request);

    // An orderly stop is announced, and after a node's 503 the gateway tries another node.
    stage.cluster.node_mut(1).stop();
    ask(&stage, 60);

    stage.cluster.node_mut(2).kill();
    stage.cluster.node_mut(3).kill();
    stage.application.forget();
    for _ in 0..10 {
        let answer = stage.send(&request);
        assert_eq!(answer.status, 503, "{kind:?}: {answer}");
        if kind.has_own_words() {
            answer.assert_two_fields();
            assert_eq!(answer.json()["error"], "unavailable", "{answer}");
            assert!(answer.number("retry-after") >= 1, "{answer}");
        }
    }
    assert!(stage.application.seen().is_empty(), "{kind:?} let a request through");

    for id in [1, 2, 3] {
        stage.cluster.node_mut(id).spawn();
    }
    stage.cluster.wait_ready();
    // The old key's remaining tokens of this window were lost with the nodes.
    let request = get("/api/v1/x").bearer(&stage.key("read", 100).secret);
    wait_until("the gateway has its nodes back", NOTICE, || {
        stage.try_send(&request).is_some_and(|answer| answer.status == 200)
    });
}

/// Envoy's rate limit service: limits without authorization, one limit over all nodes.
#[test]
fn limits_alone_are_kept_by_the_rate_limit_service() {
    let stage = Stage::set(Kind::EnvoyGrpc);
    let key = stage.key("read", 100);
    let send = |request: Request| request.send(stage.gateway.limits());
    stage.application.forget();
    let mut answers = Vec::new();
    for at in 0..150 {
        let request = get("/api/v1/x");
        answers.push(send(match at % 2 {
            0 => request.header("x-api-key", &key.secret),
            _ => request.bearer(&key.secret),
        }));
    }
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((admitted, stage.application.seen().len()), (100, 100));
    let denied = &answers[149];
    let message =
        format!("Rate limit exceeded. Try again in {} seconds.", denied.number("retry-after"));
    denied.assert_denied(429, "rate_limit_exceeded", &message);

    // One key in both headers is one request.
    let key = stage.key("read", 100);
    let both = get("/api/v1/x").bearer(&key.secret).header("x-api-key", &key.secret);
    let admitted = (0..120).filter(|_| send(both.clone()).status == 200).count();
    assert_eq!(admitted, 100);

    // The service has no answer of its own for an invalid key; it ignores a request without a key.
    let invalid = send(get("/api/v1/x").bearer("fx_live_AAAAAAAAAAAA_nonsense"));
    invalid.assert_denied(429, "authentication_failed", "Invalid or missing API key");
    send(get("/api/v1/x")).expect(200);
}

macro_rules! gateways {
    ($($name:ident: $kind:expr;)*) => {$(
        mod $name {
            use super::Kind;

            #[test]
            fn keeps_the_contract() {
                super::keeps_the_contract($kind);
            }

            #[test]
            fn lets_exactly_the_limit_through() {
                super::lets_exactly_the_limit_through($kind);
            }

            #[test]
            fn asks_over_tls() {
                super::over_tls::asks_over_tls($kind);
            }

            #[test]
            fn answers_browsers() {
                super::cors::answers_browsers($kind);
            }

            #[test]
            fn survives_the_loss_of_nodes() {
                super::survives_the_loss_of_nodes($kind);
            }
        }
    )*};
}

gateways! {
    nginx: Kind::Nginx;
    envoy: Kind::Envoy;
    envoy_grpc: Kind::EnvoyGrpc;
    traefik: Kind::Traefik;
    caddy: Kind::Caddy;
    haproxy: Kind::Haproxy;
}

impl Answer {
    /// Fails unless this is exactly the denial of the contract.
    #[track_caller]
    fn assert_denied(&self, status: u16, error: &str, message: &str) {
        self.clone().expect_error(status, error, message).window();
    }
}
