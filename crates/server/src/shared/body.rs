//! Request bodies: bounded in size and time, and JSON with error messages of our own.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use fluxgate_api::ErrorBody;
use fluxgate_api::error::ErrorCode;
use fluxgate_node::state::NodeState;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use crate::shared::error::ApiError;
use crate::shared::words::in_words;

/// How much of a body that no handler reads to read and drop, so that the client sees the answer and
/// not a reset, bytes.
pub(crate) const DROPPED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads the body of an administrator's request, within this node's bounds.
pub(crate) async fn read_whole(state: &NodeState, body: Body) -> Result<Bytes, ApiError> {
    Ok(read_body(body, state.config.max_body_bytes, state.config.request_timeout).await?)
}

/// Reads a whole body of at most `bytes_max` bytes.
pub(crate) async fn read_body<B>(
    body: B,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, ErrorBody>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut reading = std::pin::pin!(read_frames(body, bytes_max));
    if let Some(read) = within_looks(LOOKS, reading.as_mut()).await {
        return read;
    }
    let slow = |_| ErrorBody::new(ErrorCode::RequestTimeout, "the body took too long");
    tokio::time::timeout(within, reading).await.map_err(slow)?
}

/// How often to look for a body before a timer is set: one that came with its headers is there at the
/// second look, and a timer costs as much as a decision.
const LOOKS: u32 = 2;

/// The output of the work if it ends within so many polls.
async fn within_looks<T>(mut looks: u32, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| {
        if looks == 0 {
            return Poll::Ready(None);
        }
        looks -= 1;
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // Without this the task might not be polled again before data comes, and no timer runs yet.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

async fn read_frames<B>(mut body: B, bytes_max: usize) -> Result<Bytes, ErrorBody>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let too_large = || {
        let message = format!("the body is larger than {bytes_max} bytes");
        ErrorBody::new(ErrorCode::TooLarge, message)
    };
    // The client announced more than we ever read: reject it before it sends the body.
    let announced = body.size_hint().lower();
    if announced > (bytes_max + DROPPED_BYTES_MAX) as u64 {
        return Err(too_large());
    }
    let mut read = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let early = |_| ErrorBody::new(ErrorCode::InvalidRequest, "the body ended early");
        let Ok(data) = frame.map_err(early)?.into_data() else { continue };
        total += data.len();
        if total == data.len() && total <= bytes_max && body.is_end_stream() {
            // The usual body: one piece, which needs no copy.
            return Ok(data);
        }
        if total <= bytes_max {
            read.extend_from_slice(&data);
        } else if total > bytes_max + DROPPED_BYTES_MAX {
            break;
        }
    }
    if total > bytes_max {
        return Err(too_large());
    }
    Ok(read.into())
}

/// Fields of the contract that are lists of texts.
const LISTS_OF_TEXTS: [&[u8]; 4] = [b"exposes", b"include", b"pools", b"scopes"];

/// What may come next in a text that is being scanned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Anything,
    /// The first element of an array, or the whole text: an object.
    Object,
    /// The elements of a list of texts.
    Text,
}

/// Whether the text contains no array in place of an object: serde would also read an object's fields
/// from an array, in their order. Arrays of the contract contain only objects, or only texts.
fn has_objects_only(text: &[u8]) -> bool {
    let (mut quoted, mut escaped, mut next) = (false, false, Next::Object);
    let mut name = 0..0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => {
                quoted = false;
                name.end = at;
            }
            _ if quoted || byte.is_ascii_whitespace() => {}
            b']' => next = Next::Anything,
            b'"' if next != Next::Object => {
                quoted = true;
                name = at + 1..at + 1;
            }
            b',' if next == Next::Text => {}
            _ if next == Next::Text => return false,
            b'{' => next = Next::Anything,
            _ if next == Next::Object => return false,
            b'[' if LISTS_OF_TEXTS.contains(&&text[name.clone()]) => next = Next::Text,
            b'[' => next = Next::Object,
            _ => {}
        }
    }
    true
}

/// Whether the content type is JSON; a body without a type is read as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Reads JSON; an empty body is `None`.
pub(crate) fn parse_optional<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<T>, ErrorBody> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if !is_json(headers) {
        let message = "the body must be application/json";
        return Err(ErrorBody::new(ErrorCode::UnsupportedMediaType, message));
    }
    parse_json("body", body).map(Some)
}

