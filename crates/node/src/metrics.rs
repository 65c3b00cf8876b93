//! The metrics of a node.
//!
//! Answers for: one registry per node; hot paths keep their series and look none up. The metrics
//! themselves are in `metrics/catalog`.

mod catalog;
mod labels;
#[cfg(test)]
mod page;
mod striped;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use self::striped::Striped;
use catalog::Handles;
use fluxgate_api::Verdict;
use fluxgate_api::error::ErrorCode;
use fluxgate_engine::state::record::Status;
use fluxgate_peer::Call;
use fluxgate_types::caps;
use fluxgate_wire::peer::ServedReply;
use labels::{
    BARRIERS, DIRECTIONS, ELECTIONS, METHODS, PEER_RESULTS, PROOFS, PROPOSALS, RENEWALS, TOKENS,
    TRANSFERS,
};
pub use labels::{Endpoint, Kind, SHARED_SETTINGS};
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder as _, Histogram, IntCounter, Registry, TextEncoder};

/// The metrics of one node. The metrics of the table are its fields through [`Deref`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    handles: Handles,
    // Kept series of hot paths.
    validates: [[Striped<IntCounter>; Verdict::ALL.len()]; Endpoint::ALL.len()],
    validate_seconds: [Striped<Histogram>; Endpoint::ALL.len()],
    decided: [Striped<IntCounter>; Kind::ALL.len()],
    // The values of `certificate_ends` by listener, for readers other than a scrape.
    certificates: Mutex<BTreeMap<String, i64>>,
    // Labels of `shadow_denied`.
    shadow_names: Mutex<BTreeSet<String>>,
}

/// The label of what has none of its own.
const OTHER: &str = "other";

impl Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

/// The statuses of a hot route.
const HOT_STATUSES: [u16; 6] = [200, 400, 401, 403, 429, 503];

