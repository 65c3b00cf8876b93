//! Input from callers: credentials, ids, scopes, times and durations, and the headers with a
//! credential.

use fluxgate_types::credential::{CHECKSUM_CHARS, SECRET_CHARS, is_prefix, shown_prefix};
use fluxgate_types::{
    ClusterMs, Credential, Digest, KeyId, Scope, Secret, format_duration_ms, parse_duration_ms,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::source::Source;

/// Any bytes as a credential, and a credential made from any bytes.
pub fn credential(data: &[u8]) {
    parse(data);
    headers(data);
    texts(data);
    make(Source::new(data));
}

fn parse(text: &[u8]) {
    let Ok(parsed) = Credential::parse(text) else { return };
    let text = std::str::from_utf8(text).expect("a credential is ASCII");
    assert!(parsed.digest.matches(&Digest::of(text.as_bytes())), "the digest of another text");
    // The parts (prefix, environment, id, secret) must match the parsed credential.
    let parts: Vec<&str> = text.split('_').collect();
    let [prefix, environment, id, secret] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!(id, parsed.key_id.as_str());
    assert_eq!(secret.len(), SECRET_CHARS + CHECKSUM_CHARS);
    assert!(
        is_prefix(prefix) && is_prefix(environment),
        "a prefix or environment that cannot be configured"
    );
    assert!(text.starts_with(&shown_prefix(prefix, environment, &parsed.key_id)));
    assert_eq!(parsed.key_id.to_string().parse(), Ok(parsed.key_id));
    assert!(!format!("{parsed:?}").contains(secret), "a secret was printed");
    // A CRC detects every burst of up to 32 bits, so every changed character.
    for at in 0..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[at] ^= 1;
        assert!(Credential::parse(&wrong).is_err(), "accepted with character {at} changed");
    }
}

/// A credential may stand in both headers; two different ones count as none.
fn headers(text: &[u8]) {
    let with = |pairs: &[(http::HeaderName, &[u8])]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(headers)
    };
    let key = http::HeaderName::from_static("x-api-key");
    let bearer = [b"Bearer ", text].concat();
    let trimmed = text.trim_ascii();
    let found = |headers: &HeaderMap| {
        fluxgate_server::fuzzing::credential(headers).map(|found| found.map(<[u8]>::to_vec))
    };
    let one = Some(Some(trimmed.to_vec()));
    if let Some(headers) = with(&[(key.clone(), text)]) {
        assert_eq!(found(&headers), one, "X-API-Key");
    }
    if let Some(headers) = with(&[(AUTHORIZATION, &bearer)]) {
        assert_eq!(found(&headers), one, "Authorization");
    }
    if let Some(headers) = with(&[(AUTHORIZATION, &bearer), (key.clone(), text)]) {
        assert_eq!(found(&headers), one, "both");
    }
    let other = [text, b"x"].concat();
    if let Some(headers) = with(&[(AUTHORIZATION, &bearer), (key.clone(), &other)]) {
        assert_eq!(found(&headers), Some(None), "two different ones");
    }
    if let Some(headers) = with(&[(key.clone(), text), (key, text)]) {
        assert_eq!(found(&headers), Some(None), "twice");
    }
    if let Some(headers) = with(&[(AUTHORIZATION, text)]) {
        // Any value of the header: it must not panic.
        let _ = found(&headers);
    }
}

/// Text that parses must print as a value that parses again.
fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(KeyId::new(*id.as_bytes()), Ok(id));
    }
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.as_str(), text);
    }
    if let Ok(ms) = parse_duration_ms(text) {
        assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms), "{text}");
    }
    if let Ok(time) = text.parse::<ClusterMs>() {
        assert_eq!(time.to_string().parse(), Ok(time), "{text}");
    }
    assert_eq!(is_prefix(text), {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=8).contains(&text.len()) && text.bytes().all(fits)
    });
}

fn make(mut source: Source<'_>) {
    let random = source.bytes(64);
    let Some(id) = KeyId::from_random(random) else { return };
    assert_eq!(id.to_string().parse(), Ok(id));
    let (prefix, environment) = (source.bytes(8), source.bytes(8));
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or("fx").to_owned();
    let (prefix, environment) = (text(prefix), text(environment));
    let Some(secret) = Secret::make(&prefix, &environment, id, source.rest()) else { return };
    let parsed = Credential::parse(secret.expose().as_bytes());
    // Exactly the prefixes that may be configured make valid credentials.
    assert_eq!(parsed.is_ok(), is_prefix(&prefix) && is_prefix(&environment));
    if let Ok(parsed) = parsed {
        assert_eq!((parsed.key_id, parsed.digest), (id, secret.digest()));
    }
    let hidden = &secret.expose()[secret.expose().len() - SECRET_CHARS - CHECKSUM_CHARS..];
    assert!(!format!("{secret:?} {:?}", secret.digest()).contains(hidden), "a secret was printed");
}
