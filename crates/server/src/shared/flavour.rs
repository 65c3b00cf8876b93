//! How a gateway wants its denials: the path below `/v1/authorize` says it.

/// How a gateway wants its denials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// In their own status, with a body.
    Plain,
    /// As a 403 without a body; two headers contain the real status and body.
    Nginx,
    /// The same, except that a 503 stays a 503: nothing was counted, and nginx asks the next node
    /// only if it sees that status.
    NginxRetry,
}

impl Flavour {
    /// Splits the part of a path behind `/v1/authorize/` into the flavour and the requirement, which
    /// the client's own path may follow.
    pub(crate) fn of_path(rest: &str) -> (Self, &str) {
        match rest.strip_prefix("nginx") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let rest = rest.trim_start_matches('/');
                match rest.strip_prefix("retry/") {
                    Some(rest) => (Self::NginxRetry, rest),
                    None => (Self::Nginx, rest),
                }
            }
            Some(_) | None => (Self::Plain, rest),
        }
    }
}
