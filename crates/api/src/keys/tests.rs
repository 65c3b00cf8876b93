//! The promises of the shapes in `keys`: names, order, absent versus null, and no key in `Debug`.

use fluxgate_types::{ClusterMs, Limit};

use super::*;

fn record() -> KeyRecord {
    KeyRecord {
        id: Text("key_Qm2xK9dA3f01".parse().unwrap()),
        name: "Production Sync".to_owned(),
        prefix: "fx_live_Qm2xK9dA3f01".to_owned(),
        scope: Scope::Write,
        owner: None,
        limits: vec![LimitSpec::new("requests", 100, Period::from_ms(60_000))],
        plan: None,
        pools: None,
        effective: None,
        enabled: true,
        status: KeyStatus::Active,
        created_at: Text(ClusterMs(1_705_749_600_000)),
        created_by: "operator".to_owned(),
        expires_at: None,
        last_used_at: None,
        previous_valid_until: None,
        metadata: BTreeMap::new(),
        revision: 1,
    }
}

const RECORD: &str = concat!(
    r#""id":"key_Qm2xK9dA3f01","name":"Production Sync","prefix":"fx_live_Qm2xK9dA3f01","#,
    r#""scope":"write","owner":null,"limits":[{"name":"requests","tokens":100,"period":"60s"}],"#,
    r#""enabled":true,"status":"active","created_at":"2024-01-20T11:20:00Z","#,
    r#""created_by":"operator","expires_at":null,"last_used_at":null,"metadata":{},"revision":1"#,
);

#[test]
fn a_record_has_every_field_in_order() {
    let text = serde_json::to_string(&record()).unwrap();
    assert_eq!(text, format!("{{{RECORD}}}"));
    assert_eq!(serde_json::from_str::<KeyRecord>(&text).unwrap(), record());
}

#[test]
fn a_created_key_is_shown_in_json_and_never_in_debug() {
    let created = CreatedKey {
        key: Shown::new("fx_live_secret"),
        written: WriteAnswer {
            record: record(),
            applied_on: vec![1, 2, 3],
            waited_ms: 4,
            notes: Vec::new(),
        },
    };
    let text = serde_json::to_string(&created).unwrap();
    assert_eq!(
        text,
        format!("{{\"key\":\"fx_live_secret\",{RECORD},\"applied_on\":[1,2,3],\"waited_ms\":4}}")
    );
    assert_eq!(serde_json::from_str::<CreatedKey>(&text).unwrap(), created);
    assert!(!format!("{created:?}").contains("fx_live_secret"));
}

#[test]
fn an_answer_of_a_newer_server_is_accepted() {
    let text = format!("{{{RECORD},\"colour\":\"blue\"}}");
    assert_eq!(serde_json::from_str::<KeyRecord>(&text).unwrap(), record());
}

#[test]
fn an_update_distinguishes_absent_from_null() {
    let absent: UpdateKey = serde_json::from_str("{}").unwrap();
    assert_eq!(absent, UpdateKey::default());
    assert_eq!(serde_json::to_string(&absent).unwrap(), "{}");

    let text = r#"{"owner":null,"limits":null,"expires_at":null,"metadata":null}"#;
    let cleared: UpdateKey = serde_json::from_str(text).unwrap();
    assert_eq!(cleared.owner, Some(None));
    assert_eq!(cleared.limits, Some(None));
    assert_eq!(cleared.expires_at, Some(None));
    assert_eq!(cleared.metadata, Some(None));
    assert_eq!(serde_json::to_string(&cleared).unwrap(), text);

    let text = r#"{"owner":"user_42","enabled":false,"expires_at":"2027-01-31T12:00:00Z"}"#;
    let set: UpdateKey = serde_json::from_str(text).unwrap();
    assert_eq!(set.owner, Some(Some("user_42".to_owned())));
    assert_eq!(serde_json::to_string(&set).unwrap(), text);
}

#[test]
fn null_is_rejected_for_fields_that_cannot_be_cleared() {
    for text in [r#"{"name":null}"#, r#"{"scope":null}"#, r#"{"enabled":null}"#] {
        assert!(serde_json::from_str::<UpdateKey>(text).is_err(), "{text}");
    }
}

#[test]
fn every_request_rejects_unknown_fields() {
    let create = r#"{"name":"a","scope":"read","ownr":"b"}"#;
    assert!(serde_json::from_str::<CreateKey>(create).is_err());
    assert!(serde_json::from_str::<UpdateKey>(r#"{"revision":2}"#).is_err());
    assert!(serde_json::from_str::<RotateKey>(r#"{"gracce":"1h"}"#).is_err());
    assert!(serde_json::from_str::<ListQuery>(r#"{"page":2}"#).is_err());
    let limit = r#"{"name":"requests","tokens":1,"period":"60s","burst":1}"#;
    assert!(serde_json::from_str::<LimitSpec>(limit).is_err());
}

#[test]
fn a_limit_is_checked_on_conversion() {
    let spec = |tokens, ms| LimitSpec::new("requests", tokens, Period::from_ms(ms));
    let limit = Limit::try_from(spec(100, 60_000)).unwrap();
    assert_eq!(LimitSpec::from(&limit), spec(100, 60_000));
    assert!(Limit::try_from(spec(0, 60_000)).is_err());
    assert!(Limit::try_from(spec(1, 1_500)).is_err());
}

#[test]
fn statuses_round_trip() {
    for status in KeyStatus::ALL {
        let quoted = format!("\"{status}\"");
        assert_eq!(serde_json::to_string(&status).unwrap(), quoted);
        assert_eq!(serde_json::from_str::<KeyStatus>(&quoted).unwrap(), status);
    }
}
