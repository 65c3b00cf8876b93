//! An answer as a response: one buffer for the body and for every header value that is not constant.
//!
//! Answers for: the bytes of a response that a client waits for. Must never say anything else than
//! [`Answer::admission`] and [`Answer::error_body`] say; a test compares.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths::header as names;
use fluxgate_engine::state::entry::{KeyEntry, Texts};
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{KEY_ID_PREFIX, KeyId, Scope};

use super::rate_limit::{Bearer, Policy};
use super::{Answer, MatchedKey, RateLimitState};
use crate::shared::reply::Reply;
use crate::shared::respond;

const LIMIT: HeaderName = HeaderName::from_static(names::X_RATELIMIT_LIMIT);
const REMAINING: HeaderName = HeaderName::from_static(names::X_RATELIMIT_REMAINING);
const NAME: HeaderName = HeaderName::from_static(names::X_RATELIMIT_NAME);
const RESET: HeaderName = HeaderName::from_static(names::X_RATELIMIT_RESET);
const KEY_ID: HeaderName = HeaderName::from_static(names::X_AUTH_KEY_ID);
const KEY_NAME: HeaderName = HeaderName::from_static(names::X_AUTH_KEY_NAME);
const OWNER: HeaderName = HeaderName::from_static(names::X_AUTH_OWNER);
const SCOPE: HeaderName = HeaderName::from_static(names::X_AUTH_SCOPE);
const RATELIMIT: HeaderName = HeaderName::from_static(names::RATELIMIT);
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static(names::RATELIMIT_POLICY);

/// Bytes that a buffer begins with: an admission whose key has a name and an owner of the usual
/// length.
const BUFFER_BYTES: usize = 448;

/// Where the buffer of an answer has the values of its headers.
pub(crate) struct Values {
    text: Bytes,
    rate: Option<RateValues>,
    key: Option<KeyValues>,
    wait: Option<Range<usize>>,
}

struct RateValues {
    limit: Range<usize>,
    remaining: Range<usize>,
    reset: Range<usize>,
    /// The deciding limit, if it is one of several.
    name: Option<Range<usize>>,
    /// Policy and state of the IETF draft.
    draft: Option<(Range<usize>, Option<Range<usize>>)>,
}

struct KeyValues {
    id: Range<usize>,
    name: Range<usize>,
    owner: Option<Range<usize>>,
    scope: Scope,
}

impl Answer {
    /// The complete response of `/v1/validate`. `headers` are those of the request, whose memory is
    /// used again.
    pub(crate) fn into_reply(self, mut headers: HeaderMap) -> Response<Reply> {
        let texts = self.texts();
        let (status, text) = self.body(texts);
        headers.clear();
        self.begin_headers(true, &mut headers);
        self.respond(status, text, texts, headers)
    }

    /// The texts of its key. They are packed: read them once for each response.
    pub(crate) fn texts(&self) -> Texts<'_> {
        self.parts().0.map(|key| key.entry.texts()).unwrap_or_default()
    }

    /// The status and the JSON of the body.
    pub(crate) fn body(&self, texts: Texts<'_>) -> (StatusCode, Vec<u8>) {
        let mut text = Self::buffer();
        let status = match (self, self.error_body()) {
            (Self::Admitted(key, rate), _) => {
                write_admission(&key.entry, texts, rate, &mut text);
                StatusCode::OK
            }
            (_, Some(error)) => {
                error.write_json(&mut text);
                respond::status_of(&error)
            }
            (_, None) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, text)
    }

    /// An empty buffer, for a response without a body.
    pub(crate) fn buffer() -> Vec<u8> {
        Vec::with_capacity(BUFFER_BYTES)
    }

    /// Whether the same request may succeed soon.
    pub(crate) fn is_retryable(&self) -> bool {
        self.verdict().error_code().is_some_and(ErrorCode::retryable)
    }

    /// The headers that come before all others: the type of the body, when to try again after a 503,
    /// and what a denied caller should present (RFC 6750, section 3).
    pub(crate) fn begin_headers(&self, has_body: bool, headers: &mut HeaderMap) {
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if matches!(self, Self::Unavailable(_)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(respond::RETRY_AFTER_S));
        }
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }

    /// The response with this text as its body, and the headers of the limit and of the key behind
    /// `headers`.
    pub(crate) fn respond(
        &self,
        status: StatusCode,
        text: Vec<u8>,
        texts: Texts<'_>,
        mut headers: HeaderMap,
    ) -> Response<Reply> {
        let length = text.len();
        let values = self.write_values(text, texts);
        values.insert_into(&mut headers);
        let mut response = Response::new(Reply::from(values.text.slice(..length)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated { presented: true, .. } => Some("Bearer error=\"invalid_token\""),
            Self::Unauthenticated { presented: false, .. } => Some("Bearer"),
            Self::OutOfScope { required, .. } => Some(match required {
                Some(Scope::Read) => "Bearer error=\"insufficient_scope\", scope=\"read\"",
                Some(Scope::Write) => "Bearer error=\"insufficient_scope\", scope=\"write\"",
                Some(Scope::Admin) => "Bearer error=\"insufficient_scope\", scope=\"admin\"",
                None => "Bearer error=\"insufficient_scope\"",
            }),
            Self::Admitted(..) | Self::Limited { .. } | Self::Invalid(_) | Self::Unavailable(_) => {
                None
            }
        }
    }

    /// Writes the values of the headers behind the body.
    fn write_values(&self, mut text: Vec<u8>, texts: Texts<'_>) -> Values {
        let (key, rate) = self.parts();
        let rate = rate.filter(|rate| !rate.is_unlimited()).map(|rate| RateValues {
            limit: number(&mut text, rate.limit),
            remaining: number(&mut text, rate.remaining),
            reset: number(&mut text, rate.reset_s),
            name: rate.one_of_several().map(|limit| {
                written(&mut text, |text| text.extend_from_slice(rate.name_of(limit).as_bytes()))
            }),
            draft: rate.sends_draft.then(|| write_draft(&mut text, rate)),
        });
        let Texts { name, owner, .. } = texts;
        let key = key.map(|MatchedKey { entry }| KeyValues {
            id: written(&mut text, |text| push_id(text, &entry.id())),
            name: written(&mut text, |text| percent_encode(text, name)),
            owner: owner.map(|owner| written(&mut text, |text| percent_encode(text, owner))),
            scope: entry.scope(),
        });
        let wait = if let Self::Limited { rate, .. } = self {
            Some(number(&mut text, rate.wait_s))
        } else {
            None
        };
        Values { text: Bytes::from(text), rate, key, wait }
    }
}

