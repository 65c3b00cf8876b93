//! What Prometheus sees.
//!
//! Answers for: every name and label set of `design/operations.md`, closed label sets only, each
//! series present from the start with 0. Handles are kept; nothing on a hot path looks one up.

mod labels;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluxgate_api::error::ErrorCode;
use fluxgate_engine::state::record::Status;
use fluxgate_raft::Call;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::peer::messages::ServedReply;
pub(crate) use labels::{Endpoint, Kind, Verdict};

/// From 10 µs to 1 s.
const SECONDS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];
/// For what may take a lease or more.
const LONG_SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The metrics of one node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    validates: [[IntCounter; 7]; 6],
    validate_seconds: [Histogram; 6],
    decisions: [IntCounter; 4],
    pub(crate) wait_seconds: Histogram,
    asks: IntCounterVec,
    tokens: IntCounterVec,
    pub(crate) counters: IntGauge,
    keys: IntGaugeVec,
    pub(crate) lease_remaining: Gauge,
    renewals: IntCounterVec,
    barrier: HistogramVec,
    pub(crate) term: IntGauge,
    pub(crate) last_log: IntGauge,
    pub(crate) committed: IntGauge,
    pub(crate) applied: IntGauge,
    pub(crate) snapshot: IntGauge,
    pub(crate) is_leader: IntGauge,
    pub(crate) has_leader: IntGauge,
    pub(crate) voters: IntGauge,
    pub(crate) leader_changes: IntCounter,
    elections: IntCounterVec,
    pub(crate) unplanned_stops: IntCounter,
    proposals: IntCounterVec,
    pub(crate) proposal_seconds: Histogram,
    pub(crate) fsync_seconds: Histogram,
    pub(crate) storage_bytes: IntGauge,
    pub(crate) storage_free: IntGauge,
    pub(crate) state_differs: IntGauge,
    pub(crate) can_write: IntGauge,
    config_differs: IntGaugeVec,
    pub(crate) clock_offset: Gauge,
    peer_requests: IntCounterVec,
    peer_seconds: HistogramVec,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    certificate_ends: IntGaugeVec,
    // The same by listener, for whoever asks without a scrape.
    certificates: Mutex<BTreeMap<String, i64>>,
    tls_failures: IntCounterVec,
}

/// The statuses of a hot route.
const HOT_STATUSES: [u16; 6] = [200, 400, 401, 403, 429, 503];

/// Kept series of a route that is hot.
#[derive(Debug)]
pub(crate) struct HotRoute {
    route: &'static str,
    method: &'static str,
    counters: [IntCounter; HOT_STATUSES.len()],
    seconds: Histogram,
}

struct Builder {
    registry: Registry,
}

impl Builder {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        // Names and labels are literals of this file: a mistake shows in the first test that
        // makes a node, never at run time.
        #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
        let made = made.expect("a metric has a valid name");
        #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
        self.registry.register(Box::new(made.clone())).expect("a metric is registered once");
        made
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(format!("fluxgate_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(format!("fluxgate_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("fluxgate_{name}"), help))
    }

    fn seconds_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(format!("fluxgate_{name}"), help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(format!("fluxgate_{name}"), help);
        self.register(Histogram::with_opts(options.buckets(buckets.to_vec())))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(format!("fluxgate_{name}"), help);
        self.register(HistogramVec::new(options.buckets(buckets.to_vec()), labels))
    }
}

/// Settings that are the whole cluster's: the leader's file counts.
pub(crate) const SHARED_SETTINGS: [&str; 3] =
    ["lease.duration", "lease.clock_error_max", "limits.default"];
