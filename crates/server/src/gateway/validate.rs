//! Decides whether a request with this credential may pass, and renders the decision as an answer.
//!
//! Order of checks: lease, shape and checksum, look-up and status, scope, cost, limits. Only an
//! admission spends tokens. Every fault of a credential gets the same 401, so that a caller cannot
//! tell which one it was.

mod charges;
mod presented;
mod rate_limit;
mod reply;

use std::time::Instant;

use fluxgate_api::error::ErrorBody;
use fluxgate_api::text::Text;
use fluxgate_api::validate::ValidateAnswer;
use fluxgate_api::verdict::Verdict;
use fluxgate_engine::quota::{self, LookedUp, Which};
use fluxgate_engine::state::entry::Texts;
use fluxgate_node::clock::boot_now;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, Cost, Scope};

pub(crate) use self::charges::MatchedKey;
use self::charges::{Beside, Found, Shadowed, charges, look_up, over_every_limit};
pub(crate) use self::presented::{
    InHeaders, PresentedCredential, bearer_token, in_headers, presented,
};
use self::rate_limit::Bearer;

pub(crate) use self::rate_limit::RateLimitState;

/// Why a request is not decided, where the node gives no closer reason.
const CANNOT_COUNT: &str = "this node cannot count now";

/// A verdict with the data that its answer needs.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Admitted(MatchedKey, RateLimitState),
    /// `presented`: the caller presented a credential, which is not valid.
    Unauthenticated {
        presented: bool,
        rate: RateLimitState,
    },
    /// `required` is `None` if the gateway did not name a known scope.
    OutOfScope {
        key: MatchedKey,
        required: Option<Scope>,
        rate: RateLimitState,
    },
    /// `degraded`: it is not proven that no token is left.
    Limited {
        key: MatchedKey,
        rate: RateLimitState,
        degraded: bool,
    },
    /// With the reason.
    Invalid(String),
    /// With the reason.
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
    cost: Cost,
    endpoint: Endpoint,
) -> Answer {
    let begun = (endpoint, Instant::now());
    let (answer, uncounted) = validate_uncounted(state, presented, requirement, cost, begun).await;
    uncounted.count(state, Instant::now());
    answer
}

/// A decision on one request that is not counted yet.
#[derive(Debug)]
pub(crate) struct Uncounted {
    endpoint: Endpoint,
    verdict: Verdict,
    begun: Instant,
}

impl Uncounted {
    /// Counts it in the metrics, as of `now`.
    pub(crate) fn count(&self, state: &NodeState, now: Instant) {
        state.metrics.validated(self.endpoint, self.verdict, now - self.begun);
    }
}

/// Decides one request that arrived at `begun`. The caller counts it once the response is made, so
/// that one reading of the clock serves for both.
pub(crate) async fn validate_uncounted(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    requirement: Requirement,
    cost: Cost,
    (endpoint, begun): (Endpoint, Instant),
) -> (Answer, Uncounted) {
    let answer = decide(state, presented, requirement, cost).await;
    let verdict = answer.verdict();
    (answer, Uncounted { endpoint, verdict, begun })
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
                |Found { key, known, .. }| {
                    let limits = known.limits.specs;
                    let rate = RateLimitState::nothing_left(&state.config, limits, now);
                    Answer::Limited { key, rate, degraded: true }
                },
            )
        }
    };
    state.metrics.validated(endpoint, answer.verdict(), begun.elapsed());
    answer
}

async fn decide(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    requirement: Requirement,
    cost: Cost,
) -> Answer {
    let boot = boot_now();
    if !state.published.is_leased(boot) {
        return unavailable(state, "this node holds no lease");
    }
    let now = state.clock.at(boot);
    let rejected = |presented| Answer::Unauthenticated {
        presented,
        rate: RateLimitState::of_defaults(state, now),
    };
    let text = match presented {
        PresentedCredential::Nothing => return rejected(false),
        PresentedCredential::Wrong => return rejected(true),
        PresentedCredential::One(text) => text,
    };
    let Some(Found { key, known, others, shadows }) = look_up(state, text, now) else {
        return rejected(true);
    };
    let required = requirement.scope();
    if !requirement.allows(key.entry.scope()) {
        let Some(rate) = peek(state, &key, known, others, now).await else {
            return unavailable(state, CANNOT_COUNT);
        };
        return Answer::OutOfScope { key, required, rate };
    }
    let subject = key.entry.id().into();
    let which = Which::Counting(required);
    let (decided, all) = if others.is_empty() && known.counts_all(required) {
        // A key with nothing beside it, as most are.
        if let Some(message) = over_every_limit(&Bearer::Key, &known.limits.specs, cost) {
            return Answer::Invalid(message);
        }
        let known = LookedUp { which, ..known };
        (state.counters.decide(&subject, known, cost).await, Vec::new())
    } else {
        let (charged, all) = match charges(&known, subject, &others, which, cost) {
            Ok(charges) => charges,
            Err(message) => return Answer::Invalid(message),
        };
        if charged.is_empty() {
            // No limit counts this request.
            return match peek(state, &key, known, others, now).await {
                Some(rate) => admitted(state, key, rate, &shadows, required, cost, now),
                None => unavailable(state, CANNOT_COUNT),
            };
        }
        (state.counters.decide_joint(charged).await, all)
    };
    let verdict = decided.decision.verdict;
    let rate = RateLimitState::of_decision(&state.config, decided, all, now);
    match verdict {
        quota::Verdict::Admitted => admitted(state, key, rate, &shadows, required, cost, now),
        quota::Verdict::Limited => Answer::Limited { key, rate, degraded: false },
        quota::Verdict::Degraded => Answer::Limited { key, rate, degraded: true },
        quota::Verdict::Unavailable => unavailable(state, CANNOT_COUNT),
    }
}

