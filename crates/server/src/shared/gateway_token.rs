//! The token by which a node recognises its gateways.

use axum::http::HeaderMap;
use fluxgate_api::error::ErrorBody;
use fluxgate_api::paths::header as names;
use fluxgate_node::config::Config;

/// Rejects a request without the gateway token, if one is configured.
pub(crate) fn check_gateway(config: &Config, headers: &HeaderMap) -> Result<(), ErrorBody> {
    let Some(token) = &config.gateway_token else { return Ok(()) };
    let presented = headers.get(names::X_GATEWAY_TOKEN);
    if presented.is_some_and(|value| token.matches(value.as_bytes())) {
        return Ok(());
    }
    Err(ErrorBody::gateway_unauthorized())
}
