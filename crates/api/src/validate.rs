//! Validate: whether a request may pass.
//!
//! Answers for: the shapes of the validate and batch calls. The verdict's header names are in
//! `paths`; the denials are in `error`.

use fluxgate_types::{KeyId, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::text::{Shown, Text};

/// What a key may do: `admin` includes `write`, and `write` includes `read`.
// This text appears in the OpenAPI document; the value itself is `fluxgate_types::Scope`.
#[derive(ToSchema)]
#[schema(as = Scope, rename_all = "lowercase")]
#[expect(dead_code, reason = "a schema only: the domain type does not depend on utoipa")]
pub(crate) enum ScopeSchema {
    /// Dashboards, monitoring, reporting.
    Read,
    /// Automation, integrations, scheduled tasks; includes `read`.
    Write,
    /// Administrative tools, full access; includes `write`.
    Admin,
}

/// Requests a verdict. Every field is optional; the key may be in a header instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// The key, if no header contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 256)]
    pub key: Option<Shown>,
    /// What the protected endpoint requires; if absent, any valid key passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ScopeSchema>)]
    pub scope: Option<Scope>,
    /// Tokens that the request costs: 1 when absent; 0 checks and reports without spending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub cost: Option<u64>,
}

/// The request may pass, and its cost is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidateAnswer {
    /// Always true: a denial has another status and another body.
    pub valid: bool,
    /// The key's id.
    #[schema(value_type = String, example = "key_Qm2xK9dA3f01")]
    pub key_id: Text<KeyId>,
    /// The key's name.
    #[schema(example = "Production Sync")]
    pub name: String,
    /// The owner of the key; null if it has none.
    #[schema(required = true)]
    pub owner: Option<String>,
    /// The key's scope.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// Tokens in one window of the limit that decides.
    #[schema(example = 100)]
    pub limit: u64,
    /// Tokens left in this window, after this request.
    #[schema(example = 95)]
    pub remaining: u64,
    /// When the window ends, Unix seconds.
    #[schema(example = 1_705_747_200)]
    pub reset: u64,
}

/// Requests many verdicts at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// At most 1 000. Entries for one key are counted one after another.
    #[schema(max_items = 1000)]
    pub requests: Vec<ValidateRequest>,
}

/// One verdict of a batch: the status and the body that a single call would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// 200, 400, 401, 403, 429 or 503.
    #[schema(example = 200)]
    pub status: u16,
    /// The body, in the same object.
    #[serde(flatten)]
    pub body: BatchBody,
}

/// The body of one verdict in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchBody {
    /// The body of status 200.
    Admitted(ValidateAnswer),
    /// The body of any other status.
    Denied(ErrorBody),
}

impl From<ValidateAnswer> for BatchResult {
    fn from(answer: ValidateAnswer) -> Self {
        Self { status: 200, body: BatchBody::Admitted(answer) }
    }
}

impl From<ErrorBody> for BatchResult {
    fn from(error: ErrorBody) -> Self {
        Self { status: error.status(), body: BatchBody::Denied(error) }
    }
}

/// The verdicts of a batch, in the order of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// One result per request.
    pub results: Vec<BatchResult>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> ValidateAnswer {
        ValidateAnswer {
            valid: true,
            key_id: Text("key_Qm2xK9dA3f01".parse().unwrap()),
            name: "Production Sync".to_owned(),
            owner: Some("user_42".to_owned()),
            scope: Scope::Write,
            limit: 100,
            remaining: 95,
            reset: 1_705_747_200,
        }
    }

    #[test]
    fn an_admission_is_byte_exact() {
        let text = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"Production Sync","owner":"user_42","scope":"write","limit":100,"remaining":95,"reset":1705747200}"#;
        assert_eq!(serde_json::to_string(&answer()).unwrap(), text);
        assert_eq!(serde_json::from_str::<ValidateAnswer>(text).unwrap(), answer());
    }

    #[test]
    fn an_absent_owner_is_null() {
        let answer = ValidateAnswer { owner: None, ..answer() };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(text.contains(r#""owner":null,"#), "{text}");
    }

    #[test]
    fn a_batch_keeps_status_and_body_in_one_object() {
        let batch = BatchAnswer {
            results: vec![
                answer().into(),
                ErrorBody::authentication_failed().into(),
                ErrorBody::rate_limit_exceeded(45).into(),
            ],
        };
        let text = serde_json::to_string(&batch).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"results":[{"status":200,"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"Production Sync","owner":"user_42","scope":"write","limit":100,"remaining":95,"reset":1705747200},"#,
                r#"{"status":401,"error":"authentication_failed","message":"Invalid or missing API key"},"#,
                r#"{"status":429,"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in 45 seconds."}]}"#
            )
        );
        assert_eq!(serde_json::from_str::<BatchAnswer>(&text).unwrap(), batch);
    }

    #[test]
    fn a_default_request_is_empty_and_debug_hides_the_key() {
        let text = serde_json::to_string(&ValidateRequest::default()).unwrap();
        assert_eq!(text, "{}");
        let asked: ValidateRequest =
            serde_json::from_str(r#"{"key":"fx_live_x","scope":"write","cost":0}"#).unwrap();
        assert_eq!((asked.scope, asked.cost), (Some(Scope::Write), Some(0)));
        assert!(!format!("{asked:?}").contains("fx_live_x"));
    }

    #[test]
    fn unknown_fields_scopes_and_costs_are_rejected() {
        for text in [
            r#"{"keys":"x"}"#,
            r#"{"scope":"owner"}"#,
            r#"{"scope":"Write"}"#,
            r#"{"cost":-1}"#,
            r#"{"cost":1.5}"#,
            r#"{"cost":"1"}"#,
            "[]1",
        ] {
            assert!(serde_json::from_str::<ValidateRequest>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<BatchRequest>(r#"{"requests":[{"cst":1}]}"#).is_err());
    }
}
