//! The outcome of a check of a key: one closed enum for every kind of gateway.
//!
//! Answers for: what each outcome is called, which statuses it has over HTTP and gRPC, whether the
//! caller may repeat the request at another node, and whether tokens were spent. Must never have an
//! arm for "all others": a new outcome must not compile until each of these questions is answered.

use crate::error::ErrorCode;

/// The outcome of a validate, authorize or rate-limit check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The request may pass.
    Admitted,
    /// No credential, or one that is not valid.
    Unauthenticated,
    /// A valid key whose scope is insufficient.
    OutOfScope,
    /// A limit of the key has no tokens left, which is proven.
    Limited,
    /// No tokens were found in time, and it is not proven that none are left.
    Degraded,
    /// The node may not decide now, such as one without a lease.
    Unavailable,
    /// The request costs more than a limit of the key ever allows.
    Invalid,
}

/// The status codes of gRPC (`google.rpc.Code`) that a verdict can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCode {
    /// 0
    Ok,
    /// 7
    PermissionDenied,
    /// 8
    ResourceExhausted,
    /// 14
    Unavailable,
    /// 16
    Unauthenticated,
}

impl GrpcCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

impl Verdict {
    /// Every verdict, for tests and tables.
    pub const ALL: [Self; 7] = [
        Self::Admitted,
        Self::Unauthenticated,
        Self::OutOfScope,
        Self::Limited,
        Self::Degraded,
        Self::Unavailable,
        Self::Invalid,
    ];

    /// The value of the label `verdict` in the metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
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

    /// The name in an access history. A client writes the history, and the answer does not tell it
    /// whether a denial was proven.
    #[must_use]
    pub const fn history_name(self) -> &'static str {
        match self {
            Self::Limited | Self::Degraded => Self::Limited.label(),
            Self::Admitted
            | Self::Unauthenticated
            | Self::OutOfScope
            | Self::Unavailable
            | Self::Invalid => self.label(),
        }
    }

    /// The code in the body; `None` if the request may pass.
    #[must_use]
    pub const fn error_code(self) -> Option<ErrorCode> {
        match self {
            Self::Admitted => None,
            Self::Unauthenticated => Some(ErrorCode::AuthenticationFailed),
            Self::OutOfScope => Some(ErrorCode::InsufficientScope),
            Self::Limited | Self::Degraded => Some(ErrorCode::RateLimitExceeded),
            Self::Unavailable => Some(ErrorCode::Unavailable),
            Self::Invalid => Some(ErrorCode::InvalidRequest),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self.error_code() {
            None => 200,
            Some(code) => code.status(),
        }
    }

    /// The gRPC status, as Envoy's external authorization expects it.
    #[must_use]
    pub const fn grpc_code(self) -> GrpcCode {
        match self {
            Self::Admitted => GrpcCode::Ok,
            Self::Unauthenticated => GrpcCode::Unauthenticated,
            Self::Limited | Self::Degraded => GrpcCode::ResourceExhausted,
            Self::Unavailable => GrpcCode::Unavailable,
            Self::OutOfScope | Self::Invalid => GrpcCode::PermissionDenied,
        }
    }

    /// Whether the caller may repeat the request at another node at once: the cause is the node, and
    /// nothing was spent.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self.error_code() {
            None => false,
            Some(code) => code.retryable(),
        }
    }

    /// Whether the request's cost was spent.
    #[must_use]
    pub const fn counted(self) -> bool {
        match self {
            Self::Admitted => true,
            Self::Unauthenticated
            | Self::OutOfScope
            | Self::Limited
            | Self::Degraded
            | Self::Unavailable
            | Self::Invalid => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_names_and_statuses_are_those_of_the_contract() {
        let row = |verdict: Verdict| {
            let grpc = verdict.grpc_code().number();
            (verdict.label(), verdict.history_name(), verdict.status(), grpc)
        };
        assert_eq!(
            Verdict::ALL.map(row),
            [
                ("admitted", "admitted", 200, 0),
                ("unauthenticated", "unauthenticated", 401, 16),
                ("out_of_scope", "out_of_scope", 403, 7),
                ("limited", "limited", 429, 8),
                ("degraded", "limited", 429, 8),
                ("unavailable", "unavailable", 503, 14),
                ("invalid", "invalid", 400, 7),
            ]
        );
        let labels: BTreeSet<_> = Verdict::ALL.iter().map(|verdict| verdict.label()).collect();
        assert_eq!(labels.len(), Verdict::ALL.len());
    }

    #[test]
    fn only_an_admission_spends_and_only_a_node_that_may_not_decide_is_asked_elsewhere() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.counted(), verdict.status() == 200, "{verdict:?}");
            assert_eq!(verdict.retryable(), verdict.status() == 503, "{verdict:?}");
            assert_eq!(verdict.retryable(), verdict.grpc_code() == GrpcCode::Unavailable);
        }
    }
}
