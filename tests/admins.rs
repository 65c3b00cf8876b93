//! The admin listener: who may manage which keys, and the contents of usage and audit.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, GATEWAY, OPERATOR, SECRET};
use crate::support::keys::limit;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Key, Request, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// Sends an administrator's request with an admin key.
fn by(cluster: &Cluster, key: &Key, request: Request) -> Answer {
    request.bearer(&key.secret).send(cluster.node(1).at.admin)
}

#[track_caller]
fn record(cluster: &Cluster, key: &Key) -> Value {
    cluster.admin(1, Request::get(&key.path())).expect(200).json()
}

#[test]
fn an_admin_key_manages_the_keys_of_its_own_owner_and_no_others() {
    let cluster = Cluster::start(1);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "ours"}));
    let (ours, theirs) = (
        cluster.create(1, &json!({"name": "o", "scope": "read", "owner": "ours"})),
        cluster.create(1, &json!({"name": "t", "scope": "read", "owner": "theirs"})),
    );
    let nobodys = cluster.create(1, &json!({"name": "n", "scope": "read"}));
    let list = by(&cluster, &admin, Request::get("/v1/keys")).expect(200).json();
    let ids: Vec<&str> =
        list["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [ours.id.as_str(), admin.id.as_str()]);
    let other_owner = by(&cluster, &admin, Request::get("/v1/keys?owner=theirs"));
    assert!(!other_owner.text().contains(&theirs.id), "{other_owner}");
    for foreign in [&theirs, &nobodys] {
        for request in [
            Request::get(&foreign.path()),
            Request::get(&format!("{}/usage", foreign.path())),
            Request::new("PATCH", &foreign.path()).json(&json!({"name": "mine"})),
            Request::post(&format!("{}/rotate", foreign.path())),
            Request::new("DELETE", &foreign.path()),
        ] {
            let answer = by(&cluster, &admin, request);
            assert!(matches!(answer.status, 403 | 404), "{answer}");
            answer.assert_two_fields();
        }
        assert_eq!(record(&cluster, foreign)["revision"], foreign.created["revision"]);
    }
    by(&cluster, &admin, Request::get(&ours.path())).expect(200);
    by(&cluster, &admin, Request::new("PATCH", &ours.path()).json(&json!({"name": "new"})))
        .expect(200);
    let made = by(
        &cluster,
        &admin,
        Request::post("/v1/keys").json(&json!({"name": "m", "scope": "write"})),
    )
    .expect(201)
    .json();
    assert_eq!((&made["owner"], &made["created_by"]), (&json!("ours"), &json!(admin.id)));
    let foreign = json!({"name": "m", "scope": "write", "owner": "theirs"});
    let rejected = by(&cluster, &admin, Request::post("/v1/keys").json(&foreign));
    assert!(matches!(rejected.status, 400 | 403), "{rejected}");
    let given =
        by(&cluster, &admin, Request::new("PATCH", &ours.path()).json(&json!({"owner": "theirs"})));
    assert!(matches!(given.status, 400 | 403), "{given}");
    let audit = by(&cluster, &admin, Request::get("/v1/audit")).expect(200).text();
    assert!(audit.contains(&ours.id) && !audit.contains(&theirs.id), "{audit}");
    let cluster_call = by(&cluster, &admin, Request::get("/v1/cluster"));
    assert_eq!(cluster_call.status, 403, "{cluster_call}");
    let challenge = cluster_call.must_header("www-authenticate");
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
}

#[test]
fn an_administrators_calls_count_against_its_own_limit() {
    let cluster = Cluster::start(1);
    let limits = limit(3, roomy_period_s(60));
    let admin =
        cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "o", "limits": limits}));
    for _ in 0..3 {
        by(&cluster, &admin, Request::get("/v1/keys")).expect(200);
    }
    let rejected =
        by(&cluster, &admin, Request::get("/v1/keys")).expect_code(429, "rate_limit_exceeded");
    assert!(rejected.number("retry-after") >= 1);
    cluster.ask(1, &admin.validate()).expect(429);
}

