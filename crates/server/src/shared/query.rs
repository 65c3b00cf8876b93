//! Reads the query of an address into a type of the contract.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::Uri;
use fluxgate_api::error::ErrorCode;
use serde::de::DeserializeOwned;

use crate::shared::error::ApiError;
use crate::shared::words::in_words;

/// Reads a query. The error names the field and does not repeat its value.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let read = |uri: &Uri| Query::<T>::try_from_uri(uri).map(|query| query.0);
    let text = |error: &QueryRejection| {
        let text = error.body_text();
        text.split_once(": ").map_or(text.clone(), |(_, text)| text.to_owned())
    };
    read(uri).map_err(|error| {
        // The error does not name the field. The wrong pair cannot be read alone either.
        let pairs = uri.query().unwrap_or_default().split('&');
        let alone = pairs.map(|pair| {
            let uri = Uri::try_from(format!("/?{pair}")).ok();
            let text = uri.and_then(|uri| read(&uri).err()).map(|error| text(&error))?;
            let name = pair.split('=').next().unwrap_or_default();
            let text =
                text.strip_prefix(name).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
            Some(in_words(name, text))
        });
        let message = alone.flatten().next().unwrap_or_else(|| in_words("", &text(&error)));
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}
