//! The admin listener: creating, changing and revoking keys, the keys that each caller manages, and
//! the record of a key.

use serde_json::{Value, json};

use crate::contract::humantime_of;
use crate::support::cluster::Cluster;
use crate::support::command::{run, run_with_input};
use crate::support::keys::limit;
use crate::support::wait::unix_now;
use crate::support::{Answer, Key, Request, wait_until};

const FIELDS: [&str; 14] = [
    "id",
    "name",
    "prefix",
    "scope",
    "owner",
    "limits",
    "enabled",
    "status",
    "created_at",
    "created_by",
    "expires_at",
    "last_used_at",
    "metadata",
    "revision",
];

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn record(cluster: &Cluster, key: &Key) -> Value {
    cluster.admin(1, Request::get(&key.path())).expect(200).json()
}

fn patch(cluster: &Cluster, key: &Key, change: &Value) -> Answer {
    cluster.admin(1, Request::new("PATCH", &key.path()).json(change))
}

#[test]
fn a_key_is_shown_once_with_its_record() {
    let cluster = Cluster::start(3);
    let later = humantime_of(unix_now().as_secs() + 86_400);
    let body = json!({
        "name": "Production Sync", "scope": "write", "owner": "user_42", "expires_at": later,
        "limits": [{"name": "minute", "tokens": 5, "period": "1m"}], "metadata": {"team": "blue"},
    });
    let answer = cluster.admin(2, Request::post("/v1/keys").json(&body)).expect(201);
    let created = answer.json();
    let expected: Vec<&str> = [&["key"], &FIELDS[..], &["applied_on", "waited_ms"]].concat();
    assert_eq!(fields(&created), expected);
    assert_eq!(
        answer.header("etag"),
        Some("\"1\"").filter(|_| created["revision"] == 1),
        "{answer}"
    );
    let key = Key::of(&answer);
    assert!(key.secret.starts_with("fx_live_") && key.secret.len() == 70);
    assert_eq!(created["prefix"], key.secret[..20], "{created}");
    assert_eq!(created["limits"], limit_named("minute", 5, "60s"));
    for (field, value) in [
        ("status", json!("active")),
        ("enabled", json!(true)),
        ("created_by", json!("operator")),
        ("expires_at", json!(later)),
        ("last_used_at", Value::Null),
        ("owner", json!("user_42")),
        ("metadata", json!({"team": "blue"})),
        ("applied_on", json!([1, 2, 3])),
    ] {
        assert_eq!(created[field], value, "{field}: {created}");
    }
    for id in cluster.ids() {
        let read = cluster.admin(id, Request::get(&key.path())).expect(200);
        assert_eq!(fields(&read.json()), FIELDS);
        assert!(!read.text().contains(&key.secret));
        assert_eq!(read.header("etag"), answer.header("etag"));
    }
}

fn limit_named(name: &str, tokens: u64, period: &str) -> Value {
    json!([{"name": name, "tokens": tokens, "period": period}])
}

