//! The counts of a bench, and their evaluation.
//!
//! Answers for: latencies, verdicts, and the admitted cost of each window compared with its limit
//! and its demand. Windows are taken from the answers, so that no local clock is compared with the
//! cluster's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use fluxgate_api::Verdict;
use fluxgate_client::Window;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::history::Outcome;

/// Longest latency in the histogram, microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// The counts of one window, in tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    admitted: u64,
    demanded: u64,
}

/// The counts of a run.
#[derive(Debug)]
pub(super) struct Tally {
    latency_us: Histogram<u64>,
    outcomes: BTreeMap<&'static str, u64>,
    /// The windows by key, limit and end.
    windows: HashMap<(usize, u64, u64), Seen>,
    /// Keys with a request whose outcome is unknown, so that their admissions are not known
    /// exactly.
    uncertain: HashSet<usize>,
    cost: u64,
    first_failure: Option<String>,
}

impl Tally {
    pub(super) fn new(cost: u64) -> anyhow::Result<Self> {
        let latency_us =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).context("cannot make a histogram")?;
        Ok(Self {
            latency_us,
            outcomes: BTreeMap::new(),
            windows: HashMap::new(),
            uncertain: HashSet::new(),
            cost,
            first_failure: None,
        })
    }

    /// Counts one answer.
    pub(super) fn add(
        &mut self,
        key: usize,
        outcome: Outcome,
        window: Option<Window>,
        latency: Duration,
    ) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(micros.max(1));
        *self.outcomes.entry(outcome.as_str()).or_default() += 1;
        let admitted = match outcome {
            Outcome::Answered(Verdict::Admitted) => self.cost,
            Outcome::Answered(Verdict::Limited | Verdict::Degraded) => 0,
            Outcome::Failed => {
                self.uncertain.insert(key);
                return;
            }
            Outcome::Answered(
                Verdict::Unauthenticated
                | Verdict::OutOfScope
                | Verdict::Unavailable
                | Verdict::Invalid,
            ) => return,
        };
        if let Some(window) = window {
            let at = (key, window.limit, window.reset);
            let seen = self.windows.entry(at).or_default();
            seen.admitted += admitted;
            seen.demanded += self.cost;
        }
    }

    /// Keeps the first failure for the report.
    pub(super) fn record_failure(&mut self, error: &fluxgate_client::Error) {
        self.first_failure.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    pub(super) fn requests(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Whether no request was answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.count(Outcome::Failed) == self.requests()
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or(0)
    }

    pub(super) fn latencies(&self) -> Latencies {
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        Latencies {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: self.latency_us.max(),
        }
    }

    pub(super) fn verdicts(&self) -> BTreeMap<&'static str, u64> {
        let all = Outcome::ALL.into_iter();
        all.map(|outcome| (outcome.as_str(), self.count(outcome))).collect()
    }

    pub(super) fn windows(&self) -> Windows {
        let mut windows = Windows { checked: self.windows.len(), over_limit: 0, short: 0 };
        for (&(key, limit, _), seen) in &self.windows {
            // With a cost of 3, a limit of 100 admits 99.
            let whole = limit - limit % self.cost.max(1);
            windows.over_limit += usize::from(seen.admitted > limit);
            let short = seen.admitted < whole.min(seen.demanded);
            windows.short += usize::from(short && !self.uncertain.contains(&key));
        }
        windows
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p99_9: u64,
    pub(super) max: u64,
}

/// Numbers of windows, in total and with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Windows {
    pub(super) checked: usize,
    /// Windows that admitted more than their limit. Must be 0.
    pub(super) over_limit: usize,
    /// Windows that admitted less than min(demand, limit), except those of keys with an unknown
    /// outcome.
    pub(super) short: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMITTED: Outcome = Outcome::Answered(Verdict::Admitted);
    const LIMITED: Outcome = Outcome::Answered(Verdict::Limited);
    const UNAVAILABLE: Outcome = Outcome::Answered(Verdict::Unavailable);
    const WINDOW: Option<Window> = Some(Window { limit: 10, remaining: 0, reset: 60 });

    fn tally(cost: u64, answers: &[(Outcome, usize)]) -> Tally {
        let mut tally = Tally::new(cost).unwrap();
        for &(outcome, times) in answers {
            for _ in 0..times {
                tally.add(0, outcome, WINDOW, Duration::from_micros(250));
            }
        }
        tally
    }

    fn windows(cost: u64, answers: &[(Outcome, usize)]) -> (usize, usize, usize) {
        let windows = tally(cost, answers).windows();
        (windows.checked, windows.over_limit, windows.short)
    }

    #[test]
    fn windows_are_over_short_or_exact() {
        assert_eq!(windows(1, &[(ADMITTED, 10), (LIMITED, 5)]), (1, 0, 0));
        assert_eq!(windows(1, &[(ADMITTED, 4)]), (1, 0, 0));
        assert_eq!(windows(1, &[(ADMITTED, 9), (LIMITED, 1)]), (1, 0, 1));
        assert_eq!(windows(1, &[(ADMITTED, 11)]), (1, 1, 0));
        assert_eq!(windows(3, &[(ADMITTED, 3), (LIMITED, 1)]), (1, 0, 0));
        assert_eq!(windows(3, &[(ADMITTED, 2), (LIMITED, 2)]), (1, 0, 1));
        assert_eq!(windows(0, &[(ADMITTED, 99)]), (1, 0, 0));
        assert_eq!(windows(1, &[(ADMITTED, 4), (UNAVAILABLE, 9)]), (1, 0, 0));
        let lost = [(ADMITTED, 9), (LIMITED, 1), (Outcome::Failed, 1)];
        assert_eq!(windows(1, &lost), (1, 0, 0));
    }

    #[test]
    fn a_run_without_answers_is_detected() {
        assert!(tally(1, &[(Outcome::Failed, 3)]).is_unanswered());
        let answered = tally(1, &[(Outcome::Failed, 3), (LIMITED, 1)]);
        assert!(!answered.is_unanswered());
        assert_eq!(answered.requests(), 4);
        assert_eq!(answered.latencies().max, 250);
    }
}
