//! Attacks: every route without a credential and with too small a scope, floods, thousands of
//! connections, HTTP/2 streams that are reset at once; and no secret shows anywhere.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, OPERATOR, SECRET, operator};
use crate::support::command::{fluxgate, run};
use crate::support::keys::limit;
use crate::support::load::Burst;
use crate::support::ports::Port;
use crate::support::wait::roomy_period_s;
use crate::support::{Conn, Key, Request, wait_until};

/// Idle connections.
const IDLE: usize = 10_000;
/// Invalid keys that are tried.
const FLOOD: usize = 60_000;
/// How much a node may grow under either, bytes.
const GROWTH_MAX: f64 = 64.0 * 1024.0 * 1024.0;

/// Every operation of the document that needs a credential, with the ids in its path filled in.
fn operations(key: &Key) -> Vec<(String, String, Value)> {
    let (document, _) = run(&mut fluxgate(&["openapi"]), 0);
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.replace("/keys/{id}", &format!("/keys/{}", key.id));
            let path = path.replace("{id}", "3").replace("{requirement}", "admin");
            found.push((method.to_uppercase(), path, operation["security"].clone()));
        }
    }
    assert!(found.len() > 30, "{}", found.len());
    found
}

fn resident(cluster: &Cluster, node: u64) -> f64 {
    let text = Request::get("/metrics").send(cluster.node(node).at.admin).expect(200).text();
    let line = text.lines().find(|line| line.starts_with("process_resident_memory_bytes "));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn no_route_of_administrators_opens_without_the_right_credential() {
    let cluster = Cluster::start(1);
    let victim = cluster.create(1, &json!({"name": "victim", "scope": "read", "owner": "a"}));
    let own = |scope: &str, owner: &str| {
        let limits = limit(1_000_000, 60);
        cluster.create(1, &json!({"name": scope, "scope": scope, "owner": owner, "limits": limits}))
    };
    let (reader, writer, other) = (own("read", "a"), own("write", "a"), own("admin", "b"));
    let at = cluster.node(1).at.admin;
    let before = cluster.admin(1, Request::get(&victim.path())).expect(200).json();
    let mut guarded = 0;
    for (method, path, security) in operations(&victim) {
        if path.starts_with("/v1/validate") || path.starts_with("/v1/authorize") {
            continue;
        }
        let open = security.as_array().is_some_and(|all| all.iter().any(|one| one == &json!({})));
        let request = || Request::new(&method, &path);
        let bare = request().send(at);
        if open {
            assert_eq!(bare.status, 200, "{method} {path}: {bare}");
            continue;
        }
        guarded += 1;
        let message = "Invalid or missing API key";
        bare.expect_error(401, "authentication_failed", message);
        for wrong in ["wrong", "fx_live_AAAAAAAAAAAA_nonsense", &OPERATOR[1..], SECRET] {
            request().bearer(wrong).send(at).expect_error(401, "authentication_failed", message);
            let key = request().header("x-api-key", wrong).send(at);
            key.expect_error(401, "authentication_failed", message);
        }
        if path == "/v1/whoami" {
            continue;
        }
        for small in [&reader, &writer] {
            let answer = request().bearer(&small.secret).send(at);
            answer.expect_code(403, "insufficient_scope");
        }
        // An admin key of another owner sees nothing of this key, and nothing of the cluster.
        let answer = request().bearer(&other.secret).send(at);
        let of_all = path.starts_with("/v1/cluster") || path == "/v1/keys/import";
        if of_all {
            answer.expect_code(403, "insufficient_scope");
        } else if path.contains(&victim.id) {
            answer.expect_code(404, "not_found");
        }
    }
    assert!(guarded >= 15, "{guarded} operations are guarded");
    assert_eq!(cluster.admin(1, Request::get(&victim.path())).expect(200).json(), before);
}

#[test]
fn no_call_of_peers_is_served_without_the_secret() {
    let cluster = Cluster::start(1);
    let node = cluster.node(1).at;
    let text = Request::get("/metrics").send(node.admin).expect(200).text();
    // Each call has a time series, so this test cannot miss a new one.
    let calls: std::collections::BTreeSet<&str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("fluxgate_peer_requests_total{call=\"")?.split('"').next()
        })
        .collect();
    assert!(calls.len() >= 14, "{calls:?}");
    for call in calls {
        let path = format!("/peer/v1/{call}");
        let named = |secret: &str| {
            Request::post(&path)
                .bearer(secret)
                .header("x-fluxgate-cluster", "fluxcascade")
                .header("x-fluxgate-from", "2")
                .header("x-fluxgate-to", "1")
                .body("x")
        };
        Request::post(&path).body("x").send(node.peer).expect_code(401, "authentication_failed");
        for wrong in ["", OPERATOR, &SECRET[1..], "Bearer"] {
            named(wrong).send(node.peer).expect_code(401, "authentication_failed");
        }
        // With the secret, a body that is not a message is rejected.
        let garbage = named(SECRET).send(node.peer);
        // These calls have no content that could be wrong.
        let without_content =
            matches!(call, "status" | "served" | "introduce") && garbage.status == 200;
        assert!(without_content || matches!(garbage.status, 400 | 503), "{call}: {garbage}");
    }
    Request::get("/readyz").send(node.gateway).expect(200);
}

