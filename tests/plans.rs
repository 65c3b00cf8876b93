//! Plans and pools: limits that many keys share by name, ceilings over several keys, limits that count
//! some requests only, and limits that only watch.

use std::collections::BTreeMap;
use std::time::Duration;

use fluxgate_types::id::mix64;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::http::Answer;
use crate::support::load::Burst;
use crate::support::wait::{roomy_period_s, wait_until};
use crate::support::{Key, Request};

fn put(cluster: &Cluster, node: u64, path: &str, body: &Value) -> Answer {
    cluster.admin(node, Request::new("PUT", path).json(body))
}

fn patch(cluster: &Cluster, node: u64, path: &str, body: &Value) -> Answer {
    cluster.admin(node, Request::new("PATCH", path).json(body))
}

fn limit(name: &str, tokens: u64, period_s: u64) -> Value {
    json!({"name": name, "tokens": tokens, "period": format!("{period_s}s")})
}

fn key_with(cluster: &Cluster, fields: &Value) -> Key {
    let mut body = json!({"name": "k", "scope": "write"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    cluster.create(1, &body)
}

/// Name, tokens and source of each limit in force.
fn effective(cluster: &Cluster, node: u64, key: &Key) -> BTreeMap<String, (u64, String)> {
    let path = format!("{}?include=effective", key.path());
    let record = cluster.admin(node, Request::get(&path)).expect(200).json();
    let all = record["effective"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["name"]), (one["tokens"].as_u64().unwrap(), text(&one["from"]))))
        .collect()
}

/// Tokens by name; none takes the limit of a farther level away.
type Level = BTreeMap<String, Option<u64>>;

/// The rule in a few lines: the closest level that says something of a name decides.
fn oracle(
    key: Option<&Level>,
    plan: Option<(&str, &Level)>,
    default: &Level,
) -> BTreeMap<String, (u64, String)> {
    let removes = |level: &Level| level.values().any(Option::is_none);
    let complete = plan.is_none() && key.is_some_and(|key| !removes(key));
    let mut levels = Vec::new();
    levels.extend(key.map(|key| ("key".to_owned(), key)));
    levels.extend(plan.map(|(name, plan)| (format!("plan:{name}"), plan)));
    if !complete {
        levels.push(("plan:default".to_owned(), default));
    }
    let mut found = BTreeMap::new();
    for (from, level) in levels {
        for (name, tokens) in level {
            found.entry(name.clone()).or_insert(tokens.map(|tokens| (tokens, from.clone())));
        }
    }
    found.into_iter().filter_map(|(name, one)| Some((name, one?))).collect()
}

fn entries(level: &Level) -> Value {
    let one = |(name, tokens): (&String, &Option<u64>)| match tokens {
        Some(tokens) => limit(name, *tokens, 60),
        None => json!({"name": name, "tokens": null}),
    };
    level.iter().map(one).collect()
}

