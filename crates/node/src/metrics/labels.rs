//! Closed sets of label values.

/// Settings that the whole cluster shares: the leader's file applies.
pub const SHARED_SETTINGS: [&str; 3] =
    ["lease.duration", "lease.clock_error_max", "limits.default"];
/// Results of a lease renewal.
pub(super) const RENEWALS: [&str; 2] = ["granted", "failed"];
/// Why a node became leader.
pub(super) const ELECTIONS: [&str; 2] = ["handed_over", "unplanned"];
/// What ended the wait of a write.
pub(super) const BARRIERS: [&str; 2] = ["all_applied", "lease_expired"];
/// Results of a proposal.
pub(super) const PROPOSALS: [&str; 4] = ["committed", "refused", "no_leader", "unknown"];
/// The sockets of a node that can speak TLS.
pub(super) const LISTENERS: [&str; 4] = ["gateway", "grpc", "admin", "peer"];
/// Results of a call to another node.
pub(super) const PEER_RESULTS: [&str; 2] = ["ok", "error"];
/// Directions of a transfer request: `out` from this node, `in` from another.
pub(super) const DIRECTIONS: [&str; 2] = ["out", "in"];
/// Results of a transfer request.
pub(super) const TRANSFERS: [&str; 3] = ["gave", "nothing", "failed"];
/// Whether it was proven that no token was left.
pub(super) const PROOFS: [&str; 2] = ["proven", "unproven"];
/// Only tokens that were transferred are counted.
pub(super) const TOKENS: [&str; 1] = ["moved"];
/// HTTP methods with a label value of their own; the last one is for all others.
pub(super) const METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// The endpoint that received a validate, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Validate,
    Batch,
    Authorize,
    Admin,
    ExtAuthz,
    RateLimit,
}

impl Endpoint {
    pub const ALL: [Self; 6] = [
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

/// How a counter reached its decision, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Local,
    Proven,
    Waited,
    Degraded,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Local, Self::Proven, Self::Waited, Self::Degraded];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Proven => "proven",
            Self::Waited => "waited",
            Self::Degraded => "degraded",
        }
    }
}