/// Reads exactly one JSON value. Error messages call the text by this name.
pub(crate) fn parse_json<T: DeserializeOwned>(name: &str, body: &[u8]) -> Result<T, ErrorBody> {
    if has_objects_only(body)
        && let Ok(value) = serde_json::from_slice(body)
    {
        return Ok(value);
    }
    // From here on it is wrong. To say where and how, it is read again, field by field.
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    if !has_objects_only(body) && is_json() {
        let message = format!(
            "the {name} must be an object in curly brackets; lists in it hold objects, or texts where they are names"
        );
        return Err(ErrorBody::new(ErrorCode::InvalidRequest, message));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        ErrorBody::new(ErrorCode::InvalidRequest, describe(name, &field, error.inner(), is_json()))
    })?;
    reader.end().map_err(|error| {
        ErrorBody::new(ErrorCode::InvalidRequest, describe(name, "", &error, is_json()))
    })?;
    Ok(value)
}

/// Reads JSON; an empty body is an error.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ErrorBody> {
    let missing = || ErrorBody::new(ErrorCode::InvalidRequest, "a JSON body is required");
    parse_optional(headers, body)?.ok_or_else(missing)
}

/// The error in words, without any part of the text: it may be a secret.
fn describe(name: &str, field: &str, error: &serde_json::Error, is_json: bool) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Io | Category::Eof | Category::Syntax if !is_json => {
            let place = format!("at line {} column {}", error.line(), error.column());
            format!("the {name} is not JSON: error {place}")
        }
        // serde reports a number or null in place of one of several texts as a syntax error.
        Category::Io | Category::Eof | Category::Syntax => {
            let text = error.to_string();
            in_words(field, if text.contains("surrogate") { &text } else { "expected a string" })
        }
        Category::Data => in_words(field, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use tokio::time::Instant;

    use super::*;

    async fn read(pieces: &[&'static str], bytes_max: usize) -> Result<Bytes, ErrorCode> {
        let pieces: Vec<Result<&str, Infallible>> = pieces.iter().copied().map(Ok).collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        read_body(body, bytes_max, Duration::from_secs(3)).await.map_err(|error| error.error)
    }

    #[tokio::test]
    async fn a_body_is_bounded_however_many_pieces_it_comes_in() {
        for pieces in [&["abcdef"][..], &["abc", "def"], &["", "abcdef", ""], &["a", "bcde", "f"]] {
            assert_eq!(read(pieces, 6).await.as_deref(), Ok(&b"abcdef"[..]), "{pieces:?}");
            assert_eq!(read(pieces, 5).await, Err(ErrorCode::TooLarge), "{pieces:?}");
        }
        assert_eq!(read(&[], 0).await.as_deref(), Ok(&b""[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_times_out() {
        let begun = Instant::now();
        let body = Body::from_stream(futures_util::stream::pending::<Result<&str, Infallible>>());
        let read = read_body(body, 10, Duration::from_secs(3)).await;
        assert_eq!(read.unwrap_err().error, ErrorCode::RequestTimeout);
        assert_eq!(begun.elapsed().as_secs(), 3);
    }

    #[test]
    fn an_array_in_place_of_an_object_is_rejected() {
        for text in [
            "{}",
            r#" {"requests":[{"key":"[x"},{}]}"#,
            r#"{"limits":[],"n":"\"["}"#,
            r#"{"pools":["a", "b"],"limits":[{"scopes":["write"]},{}]}"#,
            r#"{"include":[]}"#,
        ] {
            assert!(has_objects_only(text.as_bytes()), "{text}");
        }
        for text in [
            "[]",
            r#"["fx","write",5]"#,
            r#"{"requests":[["fx"]]}"#,
            "3",
            r#"{"requests":[1]}"#,
            r#"{"requests":["a"]}"#,
            r#"{"pools":[["a"]]}"#,
            r#"{"pools":[{"a":1}]}"#,
            r#"{"pools":["a",1]}"#,
            r#"{"limits":[["pools",["a"]]]}"#,
        ] {
            assert!(!has_objects_only(text.as_bytes()), "{text}");
        }
    }
}
