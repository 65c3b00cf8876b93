//! The world: machines, the nodes on them, and what an observer outside of all nodes knows.
//!
//! One lock over all of it, held for no longer than a look; everything happens on one thread, in the
//! order that virtual time and the seed give.

mod clients;
mod faults;
mod newer;
mod nodes;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fluxgate_node::Listener;
use fluxgate_peer::process::{Clocks, Process};
use fluxgate_raft::SimulatedDisk;
use fluxgate_sim::net::Net;
use fluxgate_sim::plan::{SECOND, Us};
use fluxgate_sim::rng::Rng;
use fluxgate_types::NodeId;
use fluxgate_types::id::mix64;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::book::Observations;
use crate::checks;
use crate::plan::Plan;
use crate::{Outcome, Violation};

pub(crate) use clients::{Validate, validate};
pub(crate) use nodes::{PATIENCE, Running};
pub(crate) use writes::{create, operator};

/// A machine, and the node on it, if one runs.
pub(crate) struct Host {
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) running: Option<Running>,
    /// The process, which is there before the node is.
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    /// Lives of this machine's node.
    pub(crate) life: u64,
    /// It was removed from the cluster for good.
    pub(crate) gone: bool,
    /// Every file names it among the members.
    pub(crate) listed: bool,
    /// Its disk is failing.
    pub(crate) failing: bool,
    /// It was put back to what it was: it may be refused.
    pub(crate) restored: bool,
    /// It was: nobody starts it again.
    pub(crate) refused: bool,
    pub(crate) paused_until: Us,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) net: Net,
    pub(crate) rng: Rng,
    pub(crate) slots: BTreeMap<NodeId, Host>,
    pub(crate) book: Observations,
    pub(crate) violation: Option<Violation>,
    pub(crate) faulty: bool,
    /// A node is being replaced.
    pub(crate) replacing: bool,
    /// No other fault is made before.
    pub(crate) hold_until: Us,
    /// One wall clock is years ahead.
    pub(crate) ahead: bool,
    /// When it was looked last how far cluster time may be, and how far that was, nanoseconds.
    pub(crate) time_max: (Us, u64),
    /// No new requests.
    pub(crate) over: bool,
    trace: u64,
    log: Option<VecDeque<String>>,
}

/// The world, shared by everything in it.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    began: Instant,
    dir: tempfile::TempDir,
    state: Mutex<State>,
    /// Something is wrong: the run is over.
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
            slots: BTreeMap::new(),
            book: Observations::default(),
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
        // In memory where the system has such a place: the small files beside the log.
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

    /// When a message that leaves now arrives.
    pub(crate) fn route(&self, from: NodeId, to: NodeId) -> Vec<Instant> {
        let now = self.now();
        let mut state = self.lock();
        let State { net, rng, book, .. } = &mut *state;
        book.counts.calls += 1;
        let arrivals = net.route(now, from, to, rng);
        arrivals.into_iter().map(|at| self.began + Duration::from_micros(at)).collect()
    }

    /// Notes that something must not be.
    pub(crate) fn violate(&self, invariant: &'static str, what: String) {
        let at = self.now();
        self.say(|| format!("{invariant} VIOLATED: {what}"));
        self.lock().violation.get_or_insert(Violation { invariant, at, what });
        self.wrong.notify_one();
    }

    /// Judges one check's word.
    pub(crate) fn judge(&self, invariant: &'static str, came: Result<(), String>) {
        if let Err(what) = came {
            self.violate(invariant, what);
        }
    }

    /// Folds something that happened into the trace, and keeps the line where lines are kept.
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
/// When the host does not provide what a run needs.
pub async fn run(plan: Plan, log: bool) -> anyhow::Result<Outcome> {
    let world = Shared::new(plan, log)?;
    let work = async {
        live(&world).await;
        finish(&world).await;
    };
    tokio::select! {
        biased;
        () = world.wrong.notified() => {}
        () = work => {}
    }
    let span = world.now();
    if log && world.lock().violation.is_some() {
        tell(&world).await;
    }
    for id in world.nodes() {
        world.kill(id);
    }
    let mut state = world.lock();
    Ok(Outcome {
        seed: world.plan.base.seed,
        span,
        trace: state.trace,
        counts: std::mem::take(&mut state.book.counts),
        violation: state.violation.take(),
        log: state.log.take().unwrap_or_default(),
    })
}

/// What each node says of the cluster, for who reads how a run went wrong.
async fn tell(world: &Arc<Shared>) {
    for (id, _) in world.running() {
        for path in ["/readyz", "/v1/cluster", "/metrics"] {
            let Some(request) = operator("GET", path, None) else { return };
            let answer = world.ask(id, Listener::Admin, request, PATIENCE).await.flatten();
            let text = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            let text = text.as_deref().unwrap_or("no answer");
            // Of the metrics those of consensus.
            let lines = text.lines().filter(|line| path != "/metrics" || line.contains("_raft_"));
            for line in lines.filter(|line| !line.starts_with('#')) {
                world.say(|| format!("node {id}, {path}: {line}"));
            }
        }
    }
}

/// The part with faults.
async fn live(world: &Arc<Shared>) {
    let settle = world.plan.settle();
    // The beginning is no calm time: nobody has a lease.
    world.lock().book.disturb(0, settle);
    world.make_machines();
    for id in world.nodes() {
        let late = world.draw(50_000);
        world.start_later(id, late);
    }
    tokio::spawn(clients::run(Arc::clone(world)));
    tokio::spawn(faults::run(Arc::clone(world), settle));
    tokio::spawn(checks::run(Arc::clone(world)));
    world.sleep(settle + world.plan.base.span).await;
}

/// Faults stop; everything must be well again, stay so, and be exact.
async fn finish(world: &Arc<Shared>) {
    let settle = world.plan.settle();
    world.heal();
    world.sleep(settle).await;
    checks::cluster_heals::look(world).await;
    let longest = world.plan.base.limits.iter().map(|(_, ms)| *ms).max().unwrap_or(0);
    world.sleep(settle + 2 * longest * 1_000).await;
    // Nothing new begins, and what is under way ends.
    world.lock().over = true;
    world.sleep(nodes::PATIENCE.as_micros().try_into().unwrap_or(0)).await;
    checks::close_windows(world, true);
    checks::replicas_agree::look(world, true);
    checks::acked_is_durable::look(world).await;
}