fn admitted(
    state: &NodeState,
    key: MatchedKey,
    rate: RateLimitState,
    shadows: &[Shadowed],
    required: Option<Scope>,
    cost: Cost,
    now: ClusterMs,
) -> Answer {
    if !cost.is_peek() {
        state.last_uses.used(&key.entry, now);
        for Shadowed { subject, known, bearer } in shadows {
            let counted = known.clone().only(Which::Counting(required));
            let name = |limit: &str| bearer.name_of(&known.limits.specs, limit).into_owned();
            state.counters.shadow(subject, &counted, cost, &name);
        }
    }
    Answer::Admitted(key, rate)
}

/// The state of all limits of a request, also of those that do not count it; `None` if this node cannot
/// count.
async fn peek(
    state: &NodeState,
    key: &MatchedKey,
    known: LookedUp,
    others: Vec<Beside>,
    now: ClusterMs,
) -> Option<RateLimitState> {
    let subject = key.entry.id().into();
    let (decided, all) = if others.is_empty() && !known.limits.specs.is_empty() {
        (state.counters.decide(&subject, known, Cost::PEEK).await, Vec::new())
    } else {
        // A peek is never more than a limit allows.
        let (charged, all) = charges(&known, subject, &others, Which::All, Cost::PEEK).ok()?;
        if charged.is_empty() {
            return Some(RateLimitState::unlimited(&state.config, now));
        }
        (state.counters.decide_joint(charged).await, all)
    };
    let counts = decided.decision.verdict != quota::Verdict::Unavailable;
    counts.then(|| RateLimitState::of_decision(&state.config, decided, all, now))
}

/// The answer to a request without a credential, or with one that is not valid.
pub(crate) fn unauthenticated(state: &NodeState, presented: bool) -> Answer {
    match state.not_ready() {
        Some(why) => Answer::Unavailable(why),
        None => Answer::Unauthenticated {
            presented,
            rate: RateLimitState::of_defaults(state, state.now()),
        },
    }
}

/// The answer of a node that cannot decide; `otherwise` is the reason if the node is ready again.
fn unavailable(state: &NodeState, otherwise: &'static str) -> Answer {
    Answer::Unavailable(state.not_ready().unwrap_or(otherwise))
}

impl Answer {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Admitted(..) => Verdict::Admitted,
            Self::Unauthenticated { .. } => Verdict::Unauthenticated,
            Self::OutOfScope { .. } => Verdict::OutOfScope,
            Self::Limited { degraded: false, .. } => Verdict::Limited,
            Self::Limited { degraded: true, .. } => Verdict::Degraded,
            Self::Invalid(_) => Verdict::Invalid,
            Self::Unavailable(_) => Verdict::Unavailable,
        }
    }

    /// The body of a denial; `None` for an admission. The code is the verdict's.
    pub(crate) fn error_body(&self) -> Option<ErrorBody> {
        let code = self.verdict().error_code()?;
        Some(match self {
            Self::Admitted(..) => return None,
            Self::Unauthenticated { .. } => ErrorBody::authentication_failed(),
            Self::OutOfScope { required: Some(required), .. } => {
                ErrorBody::insufficient_scope(*required)
            }
            Self::OutOfScope { required: None, .. } => {
                ErrorBody::new(code, "The gateway does not say which scope this endpoint requires")
            }
            Self::Limited { rate, .. } => ErrorBody::rate_limit_exceeded(rate.wait_s),
            Self::Invalid(message) => ErrorBody::new(code, message.clone()),
            Self::Unavailable(why) => ErrorBody::new(code, *why),
        })
    }

    /// The body of an admission.
    pub(crate) fn admission(&self) -> Option<ValidateAnswer> {
        let Self::Admitted(key, rate) = self else { return None };
        let entry = &key.entry;
        let Texts { name, owner, .. } = entry.texts();
        Some(ValidateAnswer {
            valid: true,
            key_id: Text(entry.id()),
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            scope: entry.scope(),
            limit: rate.limit,
            remaining: rate.remaining,
            reset: rate.reset_s,
        })
    }

    fn parts(&self) -> (Option<&MatchedKey>, Option<&RateLimitState>) {
        match self {
            Self::Admitted(key, rate)
            | Self::OutOfScope { key, rate, .. }
            | Self::Limited { key, rate, .. } => (Some(key), Some(rate)),
            Self::Unauthenticated { rate, .. } => (None, Some(rate)),
            Self::Invalid(_) | Self::Unavailable(_) => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_node::metrics::Metrics;

    use super::*;

    #[test]
    fn each_verdict_is_counted_under_its_label() {
        for verdict in Verdict::ALL {
            let metrics = Metrics::new();
            metrics.validated(Endpoint::Validate, verdict, std::time::Duration::ZERO);
            let text = String::from_utf8(metrics.text().unwrap()).unwrap();
            let label = verdict.label();
            let series = format!(
                "fluxgate_validate_requests_total{{endpoint=\"validate\",verdict=\"{label}\"}} 1"
            );
            assert!(text.contains(&series), "{series}");
        }
    }
}