/// Kept series of a hot route: each is looked up once, at its first use.
#[derive(Debug)]
pub struct HotRoute {
    route: &'static str,
    method: &'static str,
    counters: [OnceLock<Striped<IntCounter>>; HOT_STATUSES.len()],
    seconds: OnceLock<Striped<Histogram>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let handles = Handles::register(&registry);
        registry.register(Box::new(ProcessCollector::for_self())).ok();
        let revision = option_env!("FLUXGATE_REVISION").unwrap_or("unknown");
        let build = [env!("CARGO_PKG_VERSION"), revision, env!("CARGO_PKG_RUST_VERSION")];
        handles.build_info.with_label_values(&build).set(1);
        let validates = |verdict: Verdict, endpoint: Endpoint| {
            let labels = [verdict.label(), endpoint.as_str()];
            handles.validate_requests.with_label_values(&labels)
        };
        Self {
            validates: Endpoint::ALL.map(|e| Verdict::ALL.map(|verdict| validates(verdict, e))),
            validate_seconds: Endpoint::ALL
                .map(|e| handles.validate_duration.with_label_values(&[e.as_str()])),
            decided: Kind::ALL.map(|kind| handles.decisions.with_label_values(&[kind.as_str()])),
            certificates: Mutex::default(),
            shadow_names: Mutex::default(),
            registry,
            handles,
        }
    }

    pub fn validated(&self, endpoint: Endpoint, verdict: Verdict, took: Duration) {
        self.validates[endpoint as usize][verdict as usize].inc();
        self.validate_seconds[endpoint as usize].observe(took.as_secs_f64());
    }

    /// How many answers callers have received; requests of administrators do not count.
    pub fn served_totals(&self) -> ServedReply {
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

    /// A request was admitted that a limit in mode shadow would have denied. Limits beyond the first
    /// [`caps::SHADOW_NAMES_MAX`] names share one.
    pub fn shadow_denied(&self, name: String, proven: bool) {
        let mut names = self.shadow_names.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = names.contains(&name) || names.len() < caps::SHADOW_NAMES_MAX;
        let label = if is_known { name.clone() } else { OTHER.to_owned() };
        if is_known {
            names.insert(name);
        }
        drop(names);
        let [with_proof, without] = PROOFS;
        let proof = if proven { with_proof } else { without };
        self.shadow_denied.with_label_values(&[&label, proof]).inc();
    }

    pub fn decided(&self, kind: Kind) {
        self.decided[kind as usize].inc();
    }

    /// A transfer request ended: this node's if `out`, otherwise another node's. `None` is a request
    /// without a reply.
    pub fn asked(&self, out: bool, result: Option<u64>) {
        let [of_this_node, of_another] = DIRECTIONS;
        let direction = if out { of_this_node } else { of_another };
        let [gave, nothing, failed] = TRANSFERS;
        let label = match result {
            Some(0) => nothing,
            Some(_) => gave,
            None => failed,
        };
        self.asks.with_label_values(&[direction, label]).inc();
        if let Some(tokens) = result.filter(|tokens| *tokens > 0) {
            self.tokens.with_label_values(&[direction, TOKENS[0]]).inc_by(tokens);
        }
    }

    /// For each of [`SHARED_SETTINGS`]: whether this node's configuration differs from the value in
    /// force.
    pub fn set_config_differs(&self, differs: [bool; SHARED_SETTINGS.len()]) {
        for (setting, differs) in SHARED_SETTINGS.iter().zip(differs) {
            self.config_differs.with_label_values(&[setting]).set(i64::from(differs));
        }
    }

    /// A renewal of the lease ended, with one of [`RENEWALS`].
    pub fn renewed(&self, result: &str) {
        debug_assert!(RENEWALS.contains(&result), "{result} is in the table");
        self.renewals.with_label_values(&[result]).inc();
    }

    pub fn barrier(&self, all_applied: bool, took: Duration) {
        let outcome = if all_applied { BARRIERS[0] } else { BARRIERS[1] };
        self.barrier.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// This node becomes leader.
    pub fn elected(&self, was_handed: bool) {
        let [handed, unplanned] = ELECTIONS;
        self.elections.with_label_values(&[if was_handed { handed } else { unplanned }]).inc();
    }

    /// A write ended, with one of [`PROPOSALS`].
    pub fn proposed(&self, result: &str) {
        debug_assert!(PROPOSALS.contains(&result), "{result} is in the table");
        self.proposals.with_label_values(&[result]).inc();
    }

    pub fn set_keys(&self, status: Status, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.keys.with_label_values(&[status.as_str()]).set(count);
    }

    /// When a listener's certificate expires, Unix seconds.
    pub fn set_certificate_end(&self, listener: &str, ends_s: i64) {
        self.certificate_ends.with_label_values(&[listener]).set(ends_s);
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(listener.to_owned(), ends_s);
    }

    /// When the certificate of each listener with TLS expires, Unix seconds.
    pub fn certificates(&self) -> BTreeMap<String, i64> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the failed TLS handshakes of a listener.
    pub fn tls_failures(&self, listener: &str) -> IntCounter {
        self.tls_failures.with_label_values(&[listener])
    }

    pub fn called(&self, call: Call, ok: bool, took: Duration) {
        let result = if ok { PEER_RESULTS[0] } else { PEER_RESULTS[1] };
        self.peer_requests.with_label_values(&[call.as_str(), result]).inc();
        self.peer_seconds.with_label_values(&[call.as_str()]).observe(took.as_secs_f64());
    }

    /// A request on a hot route ended.
    pub fn served_hot(&self, route: &HotRoute, status: u16, took: Duration) {
        let at = HOT_STATUSES.iter().position(|s| *s == status);
        let counter = || self.http_counter(route.route, route.method, status);
        match at.and_then(|at| route.counters.get(at)) {
            Some(kept) => kept.get_or_init(counter).inc(),
            None => self.count_http(route.route, route.method, status),
        }
        let seconds = || self.http_seconds.with_label_values(&[route.route]);
        route.seconds.get_or_init(seconds).observe(took.as_secs_f64());
    }

    /// Keeps the series of a hot route.
    pub fn hot_route(&self, route: &'static str, method: &'static str) -> HotRoute {
        let counters = [const { OnceLock::new() }; HOT_STATUSES.len()];
        HotRoute { route, method, counters, seconds: OnceLock::new() }
    }

    /// Keeps the series of a hot route, and shows each from the beginning.
    pub fn shown_route(&self, route: &'static str, method: &'static str) -> HotRoute {
        let shown = self.hot_route(route, method);
        for (kept, status) in shown.counters.iter().zip(HOT_STATUSES) {
            kept.get_or_init(|| self.http_counter(route, method, status));
        }
        shown.seconds.get_or_init(|| self.http_seconds.with_label_values(&[route]));
        shown
    }

    /// One HTTP request ended. `route` is a template, never a path.
    pub fn served(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.count_http(route, method, status);
        self.http_seconds.observe(&[route], took.as_secs_f64());
    }

    fn count_http(&self, route: &str, method: &str, status: u16) {
        self.http_requests.inc(&[route, method_label(method), &status.to_string()]);
    }

    fn http_counter(&self, route: &str, method: &str, status: u16) -> Striped<IntCounter> {
        let labels = [route, method_label(method), &status.to_string()];
        self.http_requests.with_label_values(&labels)
    }

    /// All metrics in the text format of Prometheus.
    pub fn text(&self) -> Result<Vec<u8>, ErrorCode> {
        let mut text = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).map_err(|_| ErrorCode::Internal)?;
        Ok(text)
    }
}

/// The label of a method: a client may send any word.
fn method_label(method: &str) -> &'static str {
    let [named @ .., other] = METHODS;
    named.into_iter().find(|named| *named == method).unwrap_or(other)
}