#[test]
fn every_admin_route_rejects_strangers_and_small_scopes() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let reader = cluster.create(1, &json!({"name": "r", "scope": "read"}));
    let admin_at = cluster.node(1).at.admin;
    let path = key.path();
    let routes = [
        Request::post("/v1/keys").json(&json!({"name": "a", "scope": "read"})),
        Request::get("/v1/keys"),
        Request::get(&path),
        Request::new("PATCH", &path).json(&json!({"name": "x"})),
        Request::post(&format!("{path}/rotate")),
        Request::new("DELETE", &path),
        Request::get(&format!("{path}/usage")),
        Request::get("/v1/audit"),
        Request::get("/v1/cluster"),
        Request::post("/v1/cluster/nodes").json(&json!({"id": 9, "peer": "127.0.0.1:1"})),
        Request::new("DELETE", "/v1/cluster/nodes/1"),
        Request::post("/v1/cluster/leader").json(&json!({})),
    ];
    let rejected = ("authentication_failed", "Invalid or missing API key");
    for route in routes.iter().chain([&Request::get("/v1/whoami")]) {
        let none = route.send(admin_at).expect_error(401, rejected.0, rejected.1);
        assert_eq!(none.header("www-authenticate"), Some("Bearer"), "{none}");
        for wrong in ["x", "operator-token-of-another-cluster", SECRET, GATEWAY] {
            let answer = route.clone().bearer(wrong).send(admin_at);
            let answer = answer.expect_error(401, rejected.0, rejected.1);
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer error=\"invalid_token\""),
                "{answer}"
            );
        }
        let twice = route.clone().bearer(OPERATOR).bearer(OPERATOR).send(admin_at);
        twice.expect_error(401, rejected.0, rejected.1);
    }
    for route in &routes {
        for small in [&reader, &key] {
            let answer = route.clone().bearer(&small.secret).send(admin_at);
            let message = "This endpoint requires 'admin' scope";
            answer.expect_error(403, "insufficient_scope", message);
        }
    }
    cluster.ask(1, &key.validate()).expect(200);
    for open in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        Request::get(open).send(admin_at).expect(200);
    }
}

#[test]
fn whoami_describes_the_credential() {
    let cluster = Cluster::start(1);
    let operator = cluster.admin(1, Request::get("/v1/whoami")).expect(200);
    assert_eq!(
        operator.text(),
        r#"{"kind":"operator","key_id":null,"name":null,"scope":"admin","owner":null}"#
    );
    let key = cluster.write_key();
    let shown = by(&cluster, &key, Request::get("/v1/whoami")).expect(200);
    assert_eq!(
        shown.text(),
        format!(
            r#"{{"kind":"key","key_id":"{}","name":"Production Sync","scope":"write","owner":"user_42"}}"#,
            key.id
        )
    );
    let by_header = Request::get("/v1/whoami").header("x-api-key", &key.secret);
    by_header.send(cluster.node(1).at.admin).expect(200);
}

#[test]
fn usage_shows_what_each_node_spent() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(90, roomy_period_s(60));
    for at in 0..12 {
        cluster.ask([1, 1, 2, 3][at % 4], &key.validate()).expect(200);
    }
    let usage = |id: u64| {
        cluster.admin(id, Request::get(&format!("{}/usage", key.path()))).expect(200).json()
    };
    for id in cluster.ids() {
        let shown = usage(id);
        let limit = &shown["limits"][0];
        assert_eq!(shown["key_id"], key.id, "{shown}");
        assert_eq!(
            (&limit["name"], &limit["limit"], &limit["spent"], &limit["remaining"]),
            (&json!("requests"), &json!(90), &json!(12), &json!(78)),
            "{shown}"
        );
        assert_eq!(
            limit["per_node"],
            json!([{"node": 1, "spent": 6}, {"node": 2, "spent": 3}, {"node": 3, "spent": 3}]),
            "{shown}"
        );
        assert!(limit["series"].as_array().unwrap().len() <= 60, "{shown}");
        assert!(shown["last_used_at"].is_string(), "{shown}");
    }
}

#[test]
fn the_audit_names_actor_and_action_and_never_a_secret() {
    let cluster = Cluster::start(3);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "o"}));
    let made = by(
        &cluster,
        &admin,
        Request::post("/v1/keys").json(&json!({"name": "m", "scope": "read"})),
    )
    .expect(201);
    let key = Key::of(&made);
    let change = Request::new("PATCH", &key.path()).json(&json!({"scope": "write"}));
    cluster.admin(2, change).expect(200);
    let rotated =
        Key::of(&cluster.admin(3, Request::post(&format!("{}/rotate", key.path()))).expect(200));
    cluster.admin(2, Request::new("DELETE", &key.path())).expect(200);
    for id in cluster.ids() {
        let answer = cluster.admin(id, Request::get("/v1/audit?limit=4")).expect(200);
        let audit = answer.json();
        let entries = audit["entries"].as_array().unwrap();
        let actions: Vec<&str> =
            entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["key.revoke", "key.rotate", "key.update", "key.create"], "{audit}");
        assert!(entries.iter().all(|entry| entry["key_id"] == key.id), "{audit}");
        let actors: Vec<&str> =
            entries.iter().map(|entry| entry["actor"].as_str().unwrap()).collect();
        assert_eq!(actors, ["operator", "operator", "operator", &*admin.id], "{audit}");
        assert!(
            entries.iter().all(|entry| entry["from"]
                .as_str()
                .is_some_and(|from| from.starts_with("127.0.0.1"))),
            "{audit}"
        );
        let cursor = audit["next_cursor"].as_str().unwrap();
        let next = cluster
            .admin(id, Request::get(&format!("/v1/audit?cursor={cursor}")))
            .expect(200)
            .json();
        assert_eq!(next["entries"][0]["key_id"], admin.id, "{next}");
        for secret in [&key.secret, &rotated.secret, &admin.secret] {
            assert!(!answer.text().contains(&secret[21..]), "{answer}");
        }
    }
}

