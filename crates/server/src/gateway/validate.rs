//! Validates a presented credential, and renders the verdict as headers and body.
//!
//! Order of checks: lease, shape and checksum, look-up, status, scope, limits. Only an admission
//! spends tokens. Every fault of a credential gets the same 401, so that a caller cannot tell which
//! one it was.

mod headers;
mod presented;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::text::Text;
use fluxgate_api::validate::ValidateAnswer;
use fluxgate_engine::quota::{KeyLimits, LookedUp, Verdict};
use fluxgate_engine::state::record::{KeyEntry, KeyRecord, LimitSpec, Status};
use fluxgate_types::credential::CredentialError;
use fluxgate_types::{ClusterMs, Credential, Digest, KeyId, Limit, Scope, caps};

pub(crate) use self::presented::{InHead, PresentedCredential, bearer_token, in_head, presented};
use crate::shared::respond;
use fluxgate_node::clock::boot_now;
use fluxgate_node::counters::Decided;
use fluxgate_node::metrics::{Endpoint, Verdict as VerdictLabel};
use fluxgate_node::state::NodeState;

/// A key whose credential matched, with its limits.
#[derive(Clone, Debug)]
pub(crate) struct MatchedKey {
    pub(crate) entry: Arc<KeyEntry>,
    limits: LookedUp,
}

impl MatchedKey {
    pub(crate) fn record(&self) -> &KeyRecord {
        &self.entry.record
    }
}

