//! Sends the requests of a plan and counts the answers.
//!
//! Answers for: latencies that do not hide a stall. With a rate, the latency of a delayed request
//! counts from its due time, as its caller would measure it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use fluxgate_api::validate::ValidateRequest;
use fluxgate_api::{ErrorCode, Verdict};
use fluxgate_client::{self as client, Client, Error, VerdictReport, Window};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::keys::BenchKey;
use super::plan::Plan;
use super::tally::Tally;
use crate::history::{Moment, Outcome, Record};

/// The state of a run that all workers share.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) plan: Plan,
    pub(super) clients: Vec<Client>,
    pub(super) keys: Vec<BenchKey>,
    pub(super) cost: u64,
    pub(super) duration: Duration,
    pub(super) tally: Mutex<Tally>,
    pub(super) history: Option<Mutex<BufWriter<File>>>,
    /// Number of the next request.
    pub(super) next: AtomicUsize,
    pub(super) stopped: AtomicBool,
}

impl Load {
    /// Sends requests until the time is up, and returns the elapsed time.
    pub(super) async fn run(self: &Arc<Self>, workers: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let load = Arc::clone(self);
            tasks.spawn(async move { load.work(started).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.context("a worker failed")??;
        }
        let elapsed = started.elapsed();
        if let Some(history) = &self.history {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            history.flush().context("cannot write the history")?;
        }
        Ok(elapsed)
    }

    async fn work(&self, started: Instant) -> anyhow::Result<()> {
        let until = started + self.duration;
        let request = ValidateRequest { cost: Some(self.cost), ..ValidateRequest::default() };
        loop {
            let pause = match self.plan.rate {
                Some(_) => Duration::ZERO,
                None => self.plan.pause(started.elapsed()),
            };
            if !pause.is_zero() {
                tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            }
            if Instant::now() >= until || self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let mut due = Instant::now();
            if let Some(offset) = self.plan.due(n) {
                due = started + offset;
                if due >= until {
                    return Ok(());
                }
                tokio::time::sleep_until(due).await;
            }
            let (key, node) = self.plan.target(n);
            let answer = self.clients[node].validate(&self.keys[key].token, &request).await;
            self.count(key, node, &answer, due.elapsed())?;
        }
    }

    fn count(
        &self,
        key: usize,
        node: usize,
        answer: &Result<VerdictReport, Error>,
        latency: Duration,
    ) -> anyhow::Result<()> {
        let (outcome, window) = outcome_of(answer);
        {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(key, outcome, window, latency);
            if let Err(error) = answer {
                tally.record_failure(error);
            }
        }
        let Some(history) = &self.history else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let record = Record {
            key: self.keys[key].label.clone(),
            time: Moment::from_ms(u64::try_from(now.as_millis())?),
            node: self.clients[node].urls().join(",").into(),
            verdict: outcome,
            reset: window.map(|window| window.reset),
            limit: window.map(|window| window.limit),
            cost: self.cost,
        };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        history.write_all(&line).context("cannot write the history")
    }
}

/// The outcome of a request, and the window in which it counts.
fn outcome_of(answer: &Result<VerdictReport, Error>) -> (Outcome, Option<Window>) {
    let report = match answer {
        Ok(report) => report,
        Err(Error::Refused { code, .. }) if code.retryable() => {
            return (Outcome::Answered(Verdict::Unavailable), None);
        }
        Err(Error::Refused { code: ErrorCode::Internal | ErrorCode::RequestTimeout, .. }) => {
            return (Outcome::Failed, None);
        }
        Err(Error::Refused { .. }) => return (Outcome::Answered(Verdict::Invalid), None),
        Err(
            Error::Unreachable { .. }
            | Error::NoAnswer { .. }
            | Error::AnswerLost { .. }
            | Error::Unexpected { .. }
            | Error::BadUrl { .. }
            | Error::BadToken
            | Error::BadCa
            | Error::BadIdentity
            | Error::NoUrl,
        ) => return (Outcome::Failed, None),
    };
    let status = match &report.verdict {
        client::Verdict::Admitted(_) => Verdict::Admitted.status(),
        client::Verdict::Denied(body) => body.status(),
    };
    // The first verdict of a status: 429 does not show whether the denial was proven.
    let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.status() == status);
    (verdict.map_or(Outcome::Failed, Outcome::Answered), report.window)
}
