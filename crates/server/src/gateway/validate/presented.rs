//! The credential that a request presents: which headers may contain it, and which
//! `Authorization` belongs to the application.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use fluxgate_api::paths::header as names;
use fluxgate_types::credential::holds_a_key;

/// A credential as presented in the headers of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PresentedCredential<'a> {
    Nothing,
    One(&'a [u8]),
    /// Two different ones, one twice, or not a Bearer token.
    Wrong,
}

/// What the headers of a request present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InHeaders<'a> {
    /// The credential.
    pub(crate) presented: PresentedCredential<'a>,
    /// An `Authorization` next to an `X-API-Key` that belongs to the application.
    pub(crate) foreign: Option<&'a HeaderValue>,
}

/// Finds the credential in the headers of a client's request, as a gateway forwards them.
///
/// An `Authorization` next to an `X-API-Key` counts only if it has the shape of one of our keys: an
/// application may have tokens of its own.
pub(crate) fn in_headers(headers: &HeaderMap) -> InHeaders<'_> {
    let mut bearers = headers.get_all(header::AUTHORIZATION).iter();
    let mut keys = headers.get_all(names::X_API_KEY).iter();
    let (authorization, key) = (bearers.next(), keys.next());
    if bearers.next().is_some() || keys.next().is_some() {
        return InHeaders { presented: PresentedCredential::Wrong, foreign: None };
    }
    let bearer = authorization.map(|value| bearer_token(value.as_bytes()));
    let key = key.map(|key| key.as_bytes().trim_ascii());
    let presented = match (bearer, key) {
        (None, None) => PresentedCredential::Nothing,
        (Some(None), None) => PresentedCredential::Wrong,
        (Some(Some(one)), None) | (None, Some(one)) => PresentedCredential::One(one),
        (Some(Some(bearer)), Some(key)) if bearer == key => PresentedCredential::One(key),
        (Some(_), Some(key)) => match content(authorization, key) {
            Content::TheSameKey => PresentedCredential::One(key),
            Content::AnotherKey => PresentedCredential::Wrong,
            Content::Foreign => {
                return InHeaders {
                    presented: PresentedCredential::One(key),
                    foreign: authorization,
                };
            }
        },
    };
    InHeaders { presented, foreign: None }
}

/// What an `Authorization` next to an `X-API-Key` contains.
enum Content {
    /// The same key, in any form: it must never reach the application.
    TheSameKey,
    /// Text with the shape of another key.
    AnotherKey,
    /// A credential of the application.
    Foreign,
}

/// Looks for keys in the value and in its words decoded from base64: clients write `Token KEY`, no
/// scheme at all, or `Basic` with the key as user or password.
fn content(authorization: Option<&HeaderValue>, key: &[u8]) -> Content {
    let value = authorization.map(HeaderValue::as_bytes).unwrap_or_default();
    let holds = |text: &[u8]| {
        let same = !key.is_empty() && text.windows(key.len()).any(|part| part == key);
        (same, holds_a_key(text))
    };
    let encoded = value.split(u8::is_ascii_whitespace).filter_map(decoded);
    let all: Vec<(bool, bool)> =
        std::iter::once(holds(value)).chain(encoded.map(|text| holds(&text))).collect();
    if all.iter().any(|(same, _)| *same) {
        Content::TheSameKey
    } else if all.iter().any(|(_, any)| *any) {
        Content::AnotherKey
    } else {
        Content::Foreign
    }
}

/// A word decoded from base64, in either alphabet, padded or not.
fn decoded(word: &[u8]) -> Option<Vec<u8>> {
    let end = word.iter().rposition(|c| *c != b'=')? + 1;
    let word = &word[..end];
    STANDARD_NO_PAD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word)).ok()
}

/// Finds the credential in the headers of a request to the node itself: no application could own an
/// `Authorization`, so two different credentials are wrong.
pub(crate) fn presented(headers: &HeaderMap) -> PresentedCredential<'_> {
    let InHeaders { presented, foreign } = in_headers(headers);
    if foreign.is_some() { PresentedCredential::Wrong } else { presented }
}

/// The token of `Bearer TOKEN`, the scheme in any case (RFC 6750, section 2.1; RFC 9110, 11.1).
pub(crate) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?;
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "Bearer fx_live_AAAAAAAAAAAA_nonsense";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_credential_in_one_place_counts() {
        for pairs in [
            &[("authorization", "Bearer k1")][..],
            &[("authorization", "bEARER k1")],
            &[("x-api-key", "k1")],
            &[("x-api-key", "k1"), ("authorization", "Bearer k1")],
        ] {
            let headers = headers(pairs);
            let found = in_headers(&headers);
            assert!(matches!(found.presented, PresentedCredential::One(b"k1")), "{pairs:?}");
            assert!(found.foreign.is_none(), "{pairs:?}");
            assert!(matches!(presented(&headers), PresentedCredential::One(b"k1")), "{pairs:?}");
        }
        assert!(matches!(in_headers(&headers(&[])).presented, PresentedCredential::Nothing));
    }

    #[test]
    fn an_authorization_of_the_application_is_left_to_it() {
        for value in ["Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dTpw", "Bearer", "Bear", "", "x"] {
            let headers = headers(&[("x-api-key", "k1"), ("authorization", value)]);
            let found = in_headers(&headers);
            assert!(matches!(found.presented, PresentedCredential::One(b"k1")), "{value:?}");
            assert_eq!(found.foreign.map(HeaderValue::as_bytes), Some(value.as_bytes()));
            // A request to the node itself has no application.
            assert!(matches!(presented(&headers), PresentedCredential::Wrong), "{value:?}");
        }
    }

    #[test]
    fn a_key_in_any_form_never_belongs_to_the_application() {
        let key = "fx_live_AAAAAAAAAAAA_nonsense";
        let basic = |text: &str| format!("Basic {}", STANDARD_NO_PAD.encode(text));
        let forms = |key: &str| {
            [
                key.to_owned(),
                format!("Token {key}"),
                format!("Basic {key}"),
                format!("Bearer\t{key}"),
                format!("Bearer \"{key}\""),
                format!("Bearer x {key}"),
                format!("Digest username=\"u\", response=\"{key}\""),
                basic(key),
                basic(&format!("user:{key}")),
                basic(&format!("{key}:")) + "==",
            ]
        };
        for (of, same) in [(key, true), ("fx_live_BBBBBBBBBBBB_other", false)] {
            for value in forms(of) {
                let mut headers = headers(&[("x-api-key", key)]);
                headers.insert("authorization", HeaderValue::try_from(&value).expect("a header"));
                let found = in_headers(&headers);
                assert!(found.foreign.is_none(), "{value} would be forwarded");
                let is_one = matches!(found.presented, PresentedCredential::One(_));
                assert_eq!(is_one, same, "{value}");
            }
        }
    }

    #[test]
    fn anything_ambiguous_is_wrong() {
        for pairs in [
            &[("x-api-key", "k1"), ("x-api-key", "k1")][..],
            &[("authorization", "Bearer k1"), ("authorization", "Bearer k1")],
            &[("authorization", "Basic k1"), ("authorization", "Basic k1"), ("x-api-key", "k1")],
            &[("authorization", OURS), ("x-api-key", "k2")],
            &[("authorization", "Basic k1")],
            &[("authorization", "Bearerk1")],
            &[("authorization", "Bear")],
        ] {
            assert!(
                matches!(in_headers(&headers(pairs)).presented, PresentedCredential::Wrong),
                "{pairs:?}"
            );
        }
    }
}
