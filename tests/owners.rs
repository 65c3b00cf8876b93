//! Owners: what all keys of an owner may use together, exactly and on every node, and whether they are
//! accepted at all.

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::http::Answer;
use crate::support::load::Burst;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request};

fn path(owner: &str) -> String {
    format!("/v1/owners/{owner}")
}

fn set(cluster: &Cluster, node: u64, owner: &str, body: &Value) -> Answer {
    cluster.admin(node, Request::new("PUT", &path(owner)).json(body))
}

fn limits(tokens: u64, period_s: u64) -> Value {
    json!([{"name": "pool", "tokens": tokens, "period": format!("{period_s}s")}])
}

/// Keys of an owner with this limit each.
fn keys(cluster: &Cluster, owner: &str, count: usize, tokens: u64, period_s: u64) -> Vec<Key> {
    let key = |n: usize| {
        let period = format!("{period_s}s");
        let body = json!({
            "name": format!("key {n}"),
            "scope": "write",
            "owner": owner,
            "limits": [{"name": "requests", "tokens": tokens, "period": period}],
        });
        cluster.create(1, &body)
    };
    (0..count).map(key).collect()
}

/// Requests of ten keys of an owner at once, at the node that `node` chooses: the number admitted of
/// each key. Fails if a denial was not proven.
fn burst(
    cluster: &Cluster,
    keys: &[Key],
    demand: usize,
    node: impl Fn(usize) -> usize,
) -> Vec<usize> {
    let nodes = cluster.addresses();
    let requests: Vec<_> = (0..demand)
        .map(|at| {
            let request = keys[at % keys.len()].validate();
            (nodes[node(at) % nodes.len()].gateway, request)
        })
        .collect();
    let answers = Burst::default().send(&requests);
    let mut admitted = vec![0; keys.len()];
    for (at, answer) in answers.iter().enumerate() {
        match answer.status {
            200 => admitted[at % keys.len()] += 1,
            429 => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    admitted
}

#[test]
fn ten_keys_of_an_owner_share_three_hundred_on_any_number_of_nodes() {
    for count in [1, 3, 5] {
        let cluster = Cluster::start(count);
        for (at, node) in
            [|at| at, |_| 0, |at: usize| if at % 5 == 4 { at } else { 0 }].iter().enumerate()
        {
            let (owner, period_s) = (format!("acme {at}"), roomy_period_s(60));
            set(&cluster, 1, &owner.replace(' ', "%20"), &json!({"limits": limits(300, period_s)}))
                .expect(201);
            let keys = keys(&cluster, &owner, 10, 100, period_s);
            let admitted = burst(&cluster, &keys, 3_000, node);
            assert_eq!(admitted.iter().sum::<usize>(), 300, "{count} nodes: {admitted:?}");
            assert!(admitted.iter().all(|one| *one <= 100), "{count} nodes: {admitted:?}");
        }
        cluster.assert_none_degraded();
    }
}

#[test]
fn a_request_takes_from_its_key_and_its_owner_or_from_neither() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    set(&cluster, 2, "acme", &json!({"limits": limits(5, period_s)})).expect(201);
    let own = keys(&cluster, "acme", 2, 3, period_s);
    let ask = |key: &Key, cost| cluster.ask(1, &key.validate_cost(cost));
    // More than the owner ever allows, though not more than the key: an error that names the limit.
    let dear = keys(&cluster, "acme", 1, 100, period_s).remove(0);
    let answer = ask(&dear, 6).expect(400);
    assert!(answer.text().contains("owner/pool"), "{}", answer.text());
    assert_eq!(ask(&own[0], 3).expect(200).must_header("x-ratelimit-name"), "requests");
    let denied = ask(&own[0], 1).expect(429);
    assert_eq!(denied.must_header("x-ratelimit-name"), "requests");
    // The owner has two left: a request for three is denied, and nothing of its key is gone.
    let denied = ask(&own[1], 3).expect(429);
    assert_eq!(denied.must_header("x-ratelimit-name"), "owner/pool");
    assert_eq!(
        (denied.number("x-ratelimit-limit"), denied.number("x-ratelimit-remaining")),
        (5, 2)
    );
    assert!((1..=period_s).contains(&denied.number("retry-after")));
    ask(&own[1], 2).expect(200);
    ask(&own[1], 1).expect(429);
}

#[test]
fn a_disabled_owner_disables_its_keys_on_every_node_once_the_answer_is_there() {
    let cluster = Cluster::start(3);
    let keys = keys(&cluster, "acme", 3, 1_000, 60);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "acme"}));
    set(&cluster, 1, "acme", &json!({})).expect(201);
    for round in 0..3 {
        for (enabled, status) in [(false, 401), (true, 200)] {
            let body = json!({ "enabled": enabled });
            let node = 1 + round % 3;
            cluster.admin(node, Request::new("PATCH", &path("acme")).json(&body)).expect(200);
            for node in 1..=3 {
                keys.iter().for_each(|key| {
                    cluster.ask(node, &key.validate()).expect(status);
                });
                let me = Request::get("/v1/whoami").bearer(&admin.secret);
                me.send(cluster.node(node).at.admin).expect(status);
            }
        }
    }
    // A key without this owner is not concerned.
    let body = json!({"enabled": false});
    cluster.admin(1, Request::new("PATCH", &path("acme")).json(&body)).expect(200);
    cluster.ask(1, &cluster.write_key().validate()).expect(200);
}

