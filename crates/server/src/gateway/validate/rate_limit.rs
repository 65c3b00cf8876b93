//! What an answer says about the limits of a key: the numbers of its rate-limit headers.

use std::borrow::Cow;
use std::sync::Arc;

use fluxgate_engine::state::named::Named;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_node::config::Config;
use fluxgate_node::counters::Decided;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, Limit, caps};

/// The numbers of the rate-limit headers.
#[derive(Clone, Debug)]
pub(crate) struct RateLimitState {
    /// Tokens per window of the deciding limit.
    pub(crate) limit: u64,
    /// Tokens left in the window.
    pub(crate) remaining: u64,
    /// When the window ends, Unix seconds.
    pub(crate) reset_s: u64,
    /// Seconds until `reset_s`, rounded up, at least 1.
    pub(super) wait_s: u64,
    /// All limits of the subject whose limit decided.
    pub(super) policy: Arc<[LimitSpec]>,
    /// The deciding limit: its place in `policy`.
    pub(super) limit_at: usize,
    /// The limits of all subjects of the request, and whose they are; empty if the key is the only
    /// one.
    pub(super) all: Vec<Policy>,
    /// Which of them decided.
    pub(super) charge_at: usize,
    /// Whether the headers of the IETF draft are sent too.
    pub(super) sends_draft: bool,
}

/// Whose limits they are.
#[derive(Clone, Debug)]
pub(crate) enum Bearer {
    Key,
    Owner,
    Pool(Arc<Named>),
}

impl Bearer {
    /// The name of one of its limits in answers. A pool with one limit has the name of the pool.
    pub(super) fn name_of<'a>(&'a self, limits: &[LimitSpec], name: &'a str) -> Cow<'a, str> {
        match self {
            Self::Key => name.into(),
            Self::Owner => format!("owner/{name}").into(),
            Self::Pool(pool) if limits.len() == 1 => format!("pool/{}", pool.name).into(),
            Self::Pool(pool) => format!("pool/{}/{name}", pool.name).into(),
        }
    }
}

/// The limits of one subject of a request.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(super) bearer: Bearer,
    pub(super) limits: Arc<[LimitSpec]>,
}

impl RateLimitState {
    /// The name of a limit among the deciding ones.
    pub(super) fn name_of<'a>(&'a self, limit: &'a Limit) -> Cow<'a, str> {
        match self.all.get(self.charge_at) {
            Some(policy) => policy.bearer.name_of(&self.policy, &limit.name),
            None => Cow::Borrowed(&limit.name),
        }
    }

    /// Whether no limit is enforced: then the answer shows none.
    pub(super) fn is_unlimited(&self) -> bool {
        self.policy.is_empty()
    }

    /// No limit is enforced. Where an answer must have numbers, they are the largest ones.
    pub(super) fn unlimited(config: &Config, now: ClusterMs) -> Self {
        let policy: Arc<[LimitSpec]> = Arc::new([]);
        let most = caps::LIMIT_TOKENS_MAX;
        Self { limit: most, remaining: most, ..Self::nothing_left(config, policy, now) }
    }

    /// The deciding limit, if it is one of several.
    pub(super) fn one_of_several(&self) -> Option<&Limit> {
        let several = self.policy.len() > 1 || self.all.len() > 1;
        self.policy.get(self.limit_at).filter(|_| several).map(|spec| &spec.limit)
    }

    /// After a decision on a key, or on `all` these subjects.
    pub(super) fn of_decision(
        config: &Config,
        decided: Decided,
        all: Vec<Policy>,
        now: ClusterMs,
    ) -> Self {
        let Decided { decision, limits, at } = decided;
        let now = now.max(at);
        Self {
            limit: decision.tokens,
            remaining: decision.remaining,
            reset_s: decision.reset.0.div_ceil(1_000),
            wait_s: wait_s(decision.reset, now),
            policy: limits,
            limit_at: decision.limit_at,
            all,
            charge_at: decision.charge_at,
            sends_draft: config.ratelimit_draft_headers,
        }
    }

    /// On a 401: the default limit, nothing left, and the end of the window.
    pub(super) fn of_defaults(state: &NodeState, now: ClusterMs) -> Self {
        let policy = Arc::clone(&state.shared.view().defaults);
        let policy = if policy.is_empty() {
            state.config.default_limits.iter().cloned().map(LimitSpec::new).collect()
        } else {
            policy
        };
        Self::nothing_left(&state.config, policy, now)
    }

    /// The first limit with nothing left, and the end of its window.
    pub(super) fn nothing_left(config: &Config, policy: Arc<[LimitSpec]>, now: ClusterMs) -> Self {
        let limit = policy.first().map(|spec| &spec.limit);
        let (tokens, reset) =
            limit.map_or((0, now), |l: &Limit| (l.tokens, l.window_at(now).end()));
        Self {
            limit: tokens,
            remaining: 0,
            reset_s: reset.0.div_ceil(1_000),
            wait_s: wait_s(reset, now),
            policy,
            limit_at: 0,
            all: Vec::new(),
            charge_at: 0,
            sends_draft: config.ratelimit_draft_headers,
        }
    }
}

fn wait_s(reset: ClusterMs, now: ClusterMs) -> u64 {
    (reset - now).div_ceil(1_000).max(1)
}
