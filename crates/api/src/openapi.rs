//! The OpenAPI document, generated from the types of this crate.
//!
//! Answers for: every route of the gateway and admin listeners with its statuses, bodies, headers
//! and credentials. The stubs in `openapi/` only carry attributes for utoipa and are never called.
//! A copy of the document is kept in git (`crates/api/openapi.json`), and a test compares the two,
//! so that a change of the contract is visible in a review.

mod admin;
mod gateway;
mod responses;

use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{RefOr, Required};
use utoipa::{Modify, OpenApi};

use crate::paths;

/// The root of the document, for the derive.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fluxgate",
        description = "Validates API keys and enforces their limits for gateways, identically on every \
            node of a cluster.\n\nThe gateway listener serves validate, batch and authorize; the \
            admin listener serves keys, audit and cluster; both serve the health checks. JSON in \
            and out, times in RFC 3339 UTC, durations as text (`60s`). Requests with \
            unknown fields are rejected.",
    ),
    paths(
        gateway::validate,
        gateway::validate_batch,
        gateway::authorize,
        gateway::authorize_nginx,
        gateway::livez,
        gateway::readyz,
        admin::keys::create_key,
        admin::keys::list_keys,
        admin::keys::read_key,
        admin::keys::update_key,
        admin::keys::rotate_key,
        admin::keys::revoke_key,
        admin::keys::read_usage,
        admin::keys::import_keys,
        admin::owners::list_owners,
        admin::owners::read_owner,
        admin::owners::set_owner,
        admin::owners::change_owner,
        admin::owners::delete_owner,
        admin::plans::list_plans,
        admin::plans::read_plan,
        admin::plans::set_plan,
        admin::plans::change_plan,
        admin::plans::delete_plan,
        admin::pools::list_pools,
        admin::pools::read_pool,
        admin::pools::set_pool,
        admin::pools::change_pool,
        admin::pools::delete_pool,
        admin::list_audit,
        admin::whoami,
        admin::read_cluster,
        admin::add_node,
        admin::remove_node,
        admin::hand_over,
        admin::set_time,
        admin::backup,
        admin::restore,
        admin::metrics,
        admin::openapi_json,
    ),
    components(
        schemas(crate::validate::ScopeSchema, crate::bulk::ImportKey),
        responses(
            responses::InvalidRequest,
            responses::Unauthenticated,
            responses::OutOfScope,
            responses::Limited,
            responses::VerdictUnauthenticated,
            responses::VerdictOutOfScope,
            responses::VerdictLimited,
            responses::Unavailable,
            responses::NoLeader,
            responses::NotFound,
            responses::Conflict,
            responses::PreconditionFailed,
            responses::TooLarge,
            responses::UnsupportedMediaType,
            responses::RequestTimeout,
            responses::Internal,
        )
    ),
    tags(
        (name = "validate", description = "The gateway listener: may this request pass?"),
        (name = "keys", description = "The admin listener: keys and their audit trail."),
        (name = "owners", description = "The admin listener: what all keys of an owner may use together. Needs the operator token."),
        (name = "plans", description = "The admin listener: limits that many keys and owners have. Needs the operator token."),
        (name = "pools", description = "The admin listener: what all requests of several keys may use together. Needs the operator token."),
        (name = "cluster", description = "The admin listener: the nodes. Needs the operator token."),
        (name = "health", description = "Health, metrics and this document."),
    ),
    modifiers(&Security, &OptionalBodies, &AnyMethod)
)]
struct Document;

/// Declares the credentials that a caller can present.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some(
            "An API key; on the admin listener an API key of scope `admin`, or the operator token."
                .to_owned(),
        );
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = |name: &str, description: &str| {
            let value = ApiKeyValue::with_description(name, description);
            SecurityScheme::ApiKey(ApiKey::Header(value))
        };
        components.add_security_scheme(
            "api_key",
            header("X-API-Key", "The same API key in its own header."),
        );
        components.add_security_scheme(
            "gateway_token",
            header(
                "X-Gateway-Token",
                "The gateway's own token, where `gateway.token_file` is configured.",
            ),
        );
    }
}

/// Declares the bodies that may be omitted. utoipa would declare them as "or null", which is not
/// the same.
struct OptionalBodies;

impl Modify for OptionalBodies {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let optional = [
            paths::VALIDATE,
            paths::KEY_ROTATE,
            paths::CLUSTER_LEADER,
            paths::CLUSTER_TIME,
            paths::KEYS_IMPORT,
            paths::CLUSTER_RESTORE,
        ];
        for path in optional {
            let item = document.paths.paths.get_mut(path);
            let operation = item.and_then(|item| item.post.as_mut());
            let body = operation.and_then(|post| post.request_body.as_mut());
            if let Some(RefOr::T(body)) = body {
                body.required = Some(Required::False);
            }
        }
    }
}

/// Declares forward authentication, which accepts any method, for every method that OpenAPI has.
struct AnyMethod;

impl Modify for AnyMethod {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let methods = [
            (HttpMethod::Put, "put"),
            (HttpMethod::Post, "post"),
            (HttpMethod::Delete, "delete"),
            (HttpMethod::Options, "options"),
            (HttpMethod::Head, "head"),
            (HttpMethod::Patch, "patch"),
            (HttpMethod::Trace, "trace"),
        ];
        for path in [paths::AUTHORIZE, paths::AUTHORIZE_NGINX] {
            let Some(item) = document.paths.paths.get_mut(path) else {
                continue;
            };
            for (method, name) in &methods {
                let copy = item.get.clone().map(|mut operation| {
                    // Operation ids must be unique.
                    operation.operation_id =
                        operation.operation_id.map(|id| format!("{id}_{name}"));
                    operation
                });
                match method {
                    HttpMethod::Get => {}
                    HttpMethod::Put => item.put = copy,
                    HttpMethod::Post => item.post = copy,
                    HttpMethod::Delete => item.delete = copy,
                    HttpMethod::Options => item.options = copy,
                    HttpMethod::Head => item.head = copy,
                    HttpMethod::Patch => item.patch = copy,
                    HttpMethod::Trace => item.trace = copy,
                }
            }
        }
    }
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The document as indented JSON with a trailing newline, as it is served and kept in git.
#[must_use]
pub fn json() -> String {
    // This can only fail for a type of this crate without a JSON form, which the golden test would
    // detect.
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