#[test]
fn the_limits_in_force_are_those_of_the_closest_level_that_names_them() {
    let cluster = Cluster::start(3);
    let mut drawn = 0;
    let mut below = |most: u64| {
        drawn += 1;
        mix64(drawn) % most
    };
    let mut level = |may_remove: bool, least: usize| -> Level {
        let mut level = Level::new();
        while level.len() < least || below(3) > 0 && level.len() < 4 {
            let name = ["a", "b", "c", "d", "e"][usize::try_from(below(5)).unwrap()];
            let removes = may_remove && below(4) == 0;
            let tokens = 1 + below(1_000);
            level.insert(name.to_owned(), (!removes).then_some(tokens));
        }
        level
    };
    let mut default = level(false, 1);
    put(&cluster, 1, "/v1/plans/default", &json!({"limits": entries(&default)})).expect(200);
    let names = ["gold", "silver", "iron"];
    let mut plans: BTreeMap<&str, Level> = BTreeMap::new();
    for name in names {
        plans.insert(name, level(true, 0));
        let body = json!({"limits": entries(&plans[name])});
        put(&cluster, 1, &format!("/v1/plans/{name}"), &body).expect(201);
    }
    let mut keys = Vec::new();
    for at in 0..24 {
        let own = (at % 3 > 0).then(|| level(at % 2 == 0, 1));
        let plan = (at % 4 > 0).then(|| names[at % 3]);
        let found = oracle(own.as_ref(), plan.map(|name| (name, &plans[name])), &default);
        let mut body = json!({"name": "k", "scope": "write"});
        if let Some(own) = &own {
            body["limits"] = entries(own);
        }
        if let Some(plan) = plan {
            body["plan"] = json!(plan);
        }
        let made = cluster.admin(1, Request::post("/v1/keys").json(&body));
        if found.is_empty() {
            made.expect_code(400, "invalid_request");
            continue;
        }
        keys.push((Key::of(&made.expect(201)), own, plan));
    }
    // Also after the plans, and then the default plan, have changed.
    for round in 0..3 {
        for (at, (key, own, plan)) in keys.iter().enumerate() {
            let expected = oracle(own.as_ref(), plan.map(|name| (name, &plans[name])), &default);
            // Where nothing would be left, nothing is taken away.
            if !expected.is_empty() {
                let node = 1 + at as u64 % 3;
                assert_eq!(effective(&cluster, node, key), expected, "{own:?} {plan:?}");
            }
        }
        if round == 0 {
            for name in names {
                plans.insert(name, level(true, 1));
                let body = json!({"limits": entries(&plans[name])});
                patch(&cluster, 2, &format!("/v1/plans/{name}"), &body).expect(200);
            }
        } else {
            default = level(false, 1);
            let body = json!({"limits": entries(&default)});
            patch(&cluster, 3, "/v1/plans/default", &body).expect(200);
        }
    }
}

#[test]
fn a_changed_plan_is_in_force_on_every_node_when_the_answer_is_there() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let plan = |tokens| json!({"limits": [limit("requests", tokens, period_s)]});
    put(&cluster, 1, "/v1/plans/gold", &plan(1_000)).expect(201);
    let keys: Vec<Key> = (0..6).map(|_| key_with(&cluster, &json!({"plan": "gold"}))).collect();
    for (at, tokens) in [50, 2_000, 7, 300].into_iter().enumerate() {
        let answer = put(&cluster, 1 + at as u64 % 3, "/v1/plans/gold", &plan(tokens)).expect(200);
        assert_eq!(answer.json()["applied_on"].as_array().unwrap().len(), 3);
        for node in 1..=3 {
            for key in &keys {
                let shown = cluster.ask(node, &key.validate_cost(0));
                assert_eq!(shown.number("x-ratelimit-limit"), tokens, "node {node}");
            }
        }
    }
    // What was counted stays counted: the window is the same.
    let spent = cluster.ask(1, &keys[0].validate_cost(100)).expect(200);
    assert_eq!(spent.number("x-ratelimit-remaining"), 200);
    put(&cluster, 1, "/v1/plans/gold", &plan(400)).expect(200);
    cluster.ask(2, &keys[0].validate_cost(301)).expect(429);
    cluster.ask(3, &keys[0].validate_cost(300)).expect(200);
}