const RENEWALS: [&str; 3] = ["granted", "refused", "failed"];
const ELECTIONS: [&str; 2] = ["handed_over", "unplanned"];
const BARRIERS: [&str; 2] = ["all_applied", "lease_expired"];
const PROPOSALS: [&str; 4] = ["committed", "refused", "no_leader", "unknown"];
const LISTENERS: [&str; 4] = ["gateway", "grpc", "admin", "peer"];
const PEER_RESULTS: [&str; 2] = ["ok", "error"];

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "one line a metric, and nothing else")]
    pub(crate) fn new() -> Self {
        let b = Builder { registry: Registry::new() };
        let labels = ["verdict", "endpoint"];
        let validates = b.counters("validate_requests_total", "Validates by verdict.", &labels);
        let seconds = b.histograms(
            "validate_duration_seconds",
            "Time to a verdict.",
            &SECONDS,
            &["endpoint"],
        );
        let decisions =
            b.counters("counter_decisions_total", "Decisions of counters by kind.", &["kind"]);
        let info = b.register(GaugeVec::new(
            Opts::new("fluxgate_build_info", "Version and revision of the binary, always 1."),
            &["version", "revision", "rustc"],
        ));
        let revision = option_env!("FLUXGATE_REVISION").unwrap_or("unknown");
        let rustc = env!("CARGO_PKG_RUST_VERSION");
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1.0);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        b.registry.register(Box::new(process)).ok();
        let metrics = Self {
            validates: Endpoint::ALL.map(|endpoint| {
                Verdict::ALL.map(|v| validates.with_label_values(&[v.as_str(), endpoint.as_str()]))
            }),
            validate_seconds: Endpoint::ALL.map(|e| seconds.with_label_values(&[e.as_str()])),
            decisions: ["local", "proven", "waited", "degraded"]
                .map(|k| decisions.with_label_values(&[k])),
            wait_seconds: b.histogram(
                "counter_wait_seconds",
                "Wait for tokens of other nodes.",
                &SECONDS,
            ),
            asks: b.counters("transfer_asks_total", "Requests to and from other nodes for tokens, by result.", &["direction", "result"]),
            tokens: b.counters(
                "transfer_tokens_total",
                "Tokens that moved between nodes.",
                &["direction", "result"],
            ),
            counters: b.gauge("counters", "Counters in memory."),
            keys: b.register(IntGaugeVec::new(
                Opts::new("fluxgate_keys", "Keys by status."),
                &["status"],
            )),
            lease_remaining: b
                .seconds_gauge("lease_remaining_seconds", "Time left of this node's lease."),
            renewals: b.counters("lease_renewals_total", "Lease renewals by result.", &["result"]),
            barrier: b.histograms(
                "write_barrier_seconds",
                "Wait until a write holds everywhere.",
                &LONG_SECONDS,
                &["outcome"],
            ),
            term: b.gauge("raft_term", "Raft term."),
            last_log: b.gauge("raft_last_log_index", "Last entry in the log."),
            committed: b.gauge("raft_committed_index", "Last entry known committed."),
            applied: b.gauge("raft_applied_index", "Last entry applied."),
            snapshot: b.gauge("raft_snapshot_index", "Last entry covered by a snapshot."),
            is_leader: b.gauge("raft_is_leader", "1 on the leader."),
            has_leader: b.gauge("raft_has_leader", "1 where a leader is known."),
            voters: b.gauge("raft_voters", "Nodes that vote; 0 before a cluster is known."),
            leader_changes: b.counter("raft_leader_changes_total", "Changes of the leader seen."),
            elections: b.counters(
                "raft_elections_total",
                "Leaderships of this node, by whether the former leader handed over.",
                &["cause"],
            ),
            unplanned_stops: b.counter(
                "unplanned_stops_total",
                "Lives of this node that did not end by an orderly stop; kept over restarts.",
            ),
            proposals: b.counters("raft_proposals_total", "Proposals by result.", &["result"]),
            proposal_seconds: b.histogram(
                "raft_proposal_seconds",
                "From proposing to applied.",
                &LONG_SECONDS,
            ),
            fsync_seconds: b.histogram("storage_fsync_seconds", "Duration of log fsyncs.", &SECONDS),
            storage_bytes: b.gauge("storage_size_bytes", "Size of the log on its disk."),
            storage_free: b.gauge("storage_free_bytes", "Free on the disk of the log."),
            state_differs: b.gauge(
                "state_differs",
                "1 while the replicated state of another node, or of this one, differs: see the log.",
            ),
            can_write: b.gauge(
                "storage_can_write",
                "1 while new log entries can be written; 0 with a full or stalled disk.",
            ),
            config_differs: b.register(IntGaugeVec::new(
                Opts::new(
                    "fluxgate_config_differs",
                    "1 where this node's configuration differs from what the cluster runs by.",
                ),
                &["setting"],
            )),
            clock_offset: b.seconds_gauge("clock_offset_seconds", "Wall clock minus cluster time."),
            peer_requests: b.counters(
                "peer_requests_total",
                "Calls to other nodes.",
                &["call", "result"],
            ),
            peer_seconds: b.histograms(
                "peer_request_seconds",
                "Duration of calls to other nodes.",
                &LONG_SECONDS,
                &["call"],
            ),
            http_requests: b.counters(
                "http_requests_total",
                "HTTP requests.",
                &["route", "method", "status"],
            ),
            http_seconds: b.histograms(
                "http_request_seconds",
                "Duration of HTTP requests.",
                &LONG_SECONDS,
                &["route"],
            ),
            certificates: Mutex::default(),
            certificate_ends: b.register(IntGaugeVec::new(
                Opts::new(
                    "fluxgate_tls_certificate_expiry_timestamp_seconds",
                    "When a listener's certificate ends.",
                ),
                &["listener"],
            )),
            tls_failures: b.counters(
                "tls_handshake_failures_total",
                "Connections refused by TLS.",
                &["listener"],
            ),
            registry: b.registry,
        };
        metrics.touch_all();
        metrics
    }

    /// Makes every labelled series of a closed set, so that a rate sees the first event.
    fn touch_all(&self) {
        for result in RENEWALS {
            self.renewals.with_label_values(&[result]);
        }
        for cause in ELECTIONS {
            self.elections.with_label_values(&[cause]);
        }
        for outcome in BARRIERS {
            self.barrier.with_label_values(&[outcome]);
        }
        for result in PROPOSALS {
            self.proposals.with_label_values(&[result]);
        }
        for call in Call::ALL {
            self.peer_seconds.with_label_values(&[call.as_str()]);
            for result in PEER_RESULTS {
                self.peer_requests.with_label_values(&[call.as_str(), result]);
            }
        }
        for listener in LISTENERS {
            self.tls_failures.with_label_values(&[listener]);
        }
        for setting in SHARED_SETTINGS {
            self.config_differs.with_label_values(&[setting]).set(0);
        }
        for status in Status::ALL {
            self.keys.with_label_values(&[status.as_str()]);
        }
        for direction in ["out", "in"] {
            for result in ["gave", "nothing", "failed"] {
                self.asks.with_label_values(&[direction, result]);
            }
            self.tokens.with_label_values(&[direction, "moved"]);
        }
    }

    pub(crate) fn validated(&self, endpoint: Endpoint, verdict: Verdict, took: Duration) {
        self.validates[endpoint as usize][verdict as usize].inc();
        self.validate_seconds[endpoint as usize].observe(took.as_secs_f64());
    }

    /// What was answered to callers so far; calls of administrators do not count.
    pub(crate) fn served_totals(&self) -> ServedReply {
        let of_callers = Endpoint::ALL.into_iter().filter(|endpoint| *endpoint != Endpoint::Admin);
        let endpoints: Vec<usize> = of_callers.map(|endpoint| endpoint as usize).collect();
        let sum = |verdicts: &[Verdict]| {
            let all = endpoints.iter().flat_map(|at| verdicts.iter().map(move |v| (*at, *v)));
            all.map(|(at, verdict)| self.validates[at][verdict as usize].get()).sum()
        };
        ServedReply {
            admitted: sum(&[Verdict::Admitted]),
            limited: sum(&[Verdict::Limited, Verdict::Degraded]),
            refused: sum(&[Verdict::Unauthenticated, Verdict::OutOfScope]),
        }
    }

    pub(crate) fn decided(&self, kind: Kind) {
        self.decisions[kind as usize].inc();
    }

    /// An ask was answered: `out` is this node's, otherwise another's.
    pub(crate) fn asked(&self, out: bool, result: Option<u64>) {
        let direction = if out { "out" } else { "in" };
        let label = match result {
            Some(0) => "nothing",
            Some(_) => "gave",
            None => "failed",
        };
        self.asks.with_label_values(&[direction, label]).inc();
        if let Some(tokens) = result.filter(|tokens| *tokens > 0) {
            self.tokens.with_label_values(&[direction, "moved"]).inc_by(tokens);
        }
    }

    /// Whether this node's configuration differs from what the cluster runs by, for each of
    /// [`SHARED_SETTINGS`].
    pub(crate) fn set_config_differs(&self, differs: [bool; SHARED_SETTINGS.len()]) {
        for (setting, differs) in SHARED_SETTINGS.iter().zip(differs) {
            self.config_differs.with_label_values(&[setting]).set(i64::from(differs));
        }
    }

    pub(crate) fn renewed(&self, result: &str) {
        self.renewals.with_label_values(&[result]).inc();
    }

    pub(crate) fn barrier(&self, all_applied: bool, took: Duration) {
        let outcome = if all_applied { BARRIERS[0] } else { BARRIERS[1] };
        self.barrier.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// This node begins to lead.
    pub(crate) fn elected(&self, was_handed: bool) {
        let [handed, unplanned] = ELECTIONS;
        self.elections.with_label_values(&[if was_handed { handed } else { unplanned }]).inc();
    }

    pub(crate) fn proposed(&self, result: &str) {
        self.proposals.with_label_values(&[result]).inc();
    }

    pub(crate) fn set_keys(&self, status: Status, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.keys.with_label_values(&[status.as_str()]).set(count);
    }

    /// When a listener's certificate ends, Unix seconds.
    pub(crate) fn set_certificate_end(&self, listener: &str, ends_s: i64) {
        self.certificate_ends.with_label_values(&[listener]).set(ends_s);
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(listener.to_owned(), ends_s);
    }

    /// When the certificates of the listeners that have one end, Unix seconds.
    pub(crate) fn certificates(&self) -> BTreeMap<String, i64> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the connections of a listener that TLS refused.
    pub(crate) fn tls_failures(&self, listener: &str) -> IntCounter {
        self.tls_failures.with_label_values(&[listener])
    }

    pub(crate) fn called(&self, call: Call, ok: bool, took: Duration) {
        let result = if ok { PEER_RESULTS[0] } else { PEER_RESULTS[1] };
        self.peer_requests.with_label_values(&[call.as_str(), result]).inc();
        self.peer_seconds.with_label_values(&[call.as_str()]).observe(took.as_secs_f64());
    }

    /// A request on a hot route ended: the series are kept, not looked up.
    pub(crate) fn served_hot(&self, route: &HotRoute, status: u16, took: Duration) {
        let at = HOT_STATUSES.iter().position(|s| *s == status);
        match at {
            Some(at) => route.counters[at].inc(),
            None => self.http_counter(route.route, route.method, status).inc(),
        }
        route.seconds.observe(took.as_secs_f64());
    }

    /// Keeps the series of a hot route.
    pub(crate) fn hot_route(&self, route: &'static str, method: &'static str) -> HotRoute {
        let counters = HOT_STATUSES.map(|status| self.http_counter(route, method, status));
        HotRoute { route, method, counters, seconds: self.http_seconds.with_label_values(&[route]) }
    }

    /// One HTTP request ended. `route` is a template, never a path.
    pub(crate) fn served(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.http_counter(route, method, status).inc();
        self.http_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    fn http_counter(&self, route: &str, method: &str, status: u16) -> IntCounter {
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
            _ => "other",
        };
        self.http_requests.with_label_values(&[route, method, &status.to_string()])
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> Result<Vec<u8>, ErrorCode> {
        let mut text = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).map_err(|_| ErrorCode::Internal)?;
        Ok(text)
    }
}