#[test]
fn an_invalid_create_is_rejected_and_creates_no_key() {
    let cluster = Cluster::start(1);
    let name = "x".repeat(101);
    let metadata: Value =
        (0..17).map(|at| (format!("m{at}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let limits: Vec<Value> =
        (0..9).map(|at| json!({"name": format!("l{at}"), "tokens": 1, "period": "1s"})).collect();
    for body in [
        json!({}),
        json!({"name": "a"}),
        json!({"scope": "read"}),
        json!({"name": "", "scope": "read"}),
        json!({"name": name, "scope": "read"}),
        json!({"name": "a\u{0}b", "scope": "read"}),
        json!({"name": "a\nb", "scope": "read"}),
        json!({"name": 7, "scope": "read"}),
        json!({"name": "a", "scope": "owner"}),
        json!({"name": "a", "scope": "read", "owner": ""}),
        json!({"name": "a", "scope": "read", "owner": "o".repeat(101)}),
        json!({"name": "a", "scope": "read", "colour": "red"}),
        json!({"name": "a", "scope": "read", "limits": []}),
        json!({"name": "a", "scope": "read", "limits": limits}),
        json!({"name": "a", "scope": "read", "limits": limit(0, 60)}),
        json!({"name": "a", "scope": "read", "limits": limit(1_000_000_001, 60)}),
        json!({"name": "a", "scope": "read", "limits": limit(1, 0)}),
        json!({"name": "a", "scope": "read", "limits": limit(1, 601)}),
        json!({"name": "a", "scope": "read", "limits": limit_named("a", 1, "1500ms")}),
        json!({"name": "a", "scope": "read", "limits": limit_named("a", 1, "soon")}),
        json!({"name": "a", "scope": "read", "limits": limit_named("A b", 1, "1s")}),
        json!({"name": "a", "scope": "read", "limits": [{"name": "a", "tokens": 1, "period": "1s"}, {"name": "a", "tokens": 2, "period": "2s"}]}),
        json!({"name": "a", "scope": "read", "limits": [{"name": "a", "tokens": 1, "period": "1s", "burst": 2}]}),
        json!({"name": "a", "scope": "read", "limits": [{"name": "a", "tokens": -1, "period": "1s"}]}),
        json!({"name": "a", "scope": "read", "expires_at": "tomorrow"}),
        json!({"name": "a", "scope": "read", "expires_at": 1_705_747_200}),
        json!({"name": "a", "scope": "read", "metadata": metadata}),
        json!({"name": "a", "scope": "read", "metadata": {"n": 1}}),
        json!({"name": "a", "scope": "read", "metadata": {"n": "v".repeat(513)}}),
    ] {
        let answer = cluster.admin(1, Request::post("/v1/keys").json(&body));
        assert_eq!(answer.status, 400, "{body}: {answer}");
        answer.expect_code(400, "invalid_request");
    }
    let list = cluster.admin(1, Request::get("/v1/keys")).expect(200);
    assert_eq!(list.text(), r#"{"keys":[],"next_cursor":null}"#);
}

#[test]
fn the_longest_names_and_metadata_are_accepted() {
    let cluster = Cluster::start(1);
    let metadata: serde_json::Map<String, Value> =
        (0..16).map(|at| (format!("m{at}"), json!("ü".repeat(512)))).collect();
    let body = json!({"name": "ü".repeat(100), "scope": "admin", "owner": "ö".repeat(100), "metadata": metadata});
    let key = cluster.create(1, &body);
    let answer = cluster.ask(1, &key.validate()).expect(200);
    assert_eq!(answer.must_header("x-auth-key-name"), "%C3%BC".repeat(100));
    assert_eq!(record(&cluster, &key)["metadata"], json!(metadata));
}

#[test]
fn keys_are_listed_newest_first_page_by_page() {
    let cluster = Cluster::start(3);
    let made: Vec<Key> = (0..25)
        .map(|at| {
            let owner = if at % 5 == 0 { "five" } else { "other" };
            cluster.create(
                1 + at % 3,
                &json!({"name": format!("Listed {at:02}"), "scope": "read", "owner": owner}),
            )
        })
        .collect();
    let newest_first: Vec<&str> = made.iter().rev().map(|key| key.id.as_str()).collect();
    for id in cluster.ids() {
        let mut seen = Vec::new();
        let mut path = "/v1/keys?limit=10".to_owned();
        loop {
            let page = cluster.admin(id, Request::get(&path)).expect(200).json();
            let keys = page["keys"].as_array().unwrap();
            assert!(keys.len() <= 10);
            seen.extend(keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/keys?limit=10&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, newest_first);
    }
    let count = |query: &str| {
        let page = cluster.admin(2, Request::get(&format!("/v1/keys?{query}"))).expect(200).json();
        page["keys"].as_array().unwrap().len()
    };
    assert_eq!(count("owner=five"), 5);
    assert_eq!(count("owner=none"), 0);
    assert_eq!(count("search=Listed%201"), 10);
    assert_eq!(count(&format!("search={}", &made[3].secret[..20])), 1);
    cluster.admin(1, Request::new("DELETE", &made[0].path())).expect(200);
    patch(&cluster, &made[1], &json!({"enabled": false})).expect(200);
    for (status, expected) in [("active", 23), ("disabled", 1), ("revoked", 1), ("expired", 0)] {
        assert_eq!(count(&format!("status={status}")), expected, "{status}");
    }
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "status=asleep",
        "cursor=nonsense",
        "colour=red",
        "limit=1&limit=2",
    ] {
        let answer = cluster.admin(1, Request::get(&format!("/v1/keys?{query}")));
        assert_eq!(answer.status, 400, "{query}: {answer}");
        answer.expect_code(400, "invalid_request");
    }
}

#[test]
fn a_guarded_change_applies_only_at_its_revision() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let first = cluster.admin(1, Request::get(&key.path())).expect(200);
    let etag = first.must_header("etag").to_owned();
    let guarded = |etag: &str, name: &str| {
        let request = Request::new("PATCH", &key.path()).header("if-match", etag);
        cluster.admin(1, request.json(&json!({ "name": name })))
    };
    let changed = guarded(&etag, "second").expect(200);
    assert_ne!(changed.must_header("etag"), etag);
    assert_eq!(changed.json()["applied_on"], json!([1]));
    guarded(&etag, "third").expect_code(412, "precondition_failed");
    assert_eq!(record(&cluster, &key)["name"], "second");
    // A weak tag never matches here (RFC 9110, section 13.1.1).
    let weak = format!("W/{}", changed.must_header("etag"));
    guarded(&weak, "never").expect_code(412, "precondition_failed");
    for wrong in ["\"99\"", "\"x\"", "x"] {
        let answer = guarded(wrong, "never");
        assert!(matches!(answer.status, 400 | 412), "{wrong}: {answer}");
        answer.assert_two_fields();
    }
    let change = json!({"scope": "read", "owner": null, "expires_at": "2099-01-01T00:00:00Z", "metadata": {"a": "b"}, "limits": limit(7, 30)});
    patch(&cluster, &key, &change).expect(200);
    let now = record(&cluster, &key);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(now[field], *value, "{field}: {now}");
    }
    patch(&cluster, &key, &json!({"expires_at": null, "metadata": null, "limits": null}))
        .expect(200);
    let now = record(&cluster, &key);
    assert_eq!(
        (&now["expires_at"], &now["metadata"], &now["limits"]),
        (&Value::Null, &json!({}), &limit(100, 60))
    );
    for wrong in [
        json!({"name": null}),
        json!({"scope": null}),
        json!({"enabled": null}),
        json!({"enabled": "no"}),
        json!({"id": "x"}),
        json!({"name": ""}),
        json!({"limits": []}),
        json!([]),
    ] {
        patch(&cluster, &key, &wrong).expect_code(400, "invalid_request");
    }
}

#[test]
fn a_rotated_secret_is_valid_for_its_grace_and_no_longer() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let rotate = |body: &Value| {
        cluster.admin(1, Request::post(&format!("{}/rotate", key.path())).json(body))
    };
    cluster.ask(1, &key.validate()).expect(200);
    let second = Key::of(&rotate(&json!({"grace": "2s"})).expect(200));
    assert_eq!(second.id, key.id);
    cluster.ask(1, &key.validate()).expect(200);
    let shared = cluster.ask(1, &second.validate()).expect(200);
    assert_eq!(shared.window().1, 97, "both secrets spend from one limit");
    wait_until("the grace ends", std::time::Duration::from_secs(10), || {
        cluster.ask(1, &key.validate_cost(0)).status == 401
    });
    cluster.ask(1, &second.validate()).expect(200);
    let third = Key::of(&rotate(&json!({})).expect(200));
    cluster.ask(1, &second.validate()).expect(401);
    cluster.ask(1, &third.validate()).expect(200);
    for wrong in [
        json!({"grace": "721h"}),
        json!({"grace": "-1s"}),
        json!({"grace": 5}),
        json!({"for": "1s"}),
    ] {
        rotate(&wrong).expect_code(400, "invalid_request");
    }
    cluster.ask(1, &third.validate()).expect(200);
}

/// A rotation promises that the previous secret stays valid for a grace period; a second rotation
/// does not silently break that promise.
#[test]
fn a_rotation_keeps_the_previous_grace_or_names_the_next_step() {
    let cluster = Cluster::start(3);
    let first = cluster.write_key();
    let rotate = |body: &Value| {
        cluster.admin(2, Request::post(&format!("{}/rotate", first.path())).json(body))
    };
    let admits = |key: &Key| cluster.ask(1, &key.validate_cost(0)).status == 200;
    assert_eq!(record(&cluster, &first)["previous_valid_until"], Value::Null);
    let rotated = rotate(&json!({"grace": "1h"})).expect(200);
    let until = rotated.json()["previous_valid_until"].as_str().unwrap().to_owned();
    let second = Key::of(&rotated);
    assert_eq!(record(&cluster, &first)["previous_valid_until"], *until);
    for body in [json!({}), json!({"grace": "1h"}), json!({"end_previous": false})] {
        let rejected = rotate(&body);
        assert!(rejected.text().contains(&until), "until when: {rejected}");
        assert!(rejected.text().contains("end_previous"), "and what to do: {rejected}");
        rejected.expect_code(409, "conflict");
    }
    assert!(admits(&first) && admits(&second));
    let (list, _) = run(&mut cluster.cli(3, &["keys", "show", &first.id]), 0);
    assert!(list.contains(&format!("valid until {until}")), "{list}");
    let (_, message) = run(&mut cluster.cli(3, &["keys", "rotate", &first.id]), 1);
    assert!(message.contains(&until), "{message}");

    let third = Key::of(&rotate(&json!({"grace": "1h", "end_previous": true})).expect(200));
    assert!(!admits(&first) && admits(&second) && admits(&third));
    let (fourth, _) = run(&mut cluster.cli(3, &["keys", "rotate", &first.id, "--end-previous"]), 0);
    assert!(!admits(&second) && !admits(&third));
    run_with_input(&mut cluster.cli(1, &["validate"]), &fourth, 0);
    // Without a grace period there was no promise.
    rotate(&json!({})).expect(200);
}

#[test]
fn a_revoked_key_stays_readable_and_cannot_come_back() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let revoked = cluster.admin(1, Request::new("DELETE", &key.path())).expect(200).json();
    assert_eq!((&revoked["status"], &revoked["applied_on"]), (&json!("revoked"), &json!([1])));
    assert_eq!(record(&cluster, &key)["status"], "revoked");
    patch(&cluster, &key, &json!({"enabled": true})).expect_code(409, "conflict");
    let rotate = Request::post(&format!("{}/rotate", key.path()));
    cluster.admin(1, rotate).expect_code(409, "conflict");
    let again = cluster.admin(1, Request::new("DELETE", &key.path()));
    assert!(matches!(again.status, 200 | 409), "{again}");
    cluster.ask(1, &key.validate()).expect(401);
}

