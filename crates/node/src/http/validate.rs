//! From a presented credential to a verdict, and from a verdict to headers.
//!
//! Order of checks: lease, shape and checksum, look-up, status, scope, limits. Only an admission
//! spends. One 401 for all that is wrong with a credential, so that nobody learns which.

mod headers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::paths::header as names;
use fluxgate_api::text::Text;
use fluxgate_api::validate::ValidateAnswer;
use fluxgate_engine::counters::{KeyLimits, LookedUp, Verdict};
use fluxgate_engine::registry::record::{KeyEntry, KeyRecord, LimitSpec, Status};
use fluxgate_types::credential::{CredentialError, is_like_a_key};
use fluxgate_types::{ClusterMs, Credential, Digest, KeyId, Limit, Scope, caps};

use super::respond;
use crate::clock::boot_now;
use crate::core::Core;
use crate::counters::Decided;
use crate::metrics::{Endpoint, Verdict as Counted};

/// What is known of a key once its credential fits.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) entry: Arc<KeyEntry>,
    limits: LookedUp,
}

impl Known {
    pub(crate) fn record(&self) -> &KeyRecord {
        &self.entry.record
    }
}

/// Figures for the headers.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_s: u64,
    // Seconds until then, rounded up, at least 1.
    wait_s: u64,
    policy: Arc<[LimitSpec]>,
    limit_at: usize,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Admitted(Known, Quota),
    Unauthenticated { presented: bool, quota: Quota },
    OutOfScope { known: Known, required: Option<Scope>, quota: Quota },
    Limited { known: Known, quota: Quota, degraded: bool },
    Invalid(String),
    Unavailable(&'static str),
}

/// What an endpoint demands of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Any valid key.
    Any,
    /// A key of this scope or a larger one.
    Scope(Scope),
    /// No key can pass: the gateway did not say what it requires.
    Unknown,
}

impl Requirement {
    fn allows(self, scope: Scope) -> bool {
        match self {
            Self::Any => true,
            Self::Scope(required) => scope.includes(required),
            Self::Unknown => false,
        }
    }

    fn scope(self) -> Option<Scope> {
        match self {
            Self::Scope(required) => Some(required),
            Self::Any | Self::Unknown => None,
        }
    }
}

/// A credential as presented in the head of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Presented<'a> {
    Nothing,
    One(&'a [u8]),
    /// Two different ones, one twice, or not a Bearer token.
    Wrong,
}

/// What a request's head presents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InHead<'a> {
    /// The credential.
    pub(crate) presented: Presented<'a>,
    /// `Authorization` beside an `X-API-Key`, where it is none of ours: it belongs to the application.
    pub(crate) foreign: Option<&'a HeaderValue>,
}

/// Finds the credential in a request's head, as a gateway hands it over.
///
/// An `Authorization` beside an `X-API-Key` counts only where it has the shape of one of our keys:
/// an application may have tokens of its own.
pub(crate) fn in_head(headers: &HeaderMap) -> InHead<'_> {
    let mut bearers = headers.get_all(header::AUTHORIZATION).iter();
    let mut keys = headers.get_all(names::X_API_KEY).iter();
    let (authorization, key) = (bearers.next(), keys.next());
    if bearers.next().is_some() || keys.next().is_some() {
        return InHead { presented: Presented::Wrong, foreign: None };
    }
    let bearer = authorization.map(|value| bearer_token(value.as_bytes()));
    let key = key.map(|key| key.as_bytes().trim_ascii());
    let presented = match (bearer, key) {
        (None, None) => Presented::Nothing,
        (Some(None), None) => Presented::Wrong,
        (Some(Some(one)), None) | (None, Some(one)) => Presented::One(one),
        (Some(Some(bearer)), Some(key)) if bearer == key => Presented::One(key),
        (Some(Some(bearer)), Some(_)) if is_like_a_key(bearer) => Presented::Wrong,
        (Some(_), Some(key)) => {
            return InHead { presented: Presented::One(key), foreign: authorization };
        }
    };
    InHead { presented, foreign: None }
}

