//! The world: machines, the nodes on them, and the observations of an observer outside of all
//! nodes.
//!
//! One lock protects all of it and is held only briefly; everything happens on one thread, in the
//! order that virtual time and the seed determine.

mod clients;
mod faults;
mod nodes;
mod operator_faults;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fluxgate_peer::process::{Clocks, Process};
use fluxgate_plan::Net;
use fluxgate_plan::Rng;
use fluxgate_plan::{SECOND, Us};
use fluxgate_raft::SimulatedDisk;
use fluxgate_server::Listener;
use fluxgate_types::NodeId;
use fluxgate_types::id::mix64;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::checks;
use crate::observations::Observations;
use crate::plan::Plan;
use crate::{Outcome, Violation};

pub(crate) use clients::{Validate, validate};
pub(crate) use nodes::{PATIENCE, Running};
pub(crate) use writes::{create, operator};

/// A machine, and its node while one is running.
pub(crate) struct Host {
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) running: Option<Running>,
    /// The process, which exists before the node has started.
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    /// Incarnations of this machine's node so far.
    pub(crate) incarnation: u64,
    /// The cluster has removed its node for good.
    pub(crate) removed: bool,
    /// Every configuration file names it among the members.
    pub(crate) listed: bool,
    /// Its disk is failing.
    pub(crate) failing: bool,
    /// Its disk was restored: the cluster may reject the node.
    pub(crate) restored: bool,
    /// The cluster rejected it; the supervisor does not start it again.
    pub(crate) rejected: bool,
    pub(crate) paused_until: Us,
}

/// All mutable state.
pub(crate) struct State {
    pub(crate) net: Net,
    pub(crate) rng: Rng,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) observations: Observations,
    pub(crate) violation: Option<Violation>,
    pub(crate) faulty: bool,
    /// A node is being replaced.
    pub(crate) replacing: bool,
    /// No other fault is injected before this time.
    pub(crate) hold_until: Us,
    /// One wall clock is years ahead.
    pub(crate) ahead: bool,
    /// The last update of the bound of cluster time, and that bound, nanoseconds.
    pub(crate) time_max: (Us, u64),
    /// No new requests are sent.
    pub(crate) over: bool,
    trace: u64,
    log: Option<VecDeque<String>>,
}

/// The world, shared by all tasks.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    began: Instant,
    dir: tempfile::TempDir,
    state: Mutex<State>,
    /// Notified at the first violation: the run is over.
    wrong: Notify,
}

/// Lines of the log that a failure shows.
const LOG_LINES: usize = 2_000;

impl Shared {
    fn new(plan: Plan, log: bool) -> anyhow::Result<Arc<Self>> {
        let mut net = Net::default();
        net.twice_permille = plan.base.twice_permille;
        let state = State {
            net,
            rng: Rng::new(plan.base.seed.rotate_left(11) ^ 0x0c1a_57e4),
            hosts: BTreeMap::new(),
            observations: Observations::default(),
            violation: None,
            faulty: true,
            replacing: false,
            hold_until: 0,
            ahead: false,
            time_max: (0, 0),
            over: false,
            trace: 0,
            log: log.then(VecDeque::new),
        };
        // In memory if the system has `/dev/shm`: the small files beside the log.
        let shm = std::path::Path::new("/dev/shm");
        let dir = tempfile::Builder::new().prefix("fluxgate-sim-").tempdir_in(shm);
        let dir = dir.or_else(|_| tempfile::Builder::new().prefix("fluxgate-sim-").tempdir())?;
        let (began, state) = (Instant::now(), Mutex::new(state));
        Ok(Arc::new(Self { plan, began, dir, state, wrong: Notify::new() }))
    }

