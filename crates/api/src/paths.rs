//! Every path and header of the contract, once.
//!
//! Answers for: the texts that server, client and document must agree on. A path with `{…}` is
//! a template as OpenAPI and axum both read it.

use fluxgate_types::KeyId;

/// May this request pass?
pub const VALIDATE: &str = "/v1/validate";
/// Many verdicts at once.
pub const VALIDATE_BATCH: &str = "/v1/validate/batch";
/// What every forward authentication path begins with.
pub const AUTHORIZE_PREFIX: &str = "/v1/authorize/";
/// Forward authentication.
pub const AUTHORIZE: &str = "/v1/authorize/{requirement}";
/// Forward authentication for nginx.
pub const AUTHORIZE_NGINX: &str = "/v1/authorize/nginx/{requirement}";
/// Create and list.
pub const KEYS: &str = "/v1/keys";
/// Read, change and revoke.
pub const KEY: &str = "/v1/keys/{id}";
/// A new secret.
pub const KEY_ROTATE: &str = "/v1/keys/{id}/rotate";
/// What is spent.
pub const KEY_USAGE: &str = "/v1/keys/{id}/usage";
/// Many keys of another system.
pub const KEYS_IMPORT: &str = "/v1/keys/import";
/// Who did what.
pub const AUDIT: &str = "/v1/audit";
/// Which credential this is.
pub const WHOAMI: &str = "/v1/whoami";
/// The cluster, as the node sees it.
pub const CLUSTER: &str = "/v1/cluster";
/// Take a node in.
pub const CLUSTER_NODES: &str = "/v1/cluster/nodes";
/// Let a node go.
pub const CLUSTER_NODE: &str = "/v1/cluster/nodes/{id}";
/// Hand leadership over.
pub const CLUSTER_LEADER: &str = "/v1/cluster/leader";
/// Set cluster time forward.
pub const CLUSTER_TIME: &str = "/v1/cluster/time";
/// The state, as JSON lines.
pub const CLUSTER_BACKUP: &str = "/v1/cluster/backup";
/// Lines of a backup.
pub const CLUSTER_RESTORE: &str = "/v1/cluster/restore";
/// The process runs.
pub const LIVEZ: &str = "/livez";
/// It would answer validates.
pub const READYZ: &str = "/readyz";
/// Prometheus text.
pub const METRICS: &str = "/metrics";
/// This contract as a document.
pub const OPENAPI: &str = "/openapi.json";

/// The path of one key.
#[must_use]
pub fn key(id: KeyId) -> String {
    KEY.replace("{id}", &id.to_string())
}

/// The path that gives one key a new secret.
#[must_use]
pub fn key_rotate(id: KeyId) -> String {
    KEY_ROTATE.replace("{id}", &id.to_string())
}

/// The path of one key's usage.
#[must_use]
pub fn key_usage(id: KeyId) -> String {
    KEY_USAGE.replace("{id}", &id.to_string())
}

/// The path of one node.
#[must_use]
pub fn cluster_node(id: u64) -> String {
    CLUSTER_NODE.replace("{id}", &id.to_string())
}

/// Header names, in the lower case of HTTP/2, which HTTP/1 reads as any other.
pub mod header {
    /// The key of a caller, where it is not in `authorization`.
    pub const X_API_KEY: &str = "x-api-key";
    /// The token of a gateway.
    pub const X_GATEWAY_TOKEN: &str = "x-gateway-token";
    /// Tokens in one window of the limit that decides.
    pub const X_RATELIMIT_LIMIT: &str = "x-ratelimit-limit";
    /// Tokens left in the window.
    pub const X_RATELIMIT_REMAINING: &str = "x-ratelimit-remaining";
    /// When the window ends, Unix seconds.
    pub const X_RATELIMIT_RESET: &str = "x-ratelimit-reset";
    /// The IETF draft's figures, where configured.
    pub const RATELIMIT: &str = "ratelimit";
    /// The IETF draft's policy, where configured.
    pub const RATELIMIT_POLICY: &str = "ratelimit-policy";
    /// The key's id.
    pub const X_AUTH_KEY_ID: &str = "x-auth-key-id";
    /// The key's name, percent-encoded.
    pub const X_AUTH_KEY_NAME: &str = "x-auth-key-name";
    /// The key's owner, percent-encoded.
    pub const X_AUTH_OWNER: &str = "x-auth-owner";
    /// The key's scope.
    pub const X_AUTH_SCOPE: &str = "x-auth-scope";
    /// The status that nginx must rebuild.
    pub const X_AUTH_STATUS: &str = "x-auth-status";
    /// The body that nginx must rebuild.
    pub const X_AUTH_BODY: &str = "x-auth-body";
    /// The method that a gateway received.
    pub const X_FORWARDED_METHOD: &str = "x-forwarded-method";
    /// The method that a gateway received, under another name.
    pub const X_ORIGINAL_METHOD: &str = "x-original-method";
    /// What Envoy must take off before it forwards.
    pub const X_ENVOY_AUTH_HEADERS_TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";
    /// Makes a repeated create or rotate harmless.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_with_the_whole_id() {
        let id: KeyId = "key_Qm2xK9dA3f01".parse().unwrap();
        assert_eq!(key(id), "/v1/keys/key_Qm2xK9dA3f01");
        assert_eq!(key_usage(id), "/v1/keys/key_Qm2xK9dA3f01/usage");
        assert_eq!(cluster_node(4), "/v1/cluster/nodes/4");
    }
}