#[test]
fn records_are_read_changed_listed_and_deleted() {
    let cluster = Cluster::start(3);
    let body = json!({"limits": limits(9, 60), "metadata": {"plan": "gold"}});
    let made = set(&cluster, 2, "acme", &body).expect(201);
    assert_eq!(made.must_header("etag"), "\"1\"");
    let record = made.json();
    assert_eq!((&record["owner"], &record["enabled"]), (&json!("acme"), &json!(true)));
    assert_eq!(record["applied_on"].as_array().unwrap().len(), 3);
    assert_eq!((&record["limits"], &record["metadata"]), (&body["limits"], &body["metadata"]));
    let read = cluster.admin(3, Request::get(&path("acme"))).expect(200);
    assert_eq!(read.json()["revision"], 1);

    // Absent fields stay; a PUT replaces all.
    let change = Request::new("PATCH", &path("acme")).json(&json!({"enabled": false}));
    let changed = cluster.admin(1, change.clone().header("If-Match", "\"1\"")).expect(200).json();
    assert_eq!((&changed["limits"], &changed["revision"]), (&body["limits"], &json!(2)));
    cluster.admin(1, change.header("If-Match", "\"1\"")).expect_code(412, "precondition_failed");
    let replaced = set(&cluster, 1, "acme", &json!({})).expect(200).json();
    assert_eq!((&replaced["limits"], &replaced["enabled"]), (&json!([]), &json!(true)));

    for name in ["b", "d", "c"] {
        set(&cluster, 1, name, &json!({})).expect(201);
    }
    let page = |query: &str| cluster.admin(2, Request::get(&format!("/v1/owners{query}")));
    let names = |page: &Value| -> Vec<String> {
        let owners = page["owners"].as_array().unwrap().iter();
        owners.map(|one| one["owner"].as_str().unwrap().to_owned()).collect()
    };
    let first = page("?limit=3").expect(200).json();
    assert_eq!(names(&first), ["acme", "b", "c"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    cluster.admin(1, Request::new("DELETE", &path("c"))).expect(200);
    let second = page(&format!("?limit=3&cursor={cursor}")).expect(200).json();
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["d".to_owned()], &Value::Null));
    cluster.admin(3, Request::get(&path("c"))).expect_code(404, "not_found");
    cluster.admin(3, Request::new("DELETE", &path("c"))).expect_code(404, "not_found");
    for query in ["?cursor=c-zz", "?cursor=c-", "?cursor=x", "?limit=0", "?limit=201", "?a=1"] {
        page(query).expect_code(400, "invalid_request");
    }
    let trail = cluster.admin(1, Request::get("/v1/audit")).expect(200).text();
    assert!(trail.contains("owner.set") && trail.contains("owner.delete"), "{trail}");
}