#[test]
fn a_flood_of_invalid_keys_costs_no_memory_and_no_valid_key() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(1_000_000, roomy_period_s(60));
    let to = cluster.gateway(1);
    let mut burst = Burst::default();
    let shapes = ["fx_live_AAAAAAAAAAAA_nonsense", "foreign", ""];
    let mut flood = |from: usize, count: usize| {
        for start in (from..from + count).step_by(512) {
            let wave: Vec<(SocketAddr, Request)> = (start..start + 512)
                .map(|n| {
                    (to, Request::post("/v1/validate").bearer(&format!("{}{n}", shapes[n % 3])))
                })
                .collect();
            assert!(burst.send(&wave).iter().all(|answer| answer.status == 401));
        }
    };
    flood(0, 10_000);
    let before = resident(&cluster, 1);
    flood(10_000, FLOOD / 2);
    cluster.ask(1, &key.validate()).expect(200);
    flood(10_000 + FLOOD / 2, FLOOD / 2);
    cluster.ask(1, &key.validate()).expect(200);
    let grown = resident(&cluster, 1) - before;
    assert!(grown < GROWTH_MAX / 4.0, "{grown} bytes for {FLOOD} invalid keys");
}

#[test]
fn ten_thousand_idle_connections_keep_no_client_out() {
    // This process holds the clients' ends; the node holds its own.
    let files = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: files.maximum, maximum: files.maximum };
    setrlimit(Resource::Nofile, wanted).unwrap();
    assert!(files.maximum.is_none_or(|most| most > IDLE as u64 + 1_000), "ulimit -Hn is too low");
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(1_000_000, roomy_period_s(60));
    let to = cluster.gateway(1);
    let before = resident(&cluster, 1);
    let mut idle = Vec::with_capacity(IDLE);
    for at in 0..IDLE {
        let mut conn = TcpStream::connect(to).unwrap();
        // Half of them have begun to send.
        if at % 2 == 0 {
            conn.write_all(b"POST /v1/validate HTTP/1.1\r\nhost: x\r\n").unwrap();
        }
        idle.push(conn);
    }
    let began = Instant::now();
    for _ in 0..50 {
        cluster.ask(1, &key.validate()).expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?} for 50 requests", began.elapsed());
    let grown = resident(&cluster, 1) - before;
    // Memory for headers is allocated when they arrive, not before.
    assert!(grown < 4.0 * GROWTH_MAX, "{grown} bytes for {IDLE} connections");
    // Connections that began to send are closed; the others may stay.
    wait_until("a connection with unfinished headers is closed", Duration::from_secs(30), || {
        idle[0].set_nonblocking(true).unwrap();
        // Data to read, or the end.
        match idle[0].peek(&mut [0; 1]) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    });
    drop(idle);
    cluster.ask(1, &key.validate()).expect(200);
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Opens a stream and resets it at once (CVE-2023-44487), again and again.
fn reset_streams(to: SocketAddr, count: u32) -> std::io::Result<()> {
    // `:method: POST`, `:scheme: http`, `:path: /` of the static table, and `:authority: x`.
    let head = [0x83, 0x86, 0x84, 0x41, 0x01, b'x'];
    let mut conn = TcpStream::connect(to)?;
    conn.set_write_timeout(Some(Duration::from_secs(5)))?;
    conn.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    conn.write_all(&frame(4, 0, 0, &[]))?;
    for at in 0..count {
        let stream = 2 * at + 1;
        let mut both = frame(1, 4, stream, &head);
        both.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
        conn.write_all(&both)?;
    }
    Ok(())
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection_and_nothing_else() {
    let mut cluster = Cluster::plan(1, |_| {});
    let grpc = Port::claim();
    cluster.node_mut(1).settings.text("gateway", "grpc_listen", grpc.addr());
    cluster.node_mut(1).spawn();
    cluster.wait_ready();
    let key = cluster.limited_key(1_000_000, roomy_period_s(60));
    let before = resident(&cluster, 1);
    let ended = (0..20).filter(|_| reset_streams(grpc.addr(), 20_000).is_err()).count();
    assert!(ended > 0, "a client that resets all its streams is not disconnected");
    cluster.ask(1, &key.validate()).expect(200);
    let grown = resident(&cluster, 1) - before;
    assert!(grown < GROWTH_MAX, "{grown} bytes for 400 000 streams");
    // Input that is not HTTP/2 does no harm, either.
    for garbage in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x16\x03\x01", &[0; 4096]] {
        let mut conn = TcpStream::connect(grpc.addr()).unwrap();
        conn.write_all(garbage).unwrap();
    }
    cluster.node_mut(1).assert_alive();
    // HTTP/1 listeners have no such problem: an HTTP/2 preface gets an answer or a closed
    // connection.
    reset_streams(cluster.gateway(1), 100).ok();
    cluster.ask(1, &key.validate()).expect(200);
}

