//! Batches of validates: the order of the results, counting within a batch, and the bounds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Request};

fn batch(cluster: &Cluster, requests: &Value) -> Answer {
    let body = json!({ "requests": requests });
    cluster.ask(1, &Request::post("/v1/validate/batch").json(&body))
}

#[test]
fn a_batch_returns_status_and_body_in_order() {
    let cluster = Cluster::start(1);
    let (key, reader) =
        (cluster.write_key(), cluster.create(1, &json!({"name": "r", "scope": "read"})));
    let answer = batch(
        &cluster,
        &json!([
            {"key": key.secret},
            {"key": "nonsense"},
            {"key": reader.secret, "scope": "write"},
            {},
            {"key": key.secret, "cost": 98},
            {"key": key.secret, "cost": 2},
            {"key": key.secret, "cost": 101},
            {"key": key.secret},
            {"key": key.secret, "cost": 0},
        ]),
    );
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let results = body["results"].as_array().unwrap();
    let statuses: Vec<u64> =
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 401, 403, 401, 200, 429, 400, 200, 429], "{answer}");
    let reset = results[0]["reset"].as_u64().unwrap();
    let admitted = |remaining: u64| {
        format!(
            r#"{{"status":200,"valid":true,"key_id":"{}","name":"Production Sync","owner":"user_42","scope":"write","limit":100,"remaining":{remaining},"reset":{reset}}}"#,
            key.id
        )
    };
    assert_eq!(results[0].to_string(), admitted(99));
    assert_eq!(
        results[1].to_string(),
        r#"{"status":401,"error":"authentication_failed","message":"Invalid or missing API key"}"#
    );
    assert_eq!(
        results[2].to_string(),
        r#"{"status":403,"error":"insufficient_scope","message":"This endpoint requires 'write' scope"}"#
    );
    assert_eq!(results[4].to_string(), admitted(1));
    assert_eq!(results[5]["error"], "rate_limit_exceeded");
    assert_eq!(results[6]["error"], "invalid_request");
    assert_eq!(results[7].to_string(), admitted(0));
    // A peek shows the verdict that a request of cost 1 would get.
    assert_eq!(results[8]["error"], "rate_limit_exceeded");
}

#[test]
fn entries_for_one_key_count_in_order() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(30, roomy_period_s(60));
    let body = json!({"requests": vec![json!({"key": key.secret}); 50]});
    let answer = cluster.ask(2, &Request::post("/v1/validate/batch").json(&body)).expect(200);
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> =
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (0..50).map(|at| if at < 30 { 200 } else { 429 }).collect();
    assert_eq!(statuses, expected, "{answer}");
    cluster.assert_none_degraded();
}

#[test]
fn a_batch_is_bounded() {
    let cluster = Cluster::start(1);
    let key = cluster.limited_key(100_000, 600);
    let full = batch(
        &cluster,
        &json!(vec![json!({"key": key.secret, "scope": "write", "cost": 1}); 1_000]),
    );
    assert_eq!(full.expect(200).json()["results"].as_array().unwrap().len(), 1_000);
    batch(&cluster, &json!(vec![json!({}); 1_001])).expect_code(400, "invalid_request");
    let none = batch(&cluster, &json!([])).expect(200);
    assert_eq!(none.text(), r#"{"results":[]}"#);
    for body in [
        r#"{"requests":[{"cst":1}]}"#,
        r#"{"requests":{}}"#,
        "{}",
        "[]",
        r#"{"requests":[],"x":1}"#,
        r#"{"requests":[{"cost":-1}]}"#,
        "",
    ] {
        let request = Request::post("/v1/validate/batch").raw_json(body);
        cluster.ask(1, &request).expect_code(400, "invalid_request");
    }
    assert_eq!(cluster.ask(1, &key.validate()).expect(200).window().1, 98_999);
}

/// A stopped node holds a third of the tokens, and each request for them waits as long as it may.
/// For any number of such requests the batch ends within the timeout, and the remaining ones are
/// answered as unproven.
#[test]
fn a_batch_ends_within_the_timeout_of_a_request() {
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.text("http", "request_timeout", "2s").text("limits", "transfer_wait", "300ms");
        // Longer than this test: the silent node keeps its share.
        settings.text("lease", "duration", "20s");
    });
    let key = cluster.limited_key(30, roomy_period_s(60));
    let other = cluster.limited_key(30, roomy_period_s(60));
    cluster.node_mut(3).kill();
    let mut requests = vec![json!({"key": key.secret}); 100];
    requests.push(json!({"key": "nonsense"}));
    requests.push(json!({"key": other.secret}));
    let begun = Instant::now();
    let answer = batch(&cluster, &json!(requests)).expect(200);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> =
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    let admitted = statuses.iter().take_while(|status| **status == 200).count();
    // Its own share, and that of the running node.
    assert!((10..=20).contains(&admitted), "{statuses:?}");
    assert!(statuses[admitted..100].iter().all(|status| *status == 429), "{statuses:?}");
    assert!(results[99]["error"] == "rate_limit_exceeded", "{}", results[99]);
    // Other entries do not wait for these 80, and invalid keys are answered without waiting.
    assert_eq!(statuses[100..], [401, 200]);
}