#[test]
fn only_the_operator_writes_owners_and_bad_records_change_nothing() {
    let cluster = Cluster::start(1);
    set(&cluster, 1, "acme", &json!({"limits": limits(9, 60)})).expect(201);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "acme"}));
    let as_admin = |request: Request| request.bearer(&admin.secret).send(cluster.node(1).at.admin);
    as_admin(Request::get(&path("acme"))).expect(200);
    for request in [
        Request::get(&path("other")),
        Request::get("/v1/owners"),
        Request::new("PUT", &path("acme")).json(&json!({})),
        Request::new("PATCH", &path("acme")).json(&json!({})),
        Request::new("DELETE", &path("acme")),
    ] {
        as_admin(request).expect_code(403, "insufficient_scope");
    }
    Request::get("/v1/owners").send(cluster.node(1).at.admin).expect(401);
    let twice = json!([
        {"name": "a", "tokens": 1, "period": "60s"},
        {"name": "a", "tokens": 2, "period": "60s"},
    ]);
    for (body, field) in [
        (json!({"limits": twice}), "limits"),
        (json!({"limits": [{"name": "a", "tokens": 0, "period": "60s"}]}), "limits"),
        (json!({"limits": [{"name": "a", "tokens": 1, "period": "1h"}]}), "limits"),
        (json!({"limits": null}), "limits"),
        (json!({"enabled": "yes"}), "enabled"),
        (json!({"metadata": {"": "x"}}), "metadata"),
        (json!({"plans": 1}), "plans"),
    ] {
        let answer = set(&cluster, 1, "acme", &body).expect_code(400, "invalid_request");
        assert!(answer.text().contains(field), "{body}: {}", answer.text());
    }
    set(&cluster, 1, "%20", &json!({})).expect_code(400, "invalid_request");
    set(&cluster, 1, &"x".repeat(101), &json!({})).expect_code(400, "invalid_request");
    let record = cluster.admin(1, Request::get(&path("acme"))).expect(200).json();
    assert_eq!(record["revision"], 1);
}

#[test]
fn a_backup_has_the_owners_and_a_restore_brings_them_back() {
    let (from, to) = (Cluster::start(1), Cluster::start(3));
    set(&from, 1, "acme", &json!({"limits": limits(9, 60), "enabled": false})).expect(201);
    let key = keys(&from, "acme", 1, 5, 60).remove(0);
    let backup = from.admin(1, Request::get("/v1/cluster/backup")).expect(200).text();
    let lines: Vec<&str> = backup.lines().collect();
    assert!(lines[0].contains("\"format\":3"), "an earlier version must not read it: {}", lines[0]);
    let body = lines[1..lines.len() - 1].join("\n");
    let restore = || {
        let request = Request::post("/v1/cluster/restore").body(body.clone());
        to.admin(2, request.header("Content-Type", "application/x-ndjson")).expect(200).json()
    };
    assert_eq!(restore()["refused"], 0);
    let record = to.admin(3, Request::get(&path("acme"))).expect(200).json();
    assert_eq!((&record["enabled"], &record["limits"]), (&json!(false), &limits(9, 60)));
    to.ask(1, &key.validate()).expect(401);
    // What is there stays.
    set(&to, 1, "acme", &json!({})).expect(200);
    assert_eq!(restore()["refused"], 0);
    let record = to.admin(3, Request::get(&path("acme"))).expect(200).json();
    assert_eq!((&record["enabled"], &record["revision"]), (&json!(true), &json!(2)));
    to.ask(1, &key.validate()).expect(200);
}
