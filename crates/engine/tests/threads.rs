//! Threads of one node meet at a shard in every order: the step that a node runs, under shuttle.
//!
//! [`with_context`], [`LookedUp`] and [`Shard`] are those of a node, with the locks of shuttle around
//! them, which switches threads between any two reads. Each test also runs with the reads in the wrong
//! order or outside of the lock, and must notice.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, CounterReport, Entitlement, Incarnation, Incarnations, Peer,
    Sender, Shard, Sources, Step, SubjectLimits, TransferRequest, Verdict, WaitPolicy, WaiterId,
    with_context,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex, RwLock};
use shuttle::thread;

type Shared<T> = std::sync::Arc<T>;

/// Schedules that each test tries.
const TRIES: usize = 2_000;
const T0: u64 = 600_000_000;
const ME: NodeId = NodeId(3);

fn key() -> Subject {
    Subject::from(KeyId::new(*b"threads00000").expect("letters and digits"))
}

fn limits(period_ms: u64) -> SubjectLimits {
    let limit = Limit::new("l0", 30, period_ms);
    SubjectLimits { created: LogIndex(1), specs: [LimitSpec::new(limit)].into() }
}

fn counter(limits: &SubjectLimits) -> CounterId {
    let spec = &limits.specs[0];
    CounterId {
        subject: key(),
        limit: spec.tag,
        window: spec.limit.window_at(ClusterMs(T0)).number,
    }
}

fn view(maps: &[(u64, &[u64])]) -> View {
    let map = |(from, nodes): &(u64, &[u64])| ShareMap {
        from: ClusterMs(*from),
        nodes: nodes.iter().map(|n| (NodeId(*n), 1)).collect(),
    };
    let share_maps = maps.iter().map(map).collect();
    View { defaults: Shared::new([]), share_maps, nodes: BTreeMap::new(), ..View::default() }
}

fn incarnation(other: u64) -> Incarnation {
    let mut incarnations = Incarnations::default();
    incarnations.note(ME, BootId(1));
    incarnations.note(NodeId(1), BootId(other));
    Incarnation {
        me: ME,
        entitlement: Some(Entitlement::All),
        first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
        carryover: None,
        reached: ClusterMs(0),
        incarnations_tag: incarnations.tag(),
        incarnations,
        peers: vec![Peer::new(NodeId(1))],
        clock_error_ms_max: 1_000,
    }
}

/// The parts of a node that a step depends on, as `node/core.rs` keeps them.
struct Node {
    shard: Mutex<Shard>,
    lease_until: AtomicU64,
    horizon: AtomicU64,
    clock: AtomicU64,
    view: RwLock<Shared<View>>,
    incarnation: RwLock<Shared<Incarnation>>,
}

impl Sources for Node {
    fn lease_until(&self) -> BootNs {
        BootNs(self.lease_until.load(Ordering::SeqCst))
    }

    fn horizon(&self) -> ClusterMs {
        ClusterMs(self.horizon.load(Ordering::SeqCst))
    }

    fn boot(&self) -> BootNs {
        BootNs(1)
    }

    fn cluster_at(&self, _boot: BootNs) -> ClusterMs {
        ClusterMs(self.clock.load(Ordering::SeqCst))
    }

    fn view(&self) -> impl std::ops::Deref<Target = Shared<View>> {
        Box::new(Shared::clone(&self.view.read().expect("not poisoned")))
    }

    fn incarnation(&self) -> impl std::ops::Deref<Target = Shared<Incarnation>> {
        Box::new(Shared::clone(&self.incarnation.read().expect("not poisoned")))
    }
}

/// How a thread comes to its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As a node does it.
    Right,
    /// The view is read before the horizon.
    ViewFirst,
    /// The context is read before the lock is taken.
    Unlocked,
}

impl Node {
    fn new(view: View, incarnation: Incarnation) -> Arc<Self> {
        Arc::new(Self {
            shard: Mutex::new(Shard::new(WaitPolicy::default())),
            lease_until: AtomicU64::new(u64::MAX),
            horizon: AtomicU64::new(u64::MAX),
            clock: AtomicU64::new(T0 + 100),
            view: RwLock::new(Shared::new(view)),
            incarnation: RwLock::new(Shared::new(incarnation)),
        })
    }

    fn step<R>(&self, order: Order, step: impl FnOnce(&mut Shard, &Context<'_>) -> R) -> R {
        match order {
            Order::Right => {
                let mut shard = self.shard.lock().expect("not poisoned");
                with_context(self, |context| step(&mut shard, context))
            }
            Order::ViewFirst => {
                let mut shard = self.shard.lock().expect("not poisoned");
                let view = self.view();
                with_context(self, |context| step(&mut shard, &Context { view: &view, ..*context }))
            }
            Order::Unlocked => with_context(self, |context| {
                let mut shard = self.shard.lock().expect("not poisoned");
                step(&mut shard, context)
            }),
        }
    }

    fn request(&self, order: Order, limits: &SubjectLimits) -> bool {
        let step = self.step(order, |shard, context| {
            shard.handle_request(context, &key(), limits, Cost::ONE, WaiterId(1), &mut Vec::new())
        });
        matches!(step, Step::Decided(decision) if decision.verdict == Verdict::Admitted)
    }
}

/// Whether some schedule fails the test.
fn fails(test: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| shuttle::check_random(test, TRIES))).is_err()
}