/// Finds the credential in the head of a request to a node itself: there is no application that an
/// `Authorization` could belong to, so two different ones are wrong.
pub(crate) fn presented(headers: &HeaderMap) -> Presented<'_> {
    let InHead { presented, foreign } = in_head(headers);
    if foreign.is_some() { Presented::Wrong } else { presented }
}

/// The token of `Bearer TOKEN`, the scheme in any case (RFC 6750, section 2.1; RFC 9110, 11.1).
pub(crate) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?;
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

impl Core {
    /// Decides one request and counts it.
    pub(crate) async fn validate(
        &self,
        presented: Presented<'_>,
        requirement: Requirement,
        cost: u64,
        endpoint: Endpoint,
    ) -> Answer {
        let begun = Instant::now();
        let answer = self.verdict(presented, requirement, cost).await;
        self.count_verdict(&answer, endpoint, begun.elapsed());
        answer
    }

    /// The answer to a request for which there was no time: nothing is spent, nothing proven. Still
    /// nobody without a valid key is told that it is valid.
    pub(crate) fn too_late(&self, presented: Presented<'_>, endpoint: Endpoint) -> Answer {
        let begun = Instant::now();
        let answer = match (self.not_ready(), presented) {
            (Some(why), _) => Answer::Unavailable(why),
            (None, Presented::Nothing) => self.unauthenticated(false),
            (None, Presented::Wrong) => self.unauthenticated(true),
            (None, Presented::One(text)) => {
                let now = self.now();
                self.look_up(text, now).map_or_else(
                    || self.unauthenticated(true),
                    |known| {
                        let limits = Arc::clone(&known.limits.limits.limits);
                        let quota = nothing_left(limits, now);
                        Answer::Limited { known, quota, degraded: true }
                    },
                )
            }
        };
        self.count_verdict(&answer, endpoint, begun.elapsed());
        answer
    }

    fn count_verdict(&self, answer: &Answer, endpoint: Endpoint, took: Duration) {
        let counted = match answer {
            Answer::Admitted(..) => Counted::Admitted,
            Answer::Unauthenticated { .. } => Counted::Unauthenticated,
            Answer::OutOfScope { .. } => Counted::OutOfScope,
            Answer::Limited { degraded: false, .. } => Counted::Limited,
            Answer::Limited { degraded: true, .. } => Counted::Degraded,
            Answer::Invalid(_) => Counted::Invalid,
            Answer::Unavailable(_) => Counted::Unavailable,
        };
        self.metrics.validated(endpoint, counted, took);
    }

    async fn verdict(
        &self,
        presented: Presented<'_>,
        requirement: Requirement,
        cost: u64,
    ) -> Answer {
        let boot = boot_now();
        if !self.is_leased(boot) {
            return Answer::Unavailable(self.not_ready().unwrap_or("this node holds no lease"));
        }
        let now = self.clock.at(boot);
        let unauthenticated =
            |presented| Answer::Unauthenticated { presented, quota: self.default_quota(now) };
        let text = match presented {
            Presented::Nothing => return unauthenticated(false),
            Presented::Wrong => return unauthenticated(true),
            Presented::One(text) => text,
        };
        let Some(known) = self.look_up(text, now) else { return unauthenticated(true) };
        if !requirement.allows(known.record().scope) {
            let decided = self.decide(&known.record().id, &known.limits, 0).await;
            if decided.decision.verdict == Verdict::Unavailable {
                return Answer::Unavailable(
                    self.not_ready().unwrap_or("this node cannot count now"),
                );
            }
            let quota = quota(decided, now);
            return Answer::OutOfScope { known, required: requirement.scope(), quota };
        }
        if let Some(message) = over_every_limit(&known, cost) {
            return Answer::Invalid(message);
        }
        let decided = self.decide(&known.record().id, &known.limits, cost).await;
        let verdict = decided.decision.verdict;
        let quota = quota(decided, self.now().max(now));
        match verdict {
            Verdict::Admitted => {
                if cost > 0 {
                    known.entry.touch(now);
                }
                Answer::Admitted(known, quota)
            }
            Verdict::Limited => Answer::Limited { known, quota, degraded: false },
            Verdict::Degraded => Answer::Limited { known, quota, degraded: true },
            Verdict::Unavailable => {
                Answer::Unavailable(self.not_ready().unwrap_or("this node cannot count now"))
            }
        }
    }