    /// Virtual time, microseconds.
    pub(crate) fn now(&self) -> Us {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random number from 0 to `most`.
    pub(crate) fn draw(&self, most: u64) -> u64 {
        self.lock().rng.below(most + 1)
    }

    /// When a message that is sent now arrives.
    pub(crate) fn route(&self, from: NodeId, to: NodeId) -> Vec<Instant> {
        let now = self.now();
        let mut state = self.lock();
        let State { net, rng, observations, .. } = &mut *state;
        observations.counts.calls += 1;
        let arrivals = net.route(now, from, to, rng);
        arrivals.into_iter().map(|at| self.began + Duration::from_micros(at)).collect()
    }

    /// Records a violation; only the first one of a run is kept.
    pub(crate) fn violate(&self, invariant: &'static str, what: String) {
        let at = self.now();
        self.say(|| format!("{invariant} VIOLATED: {what}"));
        self.lock().violation.get_or_insert(Violation { invariant, at, what });
        self.wrong.notify_one();
    }

    /// Records the violation of a check, if any.
    pub(crate) fn judge(&self, invariant: &'static str, result: Result<(), String>) {
        if let Err(what) = result {
            self.violate(invariant, what);
        }
    }

    /// Hashes an event into the trace, and keeps the line if lines are kept.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        let line = line();
        let mut state = self.lock();
        let bytes = line
            .bytes()
            .fold(now, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        state.trace = mix64(state.trace ^ bytes);
        if let Some(log) = &mut state.log {
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(format!("{:>10}.{:03} {line}", now / SECOND, now % SECOND / 1_000));
        }
    }

    pub(crate) async fn sleep(&self, span: Us) {
        tokio::time::sleep(Duration::from_micros(span)).await;
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// If the host does not provide what a run needs.
pub async fn run(plan: Plan, log: bool) -> anyhow::Result<Outcome> {
    let world = Shared::new(plan, log)?;
    let work = async {
        run_with_faults(&world).await;
        finish(&world).await;
    };
    tokio::select! {
        biased;
        () = world.wrong.notified() => {}
        () = work => {}
    }
    let span = world.now();
    if log && world.lock().violation.is_some() {
        log_node_reports(&world).await;
    }
    for id in world.nodes() {
        world.kill(id);
    }
    let mut state = world.lock();
    Ok(Outcome {
        seed: world.plan.base.seed,
        span,
        trace: state.trace,
        counts: std::mem::take(&mut state.observations.counts),
        violation: state.violation.take(),
        log: state.log.take().unwrap_or_default(),
    })
}

/// Logs what each node reports about the cluster, to explain a violation.
async fn log_node_reports(world: &Arc<Shared>) {
    for (id, _) in world.running() {
        for path in ["/readyz", "/v1/cluster", "/metrics"] {
            let Some(request) = operator("GET", path, None) else { return };
            let answer = world.ask(id, Listener::Admin, request, PATIENCE).await.flatten();
            let text = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            let text = text.as_deref().unwrap_or("no answer");
            // Only the metrics of consensus.
            let lines = text.lines().filter(|line| path != "/metrics" || line.contains("_raft_"));
            for line in lines.filter(|line| !line.starts_with('#')) {
                world.say(|| format!("node {id}, {path}: {line}"));
            }
        }
    }
}

/// The part with faults.
async fn run_with_faults(world: &Arc<Shared>) {
    let cooldown = world.plan.cooldown();
    // The beginning is not calm: no node has a lease yet.
    world.lock().observations.disturb(0, cooldown);
    world.make_machines();
    for id in world.nodes() {
        let late = world.draw(50_000);
        world.start_later(id, late);
    }
    tokio::spawn(clients::run(Arc::clone(world)));
    tokio::spawn(faults::run(Arc::clone(world), cooldown));
    tokio::spawn(checks::run(Arc::clone(world)));
    world.sleep(cooldown + world.plan.base.span).await;
}

/// Faults stop; the cluster must heal, stay well, and be exact.
async fn finish(world: &Arc<Shared>) {
    let cooldown = world.plan.cooldown();
    world.heal();
    world.sleep(cooldown).await;
    checks::cluster_heals::look(world).await;
    let longest = world.plan.base.limits.iter().map(|(_, ms)| *ms).max().unwrap_or(0);
    world.sleep(cooldown + 2 * longest * 1_000).await;
    // No new requests begin, and pending ones end.
    world.lock().over = true;
    world.sleep(nodes::PATIENCE.as_micros().try_into().unwrap_or(0)).await;
    checks::close_windows(world, true);
    checks::replicas_agree::look(world, true);
    checks::acked_is_durable::look(world).await;
}
