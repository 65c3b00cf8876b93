//! The document against the contract: the kept copy, every path, every reference, every id.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

#[test]
fn the_document_in_git_is_the_one_that_the_code_makes() {
    let kept = include_str!("../../openapi.json");
    assert!(
        kept == json(),
        "crates/api/openapi.json is out of date; after reading what changed, run\n    \
         cargo run -p fluxgate -- openapi > crates/api/openapi.json"
    );
}

#[test]
fn every_path_of_the_contract_is_in_the_document_and_no_other() {
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
fn every_reference_leads_somewhere() {
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
fn every_operation_has_an_id_of_its_own() {
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
fn the_version_is_three_point_one() {
    assert!(json().starts_with("{\n  \"openapi\": \"3.1.0\",\n"));
    assert!(json().ends_with("}\n"));
}