impl Values {
    fn insert_into(&self, headers: &mut HeaderMap) {
        // Only digits, names and percent-encoded text were written.
        let value = |range: &Range<usize>| {
            HeaderValue::from_maybe_shared(self.text.slice(range.clone())).ok()
        };
        let insert = |headers: &mut HeaderMap, name, range: &Range<usize>| {
            if let Some(value) = value(range) {
                headers.insert(name, value);
            }
        };
        // A value that no later response repeats. Over HTTP/2 it stays out of the table of repeated
        // values (RFC 7541, section 6.2.3), from which it would drive those that are.
        let insert_once = |headers: &mut HeaderMap, name, range: &Range<usize>| {
            if let Some(mut value) = value(range) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        };
        if let Some(rate) = &self.rate {
            insert(headers, LIMIT, &rate.limit);
            insert_once(headers, REMAINING, &rate.remaining);
            insert(headers, RESET, &rate.reset);
            rate.name.iter().for_each(|name| insert(headers, NAME, name));
            if let Some((policy, current)) = &rate.draft {
                insert(headers, RATELIMIT_POLICY, policy);
                current.iter().for_each(|current| insert_once(headers, RATELIMIT, current));
            }
        }
        if let Some(key) = &self.key {
            insert(headers, KEY_ID, &key.id);
            insert(headers, KEY_NAME, &key.name);
            key.owner.iter().for_each(|owner| insert(headers, OWNER, owner));
            headers.insert(SCOPE, HeaderValue::from_static(key.scope.as_str()));
        }
        if let Some(wait) = &self.wait {
            insert(headers, header::RETRY_AFTER, wait);
        }
    }
}

/// Writes a value, and returns where it is.
fn written(text: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let begin = text.len();
    write(text);
    begin..text.len()
}

fn number(text: &mut Vec<u8>, value: u64) -> Range<usize> {
    written(text, |text| push_number(text, value))
}

fn push_number(text: &mut Vec<u8>, value: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_id(text: &mut Vec<u8>, id: &KeyId) {
    text.extend_from_slice(KEY_ID_PREFIX.as_bytes());
    text.extend_from_slice(id.as_bytes());
}

/// A text in JSON. Most have nothing that JSON escapes.
fn push_json(text: &mut Vec<u8>, value: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if value.bytes().all(is_plain) {
        text.push(b'"');
        text.extend_from_slice(value.as_bytes());
        text.push(b'"');
    } else {
        text.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes());
    }
}

/// The JSON of [`Answer::admission`], without copies of its parts.
fn write_admission(
    entry: &KeyEntry,
    Texts { name, owner, .. }: Texts<'_>,
    rate: &RateLimitState,
    text: &mut Vec<u8>,
) {
    text.extend_from_slice(b"{\"valid\":true,\"key_id\":\"");
    push_id(text, &entry.id());
    text.extend_from_slice(b"\",\"name\":");
    push_json(text, name);
    text.extend_from_slice(b",\"owner\":");
    match owner {
        Some(owner) => push_json(text, owner),
        None => text.extend_from_slice(b"null"),
    }
    text.extend_from_slice(b",\"scope\":\"");
    text.extend_from_slice(entry.scope().as_str().as_bytes());
    for (name, value) in [
        (&b"\",\"limit\":"[..], rate.limit),
        (b",\"remaining\":", rate.remaining),
        (b",\"reset\":", rate.reset_s),
    ] {
        text.extend_from_slice(name);
        push_number(text, value);
    }
    text.push(b'}');
}

/// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
fn write_draft(text: &mut Vec<u8>, rate: &RateLimitState) -> (Range<usize>, Option<Range<usize>>) {
    let own = [Policy { bearer: Bearer::Key, limits: std::sync::Arc::clone(&rate.policy) }];
    let all = if rate.all.is_empty() { &own[..] } else { &rate.all };
    let each = all.iter().flat_map(|policy| policy.limits.iter().map(move |spec| (policy, spec)));
    let one = |(policy, spec): (&Policy, &LimitSpec)| {
        let name = policy.bearer.name_of(&policy.limits, &spec.limit.name);
        format!("\"{name}\";q={};w={}", spec.limit.tokens, spec.limit.period_ms / 1_000)
    };
    let policy: Vec<String> = each.map(one).collect();
    let policy = written(text, |text| text.extend_from_slice(policy.join(", ").as_bytes()));
    let current = rate.policy.get(rate.limit_at).map(|spec| {
        let name = rate.name_of(&spec.limit);
        let state = format!("\"{name}\";r={};t={}", rate.remaining, rate.wait_s);
        written(text, |text| text.extend_from_slice(state.as_bytes()))
    });
    (policy, current)
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent_encode(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|byte| !is_plain(byte)) {
        let (high, low) = (rest[plain] >> 4, rest[plain] & 15);
        out.extend_from_slice(&rest[..plain]);
        out.extend_from_slice(&[b'%', HEX[usize::from(high)], HEX[usize::from(low)]]);
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use fluxgate_engine::state::command::Actor;
    use fluxgate_engine::state::record::KeyRecord;
    use fluxgate_engine::state::terms::Terms;
    use fluxgate_types::{ClusterMs, Digest, Limit, LogIndex};

    use super::*;

    fn answer(name: &str, owner: Option<&str>, numbers: (u64, u64, u64)) -> Answer {
        let record = KeyRecord {
            id: KeyId::new(*b"Qm2xK9dA3f01").unwrap(),
            digest: Digest::of(b"x"),
            seq: 0,
            scope: Scope::Write,
            enabled: true,
            revision: 1,
            created_index: LogIndex(1),
            created_at: ClusterMs(0),
            created_by: Actor::Operator,
            revoked_at: None,
            expires_at: None,
            name: name.into(),
            head: "fx_live_".into(),
            owner: owner.map(Into::into),
            limits: None,
            terms: Terms::default(),
            previous: None,
            metadata: None,
        };
        let limit = Limit::new("requests", numbers.0, 60_000);
        let rate = RateLimitState {
            limit: numbers.0,
            remaining: numbers.1,
            reset_s: numbers.2,
            wait_s: 7,
            policy: [LimitSpec::new(limit)].into(),
            limit_at: 0,
            all: Vec::new(),
            charge_at: 0,
            sends_draft: true,
        };
        Answer::Admitted(super::MatchedKey { entry: KeyEntry::new(&record, None) }, rate)
    }

    /// The buffer says what `serde` says, whatever a name or an owner contains.
    #[tokio::test]
    async fn an_admission_is_the_json_of_its_type() {
        let texts = ["a", "Production Sync", "q\"\\", "\u{1}\n\u{7f}", "ä€😀", "</script>", ""];
        for name in texts {
            for owner in texts.map(Some).into_iter().chain([None]) {
                let answer = answer(name, owner, (u64::MAX, 0, 1_705_747_200));
                let expected = serde_json::to_vec(&answer.admission().unwrap()).unwrap();
                let response = answer.into_reply(HeaderMap::new()).map(axum::body::Body::from);
                let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
                assert_eq!(body, expected, "{name:?} {owner:?}");
            }
        }
    }

    #[test]
    fn no_header_of_the_request_is_in_the_answer_and_the_order_is_fixed() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer k"));
        headers.append("x-own", HeaderValue::from_static("1"));
        headers.append("x-own", HeaderValue::from_static("2"));
        let response = answer("Production Sync", Some("ä"), (100, 5, 60)).into_reply(headers);
        let shown: Vec<(&str, &str)> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = [
            ("content-type", "application/json"),
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-remaining", "5"),
            ("x-ratelimit-reset", "60"),
            ("ratelimit-policy", "\"requests\";q=100;w=60"),
            ("ratelimit", "\"requests\";r=5;t=7"),
            ("x-auth-key-id", "key_Qm2xK9dA3f01"),
            ("x-auth-key-name", "Production%20Sync"),
            ("x-auth-owner", "%C3%A4"),
            ("x-auth-scope", "write"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn names_are_percent_encoded() {
        for (text, expected) in
            [("Production Sync", "Production%20Sync"), ("ä\r\n\"~", "%C3%A4%0D%0A%22~")]
        {
            let mut out = Vec::new();
            percent_encode(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
