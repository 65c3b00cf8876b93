//! Keys as a test creates and presents them.

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::http::{Answer, Request};

/// A key in plain text, with its record.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// `key_…`
    pub(crate) id: String,
    /// `fx_live_…`
    pub(crate) secret: String,
    /// The whole answer.
    pub(crate) created: Value,
}

impl Key {
    /// Reads the answer of a create or rotate.
    #[track_caller]
    pub(crate) fn of(answer: &Answer) -> Self {
        let created = answer.json();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        Self { id: text("id"), secret: text("key"), created }
    }

    /// A validate with this key.
    pub(crate) fn validate(&self) -> Request {
        Request::post("/v1/validate").bearer(&self.secret)
    }

    /// A validate of this cost.
    pub(crate) fn validate_cost(&self, cost: u64) -> Request {
        self.validate().json(&json!({ "cost": cost }))
    }

    /// A validate for an endpoint that requires this scope.
    pub(crate) fn validate_scope(&self, scope: &str) -> Request {
        self.validate().json(&json!({ "scope": scope }))
    }

    /// The path of the record.
    pub(crate) fn path(&self) -> String {
        format!("/v1/keys/{}", self.id)
    }
}

/// One limit of a key.
pub(crate) fn limit(tokens: u64, period_s: u64) -> Value {
    json!([{"name": "requests", "tokens": tokens, "period": format!("{period_s}s")}])
}

impl Cluster {
    /// Creates a key through a node.
    #[track_caller]
    pub(crate) fn create(&self, node: u64, body: &Value) -> Key {
        let answer = self.admin(node, Request::post("/v1/keys").json(body));
        Key::of(&answer.expect(201))
    }

    /// Creates a write key with the default limit.
    #[track_caller]
    pub(crate) fn write_key(&self) -> Key {
        self.create(1, &json!({"name": "Production Sync", "scope": "write", "owner": "user_42"}))
    }

    /// Creates a key with one limit.
    #[track_caller]
    pub(crate) fn limited_key(&self, tokens: u64, period_s: u64) -> Key {
        let limits = limit(tokens, period_s);
        self.create(1, &json!({"name": "limited", "scope": "write", "limits": limits}))
    }

    /// Sends a request to a node's gateway listener.
    #[track_caller]
    pub(crate) fn ask(&self, node: u64, request: &Request) -> Answer {
        request.send(self.gateway(node))
    }
}