    /// The key that a credential opens now.
    pub(crate) fn look_up(&self, text: &[u8], now: ClusterMs) -> Option<Known> {
        let (digest, id) = match Credential::parse(text) {
            Ok(credential) => (credential.digest, Some(credential.key_id)),
            // A typing error, most likely: told by no look-up at all.
            Err(CredentialError::Checksum) => return None,
            // An imported key may have any shape.
            Err(CredentialError::Length | CredentialError::Shape) => {
                let bounded = (1..=caps::CREDENTIAL_BYTES_MAX).contains(&text.len());
                (bounded.then(|| Digest::of(text))?, None)
            }
        };
        // Before anything is read that the limits come from.
        let revision = self.shared.table.revision();
        let view = self.shared.view();
        let open = |entry: &Arc<KeyEntry>| {
            let record = &entry.record;
            let valid = record.opens(&digest, now) && record.status(now) == Status::Active;
            valid.then(|| Known {
                entry: Arc::clone(entry),
                limits: LookedUp {
                    limits: KeyLimits {
                        created: record.created_index,
                        limits: Arc::clone(record.limits(&view.defaults)),
                    },
                    revision,
                },
            })
        };
        let table = &self.shared.table;
        let found = id.and_then(|id| table.with(&id, open).flatten());
        found.or_else(|| table.with(&KeyId::of_imported(&digest), open).flatten())
    }

    /// The answer to whoever has shown no key, or one that is none any more.
    pub(crate) fn unauthenticated(&self, presented: bool) -> Answer {
        match self.not_ready() {
            Some(why) => Answer::Unavailable(why),
            None => Answer::Unauthenticated { presented, quota: self.default_quota(self.now()) },
        }
    }

    /// What a 401 shows: the default limit, nothing left, the end of the window.
    fn default_quota(&self, now: ClusterMs) -> Quota {
        let policy = Arc::clone(&self.shared.view().defaults);
        let policy = if policy.is_empty() {
            self.config.default_limits.iter().cloned().map(LimitSpec::new).collect()
        } else {
            policy
        };
        nothing_left(policy, now)
    }
}

/// The first of the limits, nothing left of it, and the end of its window.
fn nothing_left(policy: Arc<[LimitSpec]>, now: ClusterMs) -> Quota {
    let limit = policy.first().map(|spec| &spec.limit);
    let (tokens, reset) =
        limit.map_or((0, now), |l: &Limit| (l.tokens, l.window_end(l.window_at(now))));
    Quota {
        limit: tokens,
        remaining: 0,
        reset_s: reset.0.div_ceil(1_000),
        wait_s: wait_s(reset, now),
        policy,
        limit_at: 0,
    }
}

fn wait_s(reset: ClusterMs, now: ClusterMs) -> u64 {
    (reset - now).div_ceil(1_000).max(1)
}

fn quota(decided: Decided, now: ClusterMs) -> Quota {
    let Decided { decision, limits } = decided;
    Quota {
        limit: decision.tokens,
        remaining: decision.remaining,
        reset_s: decision.reset.0.div_ceil(1_000),
        wait_s: wait_s(decision.reset, now),
        policy: limits,
        limit_at: decision.limit_at,
    }
}

/// A cost that a whole window cannot hold is a mistake, not a matter of waiting.
fn over_every_limit(known: &Known, cost: u64) -> Option<String> {
    let limits = &known.limits.limits.limits;
    let smallest = limits.iter().map(|spec| &spec.limit).min_by_key(|l| l.tokens)?;
    (cost > smallest.tokens).then(|| {
        format!(
            "cost: {cost} is more than the limit `{}` of {} ever allows",
            smallest.name, smallest.tokens
        )
    })
}