/// The numbers for the rate-limit headers.
#[derive(Clone, Debug)]
pub(crate) struct RateLimitState {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_s: u64,
    // Seconds until `reset_s`, rounded up, at least 1.
    wait_s: u64,
    policy: Arc<[LimitSpec]>,
    limit_at: usize,
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Admitted(MatchedKey, RateLimitState),
    Unauthenticated { presented: bool, quota: RateLimitState },
    OutOfScope { known: MatchedKey, required: Option<Scope>, quota: RateLimitState },
    Limited { known: MatchedKey, quota: RateLimitState, degraded: bool },
    Invalid(String),
    Unavailable(&'static str),
}

/// The scope that an endpoint requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    Any,
    /// A key of this scope or of a larger one.
    Scope(Scope),
    /// No key passes: the gateway did not say what it requires.
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

/// Decides one request and counts it in the metrics.
pub(crate) async fn validate(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    requirement: Requirement,
    cost: u64,
    endpoint: Endpoint,
) -> Answer {
    let begun = Instant::now();
    let answer = verdict(state, presented, requirement, cost).await;
    count_verdict(state, &answer, endpoint, begun.elapsed());
    answer
}

/// The answer to a request whose time ran out before its turn: it spends nothing. Even so, only a
/// caller with a valid key learns that the key is valid.
pub(crate) fn too_late(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    endpoint: Endpoint,
) -> Answer {
    let begun = Instant::now();
    let answer = match (state.not_ready(), presented) {
        (Some(why), _) => Answer::Unavailable(why),
        (None, PresentedCredential::Nothing) => unauthenticated(state, false),
        (None, PresentedCredential::Wrong) => unauthenticated(state, true),
        (None, PresentedCredential::One(text)) => {
            let now = state.now();
            look_up(state, text, now).map_or_else(
                || unauthenticated(state, true),
                |known| {
                    let limits = Arc::clone(&known.limits.limits.limits);
                    let quota = nothing_left(limits, now);
                    Answer::Limited { known, quota, degraded: true }
                },
            )
        }
    };
    count_verdict(state, &answer, endpoint, begun.elapsed());
    answer
}

fn count_verdict(state: &NodeState, answer: &Answer, endpoint: Endpoint, took: Duration) {
    let counted = match answer {
        Answer::Admitted(..) => VerdictLabel::Admitted,
        Answer::Unauthenticated { .. } => VerdictLabel::Unauthenticated,
        Answer::OutOfScope { .. } => VerdictLabel::OutOfScope,
        Answer::Limited { degraded: false, .. } => VerdictLabel::Limited,
        Answer::Limited { degraded: true, .. } => VerdictLabel::Degraded,
        Answer::Invalid(_) => VerdictLabel::Invalid,
        Answer::Unavailable(_) => VerdictLabel::Unavailable,
    };
    state.metrics.validated(endpoint, counted, took);
}

async fn verdict(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    requirement: Requirement,
    cost: u64,
) -> Answer {
    let boot = boot_now();
    if !state.is_leased(boot) {
        return Answer::Unavailable(state.not_ready().unwrap_or("this node holds no lease"));
    }
    let now = state.clock.at(boot);
    let unauthenticated =
        |presented| Answer::Unauthenticated { presented, quota: default_quota(state, now) };
    let text = match presented {
        PresentedCredential::Nothing => return unauthenticated(false),
        PresentedCredential::Wrong => return unauthenticated(true),
        PresentedCredential::One(text) => text,
    };
    let Some(known) = look_up(state, text, now) else { return unauthenticated(true) };
    if !requirement.allows(known.record().scope) {
        let decided = state.decide(&known.record().id, &known.limits, 0).await;
        if decided.decision.verdict == Verdict::Unavailable {
            return Answer::Unavailable(state.not_ready().unwrap_or("this node cannot count now"));
        }
        let quota = quota(decided, now);
        return Answer::OutOfScope { known, required: requirement.scope(), quota };
    }
    if let Some(message) = over_every_limit(&known, cost) {
        return Answer::Invalid(message);
    }
    let decided = state.decide(&known.record().id, &known.limits, cost).await;
    let verdict = decided.decision.verdict;
    let quota = quota(decided, state.now().max(now));
    match verdict {
        Verdict::Admitted => {
            if cost > 0 {
                state.last_uses.used(&known.entry, now);
            }
            Answer::Admitted(known, quota)
        }
        Verdict::Limited => Answer::Limited { known, quota, degraded: false },
        Verdict::Degraded => Answer::Limited { known, quota, degraded: true },
        Verdict::Unavailable => {
            Answer::Unavailable(state.not_ready().unwrap_or("this node cannot count now"))
        }
    }
}

/// Finds the key that matches a credential and is active now.
pub(crate) fn look_up(state: &NodeState, text: &[u8], now: ClusterMs) -> Option<MatchedKey> {
    let (digest, id) = match Credential::parse(text) {
        Ok(credential) => (credential.digest, Some(credential.key_id)),
        // Most likely a typing error: no look-up is needed.
        Err(CredentialError::Checksum) => return None,
        // An imported key may have any shape.
        Err(CredentialError::Length | CredentialError::Shape) => {
            let bounded = (1..=caps::CREDENTIAL_BYTES_MAX).contains(&text.len());
            (bounded.then(|| Digest::of(text))?, None)
        }
    };
    // Read BEFORE everything that the limits come from, so that a later change shows in the
    // revision.
    let revision = state.shared.table.revision();
    let view = state.shared.view();
    let open = |entry: &Arc<KeyEntry>| {
        let record = &entry.record;
        let valid = record.opens(&digest, now) && record.status(now) == Status::Active;
        valid.then(|| MatchedKey {
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
    let table = &state.shared.table;
    let found = id.and_then(|id| table.with(&id, open).flatten());
    found.or_else(|| table.with(&KeyId::of_imported(&digest), open).flatten())
}

/// The answer to a request without a credential, or with one that is not valid.
pub(crate) fn unauthenticated(state: &NodeState, presented: bool) -> Answer {
    match state.not_ready() {
        Some(why) => Answer::Unavailable(why),
        None => Answer::Unauthenticated { presented, quota: default_quota(state, state.now()) },
    }
}

/// What a 401 shows: the default limit, nothing remaining, and the end of the window.
fn default_quota(state: &NodeState, now: ClusterMs) -> RateLimitState {
    let policy = Arc::clone(&state.shared.view().defaults);
    let policy = if policy.is_empty() {
        state.config.default_limits.iter().cloned().map(LimitSpec::new).collect()
    } else {
        policy
    };
    nothing_left(policy, now)
}

/// The first limit with nothing remaining, and the end of its window.
fn nothing_left(policy: Arc<[LimitSpec]>, now: ClusterMs) -> RateLimitState {
    let limit = policy.first().map(|spec| &spec.limit);
    let (tokens, reset) =
        limit.map_or((0, now), |l: &Limit| (l.tokens, l.window_end(l.window_at(now))));
    RateLimitState {
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

fn quota(decided: Decided, now: ClusterMs) -> RateLimitState {
    let Decided { decision, limits } = decided;
    RateLimitState {
        limit: decision.tokens,
        remaining: decision.remaining,
        reset_s: decision.reset.0.div_ceil(1_000),
        wait_s: wait_s(decision.reset, now),
        policy: limits,
        limit_at: decision.limit_at,
    }
}

/// A cost above a whole window's tokens can never be admitted: it is an invalid request, not a 429.
fn over_every_limit(known: &MatchedKey, cost: u64) -> Option<String> {
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

    fn parts(&self) -> (Option<&MatchedKey>, Option<&RateLimitState>) {
        match self {
            Self::Admitted(known, quota)
            | Self::OutOfScope { known, quota, .. }
            | Self::Limited { known, quota, .. } => (Some(known), Some(quota)),
            Self::Unauthenticated { quota, .. } => (None, Some(quota)),
            Self::Invalid(_) | Self::Unavailable(_) => (None, None),
        }
    }

    /// The complete response of `/v1/validate`.
    pub(crate) fn into_response(self, state: &NodeState) -> Response<Body> {
        let mut response = match (self.admission(), self.error_body()) {
            (Some(admission), _) => match serde_json::to_vec(&admission) {
                Ok(text) => respond::bytes(StatusCode::OK, "application/json", text.into()),
                Err(_) => respond::refuse(ErrorCode::Internal, "internal error"),
            },
            (None, Some(body)) => respond::error(&body),
            (None, None) => respond::refuse(ErrorCode::Internal, "internal error"),
        };
        self.add_headers(state, &mut response);
        response
    }
}