#[test]
fn logs_metrics_and_records_contain_no_secret() {
    let cluster = Cluster::start_with(3, |settings| {
        settings.text("telemetry", "log", "trace");
        Cluster::gateway_token_file(settings);
    });
    let key = cluster.create(2, &json!({"name": "a", "scope": "admin", "owner": "o"}));
    let rotated =
        Key::of(&cluster.admin(3, Request::post(&format!("{}/rotate", key.path()))).expect(200));
    for id in cluster.ids() {
        for secret in [&key.secret, &rotated.secret] {
            let validate = Request::post("/v1/validate").header("x-gateway-token", GATEWAY);
            cluster.ask(id, &validate.clone().bearer(secret));
            cluster.ask(id, &validate.json(&json!({ "key": secret })));
        }
        cluster.ask(
            id,
            &rotated.validate().raw_json(&format!("{{\"scope\":\"{}\"}}", rotated.secret)),
        );
        by(&cluster, &rotated, Request::get("/v1/keys"));
    }
    for id in cluster.ids() {
        let metrics = Request::get("/metrics").send(cluster.node(id).at.admin).text();
        let list = cluster.admin(id, Request::get("/v1/keys")).text();
        let log = cluster.node(id).log_text();
        assert!(log.len() > 100, "node {id} logs nothing");
        for secret in [&key.secret[21..64], &rotated.secret[21..64], OPERATOR, GATEWAY, SECRET] {
            for (place, text) in [("metrics", &metrics), ("list", &list), ("log", &log)] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "the {place} of node {id} contains a secret");
            }
        }
        for public in [&key.id[4..], "owner=\"o\""] {
            assert!(!metrics.contains(public), "a key or an owner is a label");
        }
    }
}

/// Replaces the operator's and the gateways' tokens on running nodes: both old and new are accepted
/// for a while, and no caller is rejected.
#[test]
fn tokens_are_replaced_without_a_restart() {
    const NEW: &str = "another-token-of-enough-characters";
    let mut cluster = Cluster::plan(1, |_| {});
    let gateway = cluster.dir().join("gateway");
    cluster.node_mut(1).settings.text("gateway", "token_file", gateway.display());
    cluster.node_mut(1).spawn();
    cluster.wait_ready();
    let operators = cluster.dir().join("operator");
    let accepted = |token: &str| {
        let at = &cluster.node(1).at;
        let admin = Request::get("/v1/keys").bearer(token).send(at.admin).status == 200;
        // After the gateway token was accepted, a request without a key gets the 401 for a missing
        // key.
        let asked = Request::post("/v1/validate").header("x-gateway-token", token).send(at.gateway);
        (admin, asked.json()["error"] == "authentication_failed")
    };
    let exchange = |text: &str| {
        std::fs::write(&operators, text).unwrap();
        std::fs::write(&gateway, text.replace(OPERATOR, GATEWAY)).unwrap();
        cluster.node(1).signal(Signal::HUP);
    };
    assert_eq!((accepted(OPERATOR), accepted(GATEWAY)), ((true, false), (false, true)));
    exchange(&format!("{NEW}\n{OPERATOR}\n"));
    wait_until("the new token is accepted", SOON, || accepted(NEW) == (true, true));
    assert_eq!((accepted(OPERATOR), accepted(GATEWAY)), ((true, false), (false, true)));
    // An invalid file changes nothing.
    exchange("short");
    wait_until("the log says so", SOON, || {
        cluster.node(1).log_text().matches("tokens not reloaded").count() == 2
    });
    assert_eq!((accepted(OPERATOR), accepted(NEW)), ((true, false), (true, true)));
    exchange(NEW);
    wait_until("the old token is rejected", SOON, || !accepted(OPERATOR).0 && !accepted(GATEWAY).1);
    assert_eq!(accepted(NEW), (true, true));
    for secret in [NEW, OPERATOR, GATEWAY] {
        assert!(!cluster.node(1).log_text().contains(secret), "the log contains a token");
    }
}