impl Answer {
    /// The body of a denial.
    pub(crate) fn error_body(&self) -> Option<ErrorBody> {
        match self {
            Self::Admitted(..) => None,
            Self::Unauthenticated { .. } => Some(ErrorBody::authentication_failed()),
            Self::OutOfScope { required: Some(required), .. } => {
                Some(ErrorBody::insufficient_scope(*required))
            }
            Self::OutOfScope { required: None, .. } => {
                let message = "The gateway does not say which scope this endpoint requires";
                Some(ErrorBody::new(ErrorCode::InsufficientScope, message))
            }
            Self::Limited { quota, .. } => Some(ErrorBody::rate_limit_exceeded(quota.wait_s)),
            Self::Invalid(message) => {
                Some(ErrorBody::new(ErrorCode::InvalidRequest, message.clone()))
            }
            Self::Unavailable(why) => Some(ErrorBody::new(ErrorCode::Unavailable, *why)),
        }
    }

    /// The body of an admission.
    pub(crate) fn admission(&self) -> Option<ValidateAnswer> {
        let Self::Admitted(known, quota) = self else { return None };
        let record = known.record();
        Some(ValidateAnswer {
            valid: true,
            key_id: Text(record.id),
            name: record.name.to_string(),
            owner: record.owner.as_ref().map(ToString::to_string),
            scope: record.scope,
            limit: quota.limit,
            remaining: quota.remaining,
            reset: quota.reset_s,
        })
    }

    fn parts(&self) -> (Option<&Known>, Option<&Quota>) {
        match self {
            Self::Admitted(known, quota)
            | Self::OutOfScope { known, quota, .. }
            | Self::Limited { known, quota, .. } => (Some(known), Some(quota)),
            Self::Unauthenticated { quota, .. } => (None, Some(quota)),
            Self::Invalid(_) | Self::Unavailable(_) => (None, None),
        }
    }

    /// The whole answer of `/v1/validate`.
    pub(crate) fn into_response(self, core: &Core) -> Response<Body> {
        let mut response = match (self.admission(), self.error_body()) {
            (Some(admission), _) => match serde_json::to_vec(&admission) {
                Ok(text) => respond::bytes(StatusCode::OK, "application/json", text.into()),
                Err(_) => respond::refuse(ErrorCode::Internal, "internal error"),
            },
            (None, Some(body)) => respond::error(&body),
            (None, None) => respond::refuse(ErrorCode::Internal, "internal error"),
        };
        self.add_headers(core, &mut response);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "Bearer fx_live_AAAAAAAAAAAA_nonsense";

    fn head(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
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
            let headers = head(pairs);
            let found = in_head(&headers);
            assert!(matches!(found.presented, Presented::One(b"k1")), "{pairs:?}");
            assert!(found.foreign.is_none(), "{pairs:?}");
            assert!(matches!(presented(&headers), Presented::One(b"k1")), "{pairs:?}");
        }
        assert!(matches!(in_head(&head(&[])).presented, Presented::Nothing));
    }

    #[test]
    fn an_authorization_of_the_applications_own_is_left_to_it() {
        for value in ["Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dTpw", "Bearer", "Bear", "", "x"] {
            let headers = head(&[("x-api-key", "k1"), ("authorization", value)]);
            let found = in_head(&headers);
            assert!(matches!(found.presented, Presented::One(b"k1")), "{value:?}");
            assert_eq!(found.foreign.map(HeaderValue::as_bytes), Some(value.as_bytes()));
            // A node itself knows no application.
            assert!(matches!(presented(&headers), Presented::Wrong), "{value:?}");
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
            assert!(matches!(in_head(&head(pairs)).presented, Presented::Wrong), "{pairs:?}");
        }
    }
}