#[test]
fn ten_keys_of_two_pools_take_from_both_or_from_none() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let pool = |tokens| json!({"limits": [limit("requests", tokens, period_s)]});
    put(&cluster, 1, "/v1/pools/backend", &pool(300)).expect(201);
    put(&cluster, 2, "/v1/pools/region.eu", &pool(200)).expect(201);
    let body = json!({"limits": [limit("requests", 100, period_s)], "pools": ["backend"]});
    put(&cluster, 3, "/v1/plans/gold", &body).expect(201);
    // Half of the keys have their own pools, the others those of the plan.
    let keys: Vec<Key> = (0..10)
        .map(|at| {
            let own = json!({"plan": "gold", "pools": ["backend", "region.eu"]});
            key_with(&cluster, &if at % 2 == 0 { own } else { json!({"plan": "gold"}) })
        })
        .collect();
    let nodes = cluster.addresses();
    let requests: Vec<_> =
        (0..3_000).map(|at| (nodes[at % 3].gateway, keys[at / 3 % 10].validate())).collect();
    let mut admitted = [0; 10];
    for (at, answer) in Burst::default().send(&requests).iter().enumerate() {
        match answer.status {
            200 => admitted[at / 3 % 10] += 1,
            429 => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let of_two: usize = admitted.iter().step_by(2).sum();
    assert!(admitted.iter().all(|one| *one <= 100) && of_two <= 200, "{admitted:?}");
    assert_eq!(admitted.iter().sum::<usize>(), 300, "{admitted:?}");
    // The smaller pool had room left exactly for what was not admitted from it.
    let left = cluster.ask(1, &keys[0].validate()).expect(429);
    assert_eq!(left.must_header("x-ratelimit-name"), "pool/backend");
    put(&cluster, 1, "/v1/pools/backend", &pool(3_000)).expect(200);
    let key = key_with(
        &cluster,
        &json!({"pools": ["region.eu"], "limits": [limit("r", 1_000, period_s)]}),
    );
    let room = 200 - of_two as u64;
    cluster.ask(2, &key.validate_cost(room + 1)).expect(if room + 1 > 200 { 400 } else { 429 });
    if room > 0 {
        cluster.ask(3, &key.validate_cost(room)).expect(200);
    }
    let denied = cluster.ask(1, &key.validate()).expect(429);
    assert_eq!(denied.must_header("x-ratelimit-name"), "pool/region.eu");
    cluster.assert_none_degraded();
}

#[test]
fn a_limit_with_scopes_counts_only_requests_that_require_them() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let mut writes = limit("writes", 2, period_s);
    writes["scopes"] = json!(["write", "admin"]);
    let limits = json!([limit("requests", 10, period_s), writes]);
    let key = key_with(&cluster, &json!({"limits": limits}));
    let ask = |node, scope: &str| cluster.ask(node, &key.validate_scope(scope));
    for node in 1..=2 {
        ask(node, "write").expect(200);
    }
    let denied = ask(3, "write").expect(429);
    assert_eq!(denied.must_header("x-ratelimit-name"), "writes");
    for _ in 0..8 {
        let read = ask(1, "read").expect(200);
        assert_eq!(read.number("x-ratelimit-limit"), 10);
    }
    ask(2, "read").expect(429);
    // A request that no limit counts is admitted.
    let mut only = limit("writes", 1, period_s);
    only["scopes"] = json!(["write"]);
    let key = key_with(&cluster, &json!({"limits": [only]}));
    for _ in 0..3 {
        cluster.ask(1, &key.validate_scope("read")).expect(200);
    }
    cluster.ask(1, &key.validate_scope("write")).expect(200);
    cluster.ask(2, &key.validate_scope("write")).expect(429);
    cluster.ask(3, &key.validate()).expect(200);
}

#[test]
fn a_limit_in_mode_shadow_counts_and_never_denies() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let mut watch = limit("watch", 30, period_s);
    watch["mode"] = json!("shadow");
    let limits = json!([limit("requests", 1_000, period_s), watch]);
    let key = key_with(&cluster, &json!({"limits": limits}));
    let record = cluster.admin(1, Request::get(&key.path())).expect(200).json();
    assert_eq!(record["limits"], limits);
    let nodes = cluster.addresses();
    let requests: Vec<_> = (0..90).map(|at| (nodes[at % 3].gateway, key.validate())).collect();
    for answer in Burst::default().send(&requests) {
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, 1_000));
        assert!(answer.header("x-ratelimit-name").is_none(), "a hidden limit is shown");
    }
    // Exactly those above thirty, over all nodes, and each with a proof.
    wait_until("sixty would have been denied", Duration::from_secs(10), || {
        let denied =
            cluster.metric("fluxgate_shadow_denied_total", "limit=\"watch\",proof=\"proven\"");
        assert!(denied <= 60.0, "{denied}");
        (denied - 60.0).abs() < 0.5
    });
    assert!(cluster.metric("fluxgate_shadow_denied_total", "proof=\"unproven\"") < 0.5);
    // A key with nothing else is never denied, and its answers show no limit.
    let mut only = limit("only", 1, period_s);
    only["mode"] = json!("shadow");
    let key = key_with(&cluster, &json!({"limits": [only]}));
    for node in 1..=3 {
        let answer = cluster.ask(node, &key.validate()).expect(200);
        assert!(answer.header("x-ratelimit-limit").is_none());
    }
}

