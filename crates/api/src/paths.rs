//! Every path and header of the contract, once.
//!
//! Answers for: the names that server, client and document must agree on. A path with `{…}` is a
//! template in the syntax of both OpenAPI and axum.

use fluxgate_types::KeyId;

/// POST: a verdict on one request.
pub const VALIDATE: &str = "/v1/validate";
/// POST: verdicts on many requests.
pub const VALIDATE_BATCH: &str = "/v1/validate/batch";
/// Prefix of every forward authentication path.
pub const AUTHORIZE_PREFIX: &str = "/v1/authorize/";
/// Any method: forward authentication.
pub const AUTHORIZE: &str = "/v1/authorize/{requirement}";
/// GET: forward authentication for nginx.
pub const AUTHORIZE_NGINX: &str = "/v1/authorize/nginx/{requirement}";
/// POST creates a key, GET lists keys.
pub const KEYS: &str = "/v1/keys";
/// GET reads, PATCH changes, DELETE revokes or erases a key.
pub const KEY: &str = "/v1/keys/{id}";
/// POST: replaces the key's secret.
pub const KEY_ROTATE: &str = "/v1/keys/{id}/rotate";
/// GET: the tokens that the key spent.
pub const KEY_USAGE: &str = "/v1/keys/{id}/usage";
/// GET lists owners that have a record.
pub const OWNERS: &str = "/v1/owners";
/// GET reads, PUT sets, DELETE deletes the record of an owner.
pub const OWNER: &str = "/v1/owners/{owner}";
/// GET lists plans.
pub const PLANS: &str = "/v1/plans";
/// GET reads, PUT sets, DELETE deletes a plan.
pub const PLAN: &str = "/v1/plans/{plan}";
/// GET lists pools.
pub const POOLS: &str = "/v1/pools";
/// GET reads, PUT sets, DELETE deletes a pool.
pub const POOL: &str = "/v1/pools/{pool}";
/// POST: imports keys of another system.
pub const KEYS_IMPORT: &str = "/v1/keys/import";
/// GET: the audit trail.
pub const AUDIT: &str = "/v1/audit";
/// GET: the presented credential.
pub const WHOAMI: &str = "/v1/whoami";
/// GET: the cluster, as the answering node sees it.
pub const CLUSTER: &str = "/v1/cluster";
/// POST: adds or moves a node.
pub const CLUSTER_NODES: &str = "/v1/cluster/nodes";
/// DELETE: removes a node.
pub const CLUSTER_NODE: &str = "/v1/cluster/nodes/{id}";
/// POST: hands leadership over.
pub const CLUSTER_LEADER: &str = "/v1/cluster/leader";
/// POST: moves cluster time forward.
pub const CLUSTER_TIME: &str = "/v1/cluster/time";
/// GET: a backup of the state, as JSON lines.
pub const CLUSTER_BACKUP: &str = "/v1/cluster/backup";
/// POST: imports the lines of a backup.
pub const CLUSTER_RESTORE: &str = "/v1/cluster/restore";
/// GET: whether the process runs.
pub const LIVEZ: &str = "/livez";
/// GET: whether the node would answer validate requests.
pub const READYZ: &str = "/readyz";
/// GET: metrics in Prometheus text.
pub const METRICS: &str = "/metrics";
/// GET: the OpenAPI document.
pub const OPENAPI: &str = "/openapi.json";

/// The path of one key.
#[must_use]
pub fn key(id: KeyId) -> String {
    KEY.replace("{id}", &id.to_string())
}

/// The path that replaces one key's secret.
#[must_use]
pub fn key_rotate(id: KeyId) -> String {
    KEY_ROTATE.replace("{id}", &id.to_string())
}

/// The path of one key's usage.
#[must_use]
pub fn key_usage(id: KeyId) -> String {
    KEY_USAGE.replace("{id}", &id.to_string())
}

/// The path of one owner. All but the unreserved characters of RFC 3986 are percent-encoded.
#[must_use]
pub fn owner(name: &str) -> String {
    OWNER.replace("{owner}", &encoded(name))
}

/// The path of one plan.
#[must_use]
pub fn plan(name: &str) -> String {
    PLAN.replace("{plan}", &encoded(name))
}

/// The path of one pool.
#[must_use]
pub fn pool(name: &str) -> String {
    POOL.replace("{pool}", &encoded(name))
}

fn encoded(name: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    name.bytes().map(one).collect()
}

/// The path of one node.
#[must_use]
pub fn cluster_node(id: u64) -> String {
    CLUSTER_NODE.replace("{id}", &id.to_string())
}

/// Header names, in the lower case of HTTP/2; HTTP/1 ignores the case.
pub mod header {
    /// The caller's key, when it is not in `authorization`.
    pub const X_API_KEY: &str = "x-api-key";
    /// The gateway's own token.
    pub const X_GATEWAY_TOKEN: &str = "x-gateway-token";
    /// Tokens per window of the deciding limit.
    pub const X_RATELIMIT_LIMIT: &str = "x-ratelimit-limit";
    /// Tokens left in the window.
    pub const X_RATELIMIT_REMAINING: &str = "x-ratelimit-remaining";
    /// The name of the limit that the other three speak of, if several applied.
    pub const X_RATELIMIT_NAME: &str = "x-ratelimit-name";
    /// When the window ends, Unix seconds.
    pub const X_RATELIMIT_RESET: &str = "x-ratelimit-reset";
    /// The rate limit state in the syntax of the IETF draft, if configured.
    pub const RATELIMIT: &str = "ratelimit";
    /// The policy in the syntax of the IETF draft, if configured.
    pub const RATELIMIT_POLICY: &str = "ratelimit-policy";
    /// The key's id.
    pub const X_AUTH_KEY_ID: &str = "x-auth-key-id";
    /// The key's name, percent-encoded.
    pub const X_AUTH_KEY_NAME: &str = "x-auth-key-name";
    /// The key's owner, percent-encoded.
    pub const X_AUTH_OWNER: &str = "x-auth-owner";
    /// The key's scope.
    pub const X_AUTH_SCOPE: &str = "x-auth-scope";
    /// The status that nginx must answer with.
    pub const X_AUTH_STATUS: &str = "x-auth-status";
    /// The body that nginx must answer with.
    pub const X_AUTH_BODY: &str = "x-auth-body";
    /// The method of the request that a gateway forwards.
    pub const X_FORWARDED_METHOD: &str = "x-forwarded-method";
    /// The same under the name that other gateways use.
    pub const X_ORIGINAL_METHOD: &str = "x-original-method";
    /// The headers that Envoy must remove before it forwards the request.
    pub const X_ENVOY_AUTH_HEADERS_TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";
    /// Makes it safe to repeat a create or rotate.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_with_the_whole_id() {
        let id: KeyId = "key_Qm2xK9dA3f01".parse().unwrap();
        assert_eq!(key(id), "/v1/keys/key_Qm2xK9dA3f01");
        assert_eq!(key_usage(id), "/v1/keys/key_Qm2xK9dA3f01/usage");
        assert_eq!(cluster_node(4), "/v1/cluster/nodes/4");
    }
}