#[test]
fn logs_metrics_and_answers_show_no_secret() {
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.text("telemetry", "log", "trace,h2=info,hyper=info");
    });
    let key = cluster.write_key();
    let rotate = Request::post(&format!("{}/rotate", key.path()));
    let fresh = Key::of(&cluster.admin(2, rotate.json(&json!({"grace": "1h"}))).expect(200));
    let secrets = [key.secret.clone(), fresh.secret.clone()];
    for secret in &secrets {
        for node in cluster.ids() {
            cluster.ask(node, &Request::post("/v1/validate").bearer(secret)).expect(200);
            cluster.ask(node, &Request::get("/v1/authorize/read").header("x-api-key", secret));
            // In places where they do not belong.
            let query = Request::get(&format!("/v1/validate?key={secret}"));
            cluster.ask(node, &query);
            let body = json!({"key": secret, "scope": secret});
            cluster.ask(node, &Request::post("/v1/validate").json(&body));
            cluster
                .ask(node, &Request::post("/v1/validate").raw_json(&format!("{{\"k\": {secret}")));
            cluster.admin(node, Request::get(&format!("/v1/keys/{secret}")));
            cluster.admin(node, Request::get("/v1/keys").header("x-api-key", secret));
        }
    }
    Request::get("/v1/cluster").bearer(&OPERATOR.replace('o', "0")).send(cluster.node(1).at.admin);
    cluster.node_mut(3).stop();
    cluster.restart(3);
    // At this level every call between nodes is logged; wait for it, because a fast machine is done
    // too soon.
    wait_until("the log is long", Duration::from_secs(20), || {
        cluster.node(1).log_text().lines().count() > 100
    });
    let mut seen = Vec::new();
    for node in cluster.ids() {
        seen.push(cluster.node(node).log_text());
        seen.push(Request::get("/metrics").send(cluster.node(node).at.admin).text());
        for path in ["/v1/keys", "/v1/audit", "/v1/cluster"] {
            seen.push(operator(Request::get(path)).send(cluster.node(node).at.admin).text());
        }
        let (config, _) = run(
            &mut fluxgate(&[
                "check-config",
                "--config",
                &cluster.node(node).config.display().to_string(),
            ]),
            0,
        );
        seen.push(config);
    }
    assert!(seen[0].lines().count() > 100, "the log is at its most verbose level");
    let digests = secrets.iter().map(|secret| crate::transfer::sha256(secret));
    let all = secrets.iter().cloned().chain([OPERATOR.to_owned(), SECRET.to_owned()]);
    for secret in all.chain(digests) {
        for text in &seen {
            let line = text.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "a secret shows: {line:?}");
        }
    }
    // The second half of a key is the secret part.
    let tail = &secrets[0][21..];
    assert!(seen.iter().all(|text| !text.contains(tail)));
    drop(Conn::open(cluster.gateway(1)));
}