#[test]
fn records_in_use_stay_and_records_that_do_not_exist_are_named() {
    let cluster = Cluster::start(1);
    let body = json!({"limits": [limit("requests", 5, 60)]});
    put(&cluster, 1, "/v1/pools/backend", &body).expect(201);
    put(&cluster, 1, "/v1/plans/gold", &json!({"pools": ["backend"]})).expect(201);
    let key = key_with(&cluster, &json!({"plan": "gold"}));
    put(&cluster, 1, "/v1/owners/acme", &json!({"plan": "gold"})).expect(201);
    let delete = |path: &str| cluster.admin(1, Request::new("DELETE", path));
    let why = delete("/v1/plans/gold").expect_code(409, "conflict").text();
    assert!(why.contains("1 keys and 1 owners"), "{why}");
    let why = delete("/v1/pools/backend").expect_code(409, "conflict").text();
    assert!(why.contains("0 keys and 1 plans"), "{why}");
    delete("/v1/plans/default").expect_code(409, "conflict");
    let plan = cluster.admin(1, Request::get("/v1/plans/gold")).expect(200).json();
    assert_eq!((&plan["keys"], &plan["owners"]), (&json!(1), &json!(1)));
    // A revoked key still names its plan; its erased record does not.
    patch(&cluster, 1, &key.path(), &json!({"plan": null})).expect(200);
    put(&cluster, 1, "/v1/owners/acme", &json!({})).expect(200);
    delete("/v1/plans/gold").expect(200);
    delete("/v1/pools/backend").expect(200);
    for (method, path, body, said) in [
        ("POST", "/v1/keys", json!({"name": "k", "scope": "read", "plan": "gold"}), "gold"),
        ("POST", "/v1/keys", json!({"name": "k", "scope": "read", "plan": "Gold"}), "plan"),
        (
            "POST",
            "/v1/keys",
            json!({"name": "k", "scope": "read", "pools": ["backend"]}),
            "backend",
        ),
        (
            "POST",
            "/v1/keys",
            json!({"name": "k", "scope": "read", "pools": ["a", "b", "c"]}),
            "pools",
        ),
        ("PATCH", &*key.path(), json!({"plan": "gold"}), "gold"),
        ("PUT", "/v1/owners/acme", json!({"plan": "gold"}), "gold"),
        ("PUT", "/v1/plans/new", json!({"pools": ["backend"]}), "backend"),
        ("PUT", "/v1/plans/new", json!({"limits": [{"name": "a", "tokens": 1}]}), "period"),
        ("PUT", "/v1/plans/new", json!({"limits": [{"name": "a"}]}), "tokens"),
        (
            "PUT",
            "/v1/plans/new",
            json!({"limits": [{"name": "a", "tokens": null, "period": "1s"}]}),
            "a",
        ),
        ("PUT", "/v1/plans/new", json!({"plan": "gold"}), "plan"),
        ("PUT", "/v1/plans/New", json!({}), "plan"),
        ("PUT", "/v1/plans/default", json!({}), "default"),
        ("PUT", "/v1/pools/new", json!({}), "limits"),
        ("PUT", "/v1/pools/new", json!({"limits": []}), "limits"),
    ] {
        let request = Request::new(method, path).json(&body);
        let answer = cluster.admin(1, request).expect_code(400, "invalid_request");
        assert!(answer.text().contains(said), "{path} {body}: {}", answer.text());
    }
    cluster.admin(1, Request::get("/v1/plans/new")).expect_code(404, "not_found");
    cluster.admin(1, Request::get("/v1/pools/new")).expect_code(404, "not_found");
}

#[test]
fn the_default_plan_is_the_file_at_first_and_the_operators_from_then_on() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    let plan = cluster.admin(1, Request::get("/v1/plans/default")).expect(200).json();
    let shown = cluster.ask(1, &key.validate_cost(0)).expect(200);
    assert_eq!(plan["limits"][0]["tokens"], shown.number("x-ratelimit-limit"));
    let body = json!({"limits": [limit("requests", 77, 60)]});
    put(&cluster, 2, "/v1/plans/default", &body).expect(200);
    for id in cluster.ids() {
        cluster.node_mut(id).stop();
        cluster.restart(id);
    }
    for node in 1..=3 {
        let shown = cluster.ask(node, &key.validate_cost(0)).expect(200);
        assert_eq!(shown.number("x-ratelimit-limit"), 77, "node {node}");
    }
}