#[test]
fn every_call_for_an_unknown_key_gets_a_404() {
    let cluster = Cluster::start(1);
    for id in ["key_000000000000", "key_x", "nonsense", "%00", "key_0000000000000"] {
        let path = format!("/v1/keys/{id}");
        for request in [
            Request::get(&path),
            Request::get(&format!("{path}/usage")),
            Request::new("PATCH", &path).json(&json!({"name": "x"})),
            Request::post(&format!("{path}/rotate")).json(&json!({})),
            Request::new("DELETE", &path),
        ] {
            cluster.admin(1, request).expect_code(404, "not_found");
        }
    }
}

#[test]
fn a_repeated_create_or_rotate_names_the_key_of_the_first() {
    let cluster = Cluster::start(1);
    let create = |name: &str| {
        let request = Request::post("/v1/keys").header("idempotency-key", "create-1");
        cluster.admin(1, request.json(&json!({"name": name, "scope": "read"})))
    };
    let key = Key::of(&create("once").expect(201));
    for (name, code) in [("once", "already_done"), ("another", "idempotency_key_reused")] {
        let again = create(name).expect_code(409, code);
        assert!(again.text().contains(&key.id), "{again}");
        assert!(!again.text().contains(&key.secret), "{again}");
    }
    let rotate = || {
        let request = Request::post(&format!("{}/rotate", key.path()));
        cluster.admin(1, request.header("idempotency-key", "rotate-1"))
    };
    let rotated = Key::of(&rotate().expect(200));
    rotate().expect_code(409, "already_done");
    cluster.ask(1, &rotated.validate()).expect(200);
    let long = Request::post("/v1/keys").header("idempotency-key", &"i".repeat(129));
    cluster
        .admin(1, long.json(&json!({"name": "a", "scope": "read"})))
        .expect_code(400, "invalid_request");
    let list = cluster.admin(1, Request::get("/v1/keys")).expect(200).json();
    assert_eq!(list["keys"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn bidirectional_controls_and_dates_out_of_range_are_rejected() {
    let cluster = Cluster::start(1);
    let create = |body: &Value| cluster.admin(1, Request::post("/v1/keys").json(body));
    for hidden in ['\u{202e}', '\u{2066}', '\u{7f}'] {
        let body = json!({"name": format!("a{hidden}b"), "scope": "read"});
        create(&body).expect_code(400, "invalid_request");
    }
    for (at, status) in [("9999-12-31T23:59:59Z", 201), ("+12020-04-06T00:00:00Z", 400)] {
        create(&json!({"name": "a", "scope": "read", "expires_at": at})).expect(status);
    }
}

#[test]
fn a_filtered_list_finds_old_keys_among_many_and_pages_through_them() {
    let cluster = Cluster::start(1);
    // More keys than a list walks in order, so that the rest is searched in another way.
    let many = 4_096 * 2;
    let line = |at: usize| {
        let digest = crate::transfer::sha256(&format!("many-{at}"));
        let name = if at % 100 == 7 { format!("Rare {at}") } else { format!("common {at}") };
        let owner = if at < 130 { "first" } else { "later" };
        json!({"sha256": digest, "name": name, "scope": "read", "owner": owner}).to_string()
    };
    let lines: Vec<String> = (0..many).map(line).collect();
    let file = cluster.dir().join("many.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    run(&mut cluster.cli(1, &["keys", "import", file.to_str().unwrap()]), 0);
    let names = |query: &str| {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/keys?limit=30&{query}{cursor}");
            let page = cluster.admin(1, Request::get(&path)).expect(200).json();
            let keys = page["keys"].as_array().unwrap().clone();
            assert!(keys.len() <= 30);
            names.extend(keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return names,
            }
        }
    };
    let rare: Vec<String> =
        (0..many).rev().filter(|at| at % 100 == 7).map(|at| format!("Rare {at}")).collect();
    assert_eq!(names("search=rARE"), rare, "each once, newest first");
    let first: Vec<String> = names("owner=first");
    assert_eq!(first.len(), 130);
    assert_eq!((&*first[0], &*first[129]), ("common 129", "common 0"));
    assert_eq!(names("search=nothing"), [] as [&str; 0]);
    assert_eq!(names("").len(), many);
}