/// A node comes back that left the map: it applies the map, and then has a lease and a horizon again.
fn comes_back(order: Order) {
    let start = T0;
    let node = Node::new(view(&[(0, &[1, 2, 3])]), incarnation(1));
    node.lease_until.store(0, Ordering::SeqCst);
    node.horizon.store(start, Ordering::SeqCst);
    let limits = limits(60_000);
    let consensus = {
        let node = Arc::clone(&node);
        thread::spawn(move || {
            let new = view(&[(0, &[1, 2, 3]), (start, &[1, 2])]);
            *node.view.write().expect("not poisoned") = Shared::new(new);
            node.lease_until.store(u64::MAX, Ordering::SeqCst);
            node.horizon.store(u64::MAX, Ordering::SeqCst);
        })
    };
    let requests: Vec<_> = (0..2)
        .map(|_| {
            let (node, limits) = (Arc::clone(&node), limits.clone());
            thread::spawn(move || node.request(order, &limits))
        })
        .collect();
    consensus.join().expect("it ends");
    let admitted = requests.into_iter().map(|thread| thread.join().expect("it ends"));
    assert_eq!(admitted.filter(|admitted| *admitted).count(), 0, "it has no share under this map");
}

#[test]
fn a_window_is_opened_under_the_map_that_its_horizon_promises() {
    assert!(!fails(|| comes_back(Order::Right)));
    assert!(fails(|| comes_back(Order::ViewFirst)), "the view before the horizon");
}

/// A thread is held up while time passes, a second one sweeps, and a third one asks.
fn is_swept(order: Order) {
    let (node, limits) = (Node::new(view(&[(0, &[3])]), incarnation(1)), limits(1_000));
    let window = counter(&limits);
    let spend = |node: &Arc<Node>| {
        let (node, limits) = (Arc::clone(node), limits.clone());
        thread::spawn(move || (0..20).filter(|_| node.request(order, &limits)).count())
    };
    let (first, second) = (spend(&node), spend(&node));
    let sweeper = {
        let node = Arc::clone(&node);
        thread::spawn(move || {
            node.clock.store(T0 + 3_500, Ordering::SeqCst);
            node.step(order, |shard, context| while shard.sweep(context, 3_600_000) {});
        })
    };
    for thread in [first, second] {
        thread.join().expect("it ends");
    }
    sweeper.join().expect("it ends");
    let shard = node.shard.lock().expect("not poisoned");
    let usage = shard.usage(ME, &key());
    let windows = usage.iter().flat_map(|limit| &limit.series);
    let spent: u64 = windows.filter(|w| w.window == window.window).map(|w| w.spent).sum();
    assert!(spent <= 30, "{spent} spent of 30");
}

#[test]
fn a_window_is_spent_once_whichever_thread_is_delayed() {
    assert!(!fails(|| is_swept(Order::Right)));
    // The shard itself opens no window that is over: also a driver that reads too early is safe.
    assert!(!fails(|| is_swept(Order::Unlocked)));
}

/// A message of an ended incarnation arrives while the next one becomes known and a request opens the
/// counter. The running incarnation must get the tokens that it requests.
fn begins_again(order: Order) {
    let (node, limits) = (Node::new(view(&[(0, &[1, 3])]), incarnation(1)), limits(60_000));
    let counter = counter(&limits);
    let requester = {
        let (node, limits) = (Arc::clone(&node), limits.clone());
        thread::spawn(move || node.request(order, &limits))
    };
    let late = {
        let (node, limits) = (Arc::clone(&node), limits.clone());
        thread::spawn(move || {
            let mine = CounterReport { limit: 30, spent: 1, ..CounterReport::default() };
            let gossip = CounterGossip { counter, mine, given: vec![(ME, BootId(1), 5)] };
            let sender = Sender { node: NodeId(1), boot: BootId(1) };
            node.step(order, |shard, context| {
                let find = |_: &Subject| Some(limits.clone());
                shard.handle_gossip(context, &find, &sender, &gossip, &mut Vec::new())
            })
        })
    };
    let noting = {
        let node = Arc::clone(&node);
        thread::spawn(move || {
            *node.incarnation.write().expect("not poisoned") = Shared::new(incarnation(2));
        })
    };
    noting.join().expect("it ends");
    requester.join().expect("it ends");
    late.join().expect("it ends");
    let mine = CounterReport { limit: 30, ..CounterReport::default() };
    let ask = TransferRequest { counter, need: 3, want: 3, got: 0, mine };
    let sender = Sender { node: NodeId(1), boot: BootId(2) };
    let reply = node.step(order, |shard, context| {
        let find = |_: &Subject| Some(limits.clone());
        shard.handle_transfer_request(context, &find, &sender, &ask, &mut Vec::new())
    });
    assert_eq!(reply.given, 3, "the running incarnation gets tokens");
}

#[test]
fn a_late_message_ties_no_counter_to_an_ended_incarnation() {
    assert!(!fails(|| begins_again(Order::Right)));
    // The counter itself rejects messages older than its incarnations: also a driver that reads too early is safe.
    assert!(!fails(|| begins_again(Order::Unlocked)));
}
