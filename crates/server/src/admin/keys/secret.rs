//! New key ids and secrets, from the randomness of the operating system.
//!
//! Drawing characters without bias discards some random bytes, so too few may be left. That is not
//! the caller's fault: it gets a 503 and may repeat the call.

use fluxgate_api::error::ErrorCode;
use fluxgate_types::KeyId;
use fluxgate_types::credential::Secret;

use crate::shared::error::ApiError;

/// Random bytes for a key id: several times what its characters need.
const ID_RANDOM_BYTES: usize = 64;
/// Random bytes for a secret: several times what its characters need.
const SECRET_RANDOM_BYTES: usize = 128;

/// A new key id.
pub(super) fn new_id() -> Result<KeyId, ApiError> {
    id_from(&random::<ID_RANDOM_BYTES>()?)
}

fn id_from(random: &[u8]) -> Result<KeyId, ApiError> {
    KeyId::from_random(random).ok_or_else(unlucky_draw)
}

/// A new secret of a key.
pub(super) fn new_secret(prefix: &str, environment: &str, id: KeyId) -> Result<Secret, ApiError> {
    secret_from(prefix, environment, id, &random::<SECRET_RANDOM_BYTES>()?)
}

fn secret_from(
    prefix: &str,
    environment: &str,
    id: KeyId,
    random: &[u8],
) -> Result<Secret, ApiError> {
    Secret::make(prefix, environment, id, random).ok_or_else(unlucky_draw)
}

fn unlucky_draw() -> ApiError {
    let message = "too few random bytes were usable; nothing was changed";
    ApiError::new(ErrorCode::Unavailable, message)
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0u8; N];
    fluxgate_node::random::fill_random(&mut bytes).map_err(|_| {
        ApiError::new(ErrorCode::Unavailable, "the operating system gives no randomness")
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn an_unlucky_draw_is_a_503_that_may_be_repeated() {
        let unusable = [0xff; SECRET_RANDOM_BYTES];
        let id = id_from(&[0; ID_RANDOM_BYTES]).unwrap();
        for error in [
            id_from(&unusable).unwrap_err(),
            secret_from("fx", "live", id, &unusable).map(drop).unwrap_err(),
        ] {
            assert!(error.body().error.retryable());
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
    }
}
