//! Closed sets of labels.

/// What came of a validate, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted,
    Unauthenticated,
    OutOfScope,
    Limited,
    Degraded,
    Unavailable,
    Invalid,
}

impl Verdict {
    pub(super) const ALL: [Self; 7] = [
        Self::Admitted,
        Self::Unauthenticated,
        Self::OutOfScope,
        Self::Limited,
        Self::Degraded,
        Self::Unavailable,
        Self::Invalid,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Unauthenticated => "unauthenticated",
            Self::OutOfScope => "out_of_scope",
            Self::Limited => "limited",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
        }
    }
}

/// Where a validate came in, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Validate,
    Batch,
    Authorize,
    Admin,
    ExtAuthz,
    RateLimit,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 6] = [
        Self::Validate,
        Self::Batch,
        Self::Authorize,
        Self::Admin,
        Self::ExtAuthz,
        Self::RateLimit,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Batch => "batch",
            Self::Authorize => "authorize",
            Self::Admin => "admin",
            Self::ExtAuthz => "ext_authz",
            Self::RateLimit => "ratelimit",
        }
    }
}

/// How a counter decided, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Local,
    Proven,
    Waited,
    Degraded,
}