#[test]
fn a_backup_has_plans_and_pools_and_a_restore_brings_them_back() {
    let (from, to) = (Cluster::start(1), Cluster::start(3));
    let body = json!({"limits": [limit("requests", 5, 60)]});
    put(&from, 1, "/v1/pools/backend", &body).expect(201);
    let gold = json!({
        "limits": [limit("burst", 3, 60), {"name": "requests", "tokens": null}],
        "pools": ["backend"],
        "exposes": ["team"],
    });
    put(&from, 1, "/v1/plans/gold", &gold).expect(201);
    put(&from, 1, "/v1/plans/default", &json!({"limits": [limit("requests", 9, 60)]})).expect(200);
    put(&from, 1, "/v1/owners/acme", &json!({"plan": "gold"})).expect(201);
    let mut writes = limit("writes", 2, 60);
    writes["scopes"] = json!(["write"]);
    let fields = json!({"plan": "gold", "pools": [], "limits": [writes]});
    let key = key_with(&from, &fields);
    let backup = from.admin(1, Request::get("/v1/cluster/backup")).expect(200).text();
    let lines: Vec<&str> = backup.lines().collect();
    let body = lines[1..lines.len() - 1].join("\n");
    let request = Request::post("/v1/cluster/restore").body(body);
    let request = request.header("Content-Type", "application/x-ndjson");
    let answer = to.admin(2, request).expect(200).json();
    assert_eq!(answer["refused"], 0, "{answer}");
    for path in ["/v1/plans/gold", "/v1/plans/default", "/v1/pools/backend", "/v1/owners/acme"] {
        let strip = |cluster: &Cluster| {
            let mut record = cluster.admin(1, Request::get(path)).expect(200).json();
            for field in ["created_at", "changed_at", "revision"] {
                record[field] = Value::Null;
            }
            record
        };
        assert_eq!(strip(&to), strip(&from), "{path}");
    }
    assert_eq!(effective(&to, 3, &key), effective(&from, 1, &key));
    let record = to.admin(2, Request::get(&key.path())).expect(200).json();
    assert_eq!((&record["plan"], &record["pools"]), (&json!("gold"), &json!([])));
    assert_eq!(record["limits"][0]["scopes"], json!(["write"]));
}

/// A pool is a ceiling over keys of several owners: an administrator of one owner must not lift its keys
/// out of it.
#[test]
fn only_the_operator_gives_keys_a_plan_or_pools() {
    let cluster = Cluster::start(1);
    let body = json!({"limits": [limit("requests", 5, 60)]});
    put(&cluster, 1, "/v1/pools/backend", &body).expect(201);
    put(&cluster, 1, "/v1/plans/gold", &json!({"pools": ["backend"]})).expect(201);
    let fields = json!({"owner": "acme", "plan": "gold"});
    let key = key_with(&cluster, &fields);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "acme"}));
    let as_admin = |method: &str, path: &str, body: &Value| {
        let request = Request::new(method, path).json(body).bearer(&admin.secret);
        request.send(cluster.node(1).at.admin)
    };
    for change in [
        json!({"pools": []}),
        json!({"pools": null}),
        json!({"plan": null}),
        json!({"plan": "gold"}),
        json!({"plan": "unknown"}),
    ] {
        as_admin("PATCH", &key.path(), &change).expect_code(403, "insufficient_scope");
    }
    for field in [json!({"plan": "unknown"}), json!({"pools": ["backend"]})] {
        let mut body = json!({"name": "k", "scope": "read"});
        body.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        as_admin("POST", "/v1/keys", &body).expect_code(403, "insufficient_scope");
    }
    // Everything else of its keys is still its own.
    as_admin("PATCH", &key.path(), &json!({"name": "other"})).expect(200);
    let record = cluster.admin(1, Request::get(&key.path())).expect(200).json();
    assert_eq!((&record["plan"], &record["name"]), (&json!("gold"), &json!("other")));
    // A request out of scope shows all limits that it would be charged to.
    for _ in 0..5 {
        cluster.ask(1, &key.validate()).expect(200);
    }
    let denied = cluster.ask(1, &key.validate_scope("admin")).expect(403);
    assert_eq!(denied.must_header("x-ratelimit-name"), "pool/backend");
    assert_eq!(denied.number("x-ratelimit-remaining"), 0);
    for path in ["/v1/plans/%2E%2E", "/v1/pools/%2E", "/v1/owners/%2E%2E"] {
        let answer = put(&cluster, 1, path, &json!({"limits": []}));
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
}
