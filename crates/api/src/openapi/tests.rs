//! Checks the document: the copy in git, every path, every reference, every operation id.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::error::ErrorCode;

#[test]
fn the_document_in_git_matches_the_code() {
    let kept = include_str!("../../openapi.json");
    assert!(
        kept == json(),
        "crates/api/openapi.json is out of date; review the change, then run\n    \
         cargo run -p fluxgate -- openapi > crates/api/openapi.json"
    );
}

#[test]
fn the_document_has_exactly_the_paths_of_the_contract() {
    let document = document();
    let named: BTreeSet<&str> = document.paths.paths.keys().map(String::as_str).collect();
    let contract = BTreeSet::from([
        paths::VALIDATE,
        paths::VALIDATE_BATCH,
        paths::AUTHORIZE,
        paths::AUTHORIZE_NGINX,
        paths::KEYS,
        paths::KEY,
        paths::KEY_ROTATE,
        paths::KEY_USAGE,
        paths::KEYS_IMPORT,
        paths::OWNERS,
        paths::OWNER,
        paths::PLANS,
        paths::PLAN,
        paths::POOLS,
        paths::POOL,
        paths::AUDIT,
        paths::WHOAMI,
        paths::CLUSTER,
        paths::CLUSTER_NODES,
        paths::CLUSTER_NODE,
        paths::CLUSTER_LEADER,
        paths::CLUSTER_TIME,
        paths::CLUSTER_BACKUP,
        paths::CLUSTER_RESTORE,
        paths::LIVEZ,
        paths::READYZ,
        paths::METRICS,
        paths::OPENAPI,
    ]);
    assert_eq!(named, contract);
}

/// Calls `found` with every object of the document.
fn walk(value: &Value, found: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            found(map);
            map.values().for_each(|value| walk(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_resolves() {
    let document: Value = serde_json::from_str(&json()).unwrap();
    let mut references = 0;
    walk(&document, &mut |map| {
        if let Some(Value::String(target)) = map.get("$ref") {
            references += 1;
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    });
    assert!(references > 50, "{references}");
}

#[test]
fn operation_ids_are_unique() {
    let document: Value = serde_json::from_str(&json()).unwrap();
    let mut ids = BTreeSet::new();
    walk(&document, &mut |map| {
        if let Some(Value::String(id)) = map.get("operationId") {
            assert!(ids.insert(id.clone()), "{id} twice");
        }
    });
    assert!(ids.contains("authorize_patch") && ids.contains("create_key"));
}

#[test]
fn the_document_is_openapi_3_1() {
    assert!(json().starts_with("{\n  \"openapi\": \"3.1.0\",\n"));
    assert!(json().ends_with("}\n"));
}

/// The statuses of an operation.
fn statuses(document: &Value, method: &str, path: &str) -> BTreeSet<String> {
    let responses = document["paths"][path][method]["responses"].as_object();
    responses.unwrap_or_else(|| panic!("{method} {path}")).keys().cloned().collect()
}

#[test]
fn guarded_changes_declare_their_guard_and_its_failure() {
    let document: Value = serde_json::from_str(&json()).unwrap();
    for (method, path) in
        [("patch", paths::KEY), ("delete", paths::KEY), ("post", paths::KEY_ROTATE)]
    {
        assert!(statuses(&document, method, path).contains("412"), "{method} {path}");
        let parameters = document["paths"][path][method]["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|one| one["name"] == "If-Match"), "{method} {path}");
    }
    let conflict = &document["components"]["responses"]["Conflict"]["description"];
    for code in [ErrorCode::Conflict, ErrorCode::AlreadyDone, ErrorCode::IdempotencyKeyReused] {
        assert!(conflict.as_str().unwrap().contains(code.as_str()), "{code}: {conflict}");
    }
}

#[test]
fn a_key_may_be_over_its_limit_or_not_decided_on_every_call_of_the_cluster() {
    let document: Value = serde_json::from_str(&json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with(paths::CLUSTER) {
            continue;
        }
        for method in item.as_object().unwrap().keys() {
            let statuses = statuses(&document, method, path);
            assert!(statuses.contains("429") && statuses.contains("503"), "{method} {path}");
        }
    }
}

#[test]
fn nginx_may_see_a_503() {
    let document: Value = serde_json::from_str(&json()).unwrap();
    assert!(statuses(&document, "get", paths::AUTHORIZE_NGINX).contains("503"));
}
