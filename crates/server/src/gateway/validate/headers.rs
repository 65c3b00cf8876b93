//! The headers of an answer: the rate limit, the key, and what a denied caller can do.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};
use fluxgate_api::paths::header as names;

use super::{Answer, MatchedKey, RateLimitState};
use crate::shared::respond;

const LIMIT: HeaderName = HeaderName::from_static(names::X_RATELIMIT_LIMIT);
const REMAINING: HeaderName = HeaderName::from_static(names::X_RATELIMIT_REMAINING);
const RESET: HeaderName = HeaderName::from_static(names::X_RATELIMIT_RESET);
const KEY_ID: HeaderName = HeaderName::from_static(names::X_AUTH_KEY_ID);
const KEY_NAME: HeaderName = HeaderName::from_static(names::X_AUTH_KEY_NAME);
const OWNER: HeaderName = HeaderName::from_static(names::X_AUTH_OWNER);
const SCOPE: HeaderName = HeaderName::from_static(names::X_AUTH_SCOPE);
const RATELIMIT: HeaderName = HeaderName::from_static(names::RATELIMIT);
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static(names::RATELIMIT_POLICY);

impl Answer {
    /// Adds the headers of this answer.
    pub(crate) fn add_headers(&self, response: &mut Response<Body>) {
        let (key, rate) = self.parts();
        if let Some(rate) = rate {
            respond::set(response, LIMIT, rate.limit);
            respond::set(response, REMAINING, rate.remaining);
            respond::set(response, RESET, rate.reset_s);
            if rate.sends_draft {
                add_draft(rate, response);
            }
        }
        if let Some(key) = key {
            add_key(key, response);
        }
        let challenge = match self {
            Self::Unauthenticated { presented: true, .. } => {
                Some("Bearer error=\"invalid_token\"".to_owned())
            }
            Self::Unauthenticated { presented: false, .. } => Some("Bearer".to_owned()),
            Self::OutOfScope { required: Some(scope), .. } => {
                Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""))
            }
            Self::OutOfScope { required: None, .. } => {
                Some("Bearer error=\"insufficient_scope\"".to_owned())
            }
            Self::Admitted(..) | Self::Limited { .. } | Self::Invalid(_) | Self::Unavailable(_) => {
                None
            }
        };
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::Limited { rate, .. } = self {
            respond::set(response, header::RETRY_AFTER, rate.wait_s);
        }
    }
}

fn add_key(key: &MatchedKey, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    let record = key.record();
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    set(KEY_ID, record.id.to_string());
    set(KEY_NAME, percent_encoded(&record.name));
    if let Some(owner) = &record.owner {
        set(OWNER, percent_encoded(owner));
    }
    let scope = HeaderValue::from_static(record.scope.as_str());
    headers.insert(SCOPE, scope);
}

/// `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10.
fn add_draft(rate: &RateLimitState, response: &mut Response<Body>) {
    let policy: Vec<String> = rate
        .policy
        .iter()
        .map(|spec| {
            format!(
                "\"{}\";q={};w={}",
                spec.limit.name,
                spec.limit.tokens,
                spec.limit.period_ms / 1_000
            )
        })
        .collect();
    let deciding = rate.policy.get(rate.limit_at);
    let current = deciding
        .map(|spec| format!("\"{}\";r={};t={}", spec.limit.name, rate.remaining, rate.wait_s));
    let pairs = [(RATELIMIT_POLICY, Some(policy.join(", "))), (RATELIMIT, current)];
    for (name, text) in pairs {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_percent_encoded() {
        assert_eq!(percent_encoded("Production Sync"), "Production%20Sync");
        assert_eq!(percent_encoded("ä\r\n\"~"), "%C3%A4%0D%0A%22~");
    }
}
