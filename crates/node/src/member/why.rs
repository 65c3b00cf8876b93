//! Logs why the lease is missing: each reason once, and its details at a bounded rate.

use std::time::Duration;

use tokio::time::Instant;

use crate::reason::Reason;

/// The shortest time between two log lines for one reason whose details change.
const TELL_DETAILS_EVERY: Duration = Duration::from_secs(2);

/// What was last logged about the lease.
#[derive(Debug, Default)]
pub(super) struct ToldWhy {
    last: Option<(Refused, Instant)>,
}

impl ToldWhy {
    /// Logs the reason if it is new.
    pub(super) fn tell(&mut self, why: Option<Refused>) {
        let known = match (&self.last, &why) {
            (None, None) => true,
            // The list of missing nodes may change with every call.
            (Some((last, at)), Some(why)) if last.name == why.name => {
                last.reason == why.reason || at.elapsed() < TELL_DETAILS_EVERY
            }
            _ => false,
        };
        if known {
            return;
        }
        match &why {
            None => tracing::info!("the lease is renewed"),
            Some(Refused { reason, error, is_usual: true, .. }) => {
                tracing::info!(%reason, %error, "the lease is not renewed yet");
            }
            Some(Refused { reason, error, .. }) => {
                tracing::warn!(%reason, %error, "the lease is not renewed");
            }
        }
        self.last = why.map(|why| (why, Instant::now()));
    }
}

/// Why the lease was not renewed, for the log.
#[derive(Debug)]
pub(super) struct Refused {
    name: String,
    reason: String,
    error: String,
    /// Usual at every start and change of leaders.
    is_usual: bool,
}

impl Refused {
    /// Combines the reason from the closed list with the error of the attempt.
    pub(super) fn of(reason: Option<Reason>, error: String) -> Self {
        match reason {
            Some(reason) if reason != Reason::Waiting => Self {
                name: reason.name().to_owned(),
                reason: reason.to_string(),
                error,
                is_usual: matches!(&reason, Reason::Stopping)
                    || matches!(&reason, Reason::NotFormed(missing) if missing.is_empty()),
            },
            // The lease still runs, or nothing is wrong but that there is none yet.
            Some(_) | None => Self {
                name: error.clone(),
                reason: Reason::Waiting.to_string(),
                error,
                is_usual: true,
            },
        }
    }
}
