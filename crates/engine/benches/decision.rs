//! What one decision costs, without sockets: credential, look-up and counter step, alone and
//! together.
//!
//! Answers for: figures in nanoseconds on this machine, by
//! `cargo bench -p fluxgate-engine --bench decision`. Every step is checked once before it is
//! timed, so that a bench cannot measure the wrong path. Reads no clock of its own: Criterion does.

use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Bencher, Criterion};
use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Charge, Context, CounterGossip, CounterId, CounterReport, Incarnation, Incarnations, Locked,
    Peer, Sender, Shard, Step, SubjectLimits, Verdict, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::command::{Actor, Batch, Command, NewKey, Proposal};
use fluxgate_engine::state::record::{LimitSpec, Status};
use fluxgate_engine::state::{NodeRecord, Registry, Shared, View};
use fluxgate_types::credential::{Secret, shown_prefix};
use fluxgate_types::id::mix64;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, Credential, DirId, KeyId, Limit, LogIndex, NodeId, Scope,
    Subject, caps,
};

const NOW: ClusterMs = ClusterMs(1_705_747_210_000);
/// Keys in the table.
const KEYS: usize = 1_000_000;
/// Keys that requests come for.
const KEYS_BUSY: usize = 10_000;
/// A step between two requests that is prime, so that neighbours in memory are not neighbours
/// in time.
const STRIDE: usize = 7_919;
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A cluster of three as its first node sees it.
struct World {
    view: View,
    incarnation: Incarnation,
}

impl World {
    fn new() -> Self {
        let record = |node: NodeId| NodeRecord { dir_id: DirId(node.0), removed: false };
        let mut incarnations = Incarnations::default();
        for node in NODES {
            incarnations.note(node, BootId(1));
        }
        let view = View {
            defaults: Arc::new([]),
            share_maps: vec![ShareMap {
                from: ClusterMs(0),
                nodes: NODES.iter().map(|node| (*node, 1)).collect(),
            }],
            nodes: NODES.iter().map(|node| (*node, record(*node))).collect(),
            ..View::default()
        };
        let incarnation = Incarnation {
            me: NODES[0],
            entitlement: Some(fluxgate_engine::quota::Entitlement::All),
            first_lease: Some(FirstLease { at: NOW, index: LogIndex(1) }),
            carryover: None,
            reached: ClusterMs(0),
            incarnations_tag: incarnations.tag(),
            incarnations,
            peers: vec![Peer::new(NODES[1]), Peer::new(NODES[2])],
            clock_error_ms_max: 1_000,
        };
        Self { view, incarnation }
    }

    fn context(&self) -> Context<'_> {
        Context {
            boot: BootNs(1),
            now: NOW,
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &self.incarnation,
        }
    }
}

fn limits(tokens: u64) -> Arc<[LimitSpec]> {
    let limit = Limit::new("requests", tokens, 60_000);
    LimitSpec::all(&[limit]).expect("one limit has one tag")
}

fn key_limits(tokens: u64) -> SubjectLimits {
    SubjectLimits { created: LogIndex(1), specs: limits(tokens) }
}

/// Bytes that look random and are the same in every run.
fn bytes(seed: u64, count: u64) -> Vec<u8> {
    (0..count).flat_map(|n| mix64(mix64(seed) ^ n).to_le_bytes()).collect()
}

fn key_id(seed: usize) -> KeyId {
    KeyId::from_random(&bytes(seed as u64, 8)).expect("64 bytes make an id")
}

fn secret(id: KeyId, seed: usize) -> Secret {
    let random = bytes(!(seed as u64), 16);
    Secret::make("fx", "live", id, &random).expect("128 bytes make a secret")
}

/// A table of [`KEYS`] keys, made as a node makes it: by applying log entries.
struct Table {
    shared: Arc<Shared>,
    /// The first [`KEYS_BUSY`] credentials.
    credentials: Vec<String>,
    ids: Vec<KeyId>,
}

impl Table {
    fn new() -> Self {
        let mut registry = Registry::default();
        let mut credentials = Vec::with_capacity(KEYS_BUSY);
        let mut ids = Vec::with_capacity(KEYS);
        let mut index = 0;
        while ids.len() < KEYS {
            index += 1;
            let count = caps::COMMANDS_PER_ENTRY_MAX.min(KEYS - ids.len());
            let first = ids.len();
            let proposals = (first..first + count)
                .map(|seed| {
                    let id = key_id(seed);
                    let secret = secret(id, seed);
                    ids.push(id);
                    if credentials.len() < KEYS_BUSY {
                        credentials.push(secret.expose().to_owned());
                    }
                    create(seed, id, &secret)
                })
                .collect();
            let batch = Batch { at: NOW, proposals };
            registry.apply(1, LogIndex(index), &batch);
        }
        let shared = registry.shared();
        assert_eq!(shared.table.len(), KEYS);
        Self { shared, credentials, ids }
    }
}

fn create(seed: usize, id: KeyId, secret: &Secret) -> Proposal {
    let new = NewKey {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id,
        prefix: shown_prefix("fx", "live", &id).into(),
        digest: secret.digest(),
        name: "bench".into(),
        scope: Scope::Write,
        owner: None,
        limits: None,
        expires_at: None,
        metadata: Vec::new(),
        idempotency_key: None,
    };
    Proposal {
        request: seed as u128,
        actor: Actor::Operator,
        presented: None,
        from: None,
        command: Command::CreateKey(Box::new(new)),
    }
}

fn verdict(step: Step) -> Verdict {
    match step {
        Step::Decided(decision) => decision.verdict,
        Step::Waiting => panic!("no request of this bench waits"),
    }
}

/// One token from a holding that never runs out. As below, the number of busy keys says how much
/// of it is memory.
fn admitted(bencher: &mut Bencher<'_>, among: usize) {
    let world = World::new();
    let context = world.context();
    let limits = key_limits(caps::LIMIT_TOKENS_MAX);
    let keys: Vec<Subject> = (0..among).map(|n| key_id(n).into()).collect();
    let (mut shard, mut out) = (Shard::new(WaitPolicy::default()), Vec::new());
    for key in &keys {
        let step = shard.handle_request(&context, key, &limits, Cost::ONE, WaiterId(0), &mut out);
        assert_eq!(verdict(step), Verdict::Admitted);
    }
    let mut at = 0;
    bencher.iter(|| {
        at = (at + STRIDE) % among;
        shard.handle_request(
            &context,
            black_box(&keys[at]),
            &limits,
            Cost::ONE,
            WaiterId(0),
            &mut out,
        )
    });
}

/// One token from each of three subjects: a key, its owner and a pool, as they lie in three shards.
fn admitted_jointly(bencher: &mut Bencher<'_>) {
    let world = World::new();
    let context = world.context();
    let limits = key_limits(caps::LIMIT_TOKENS_MAX);
    let subjects: Vec<Subject> = (0..3 * KEYS_BUSY).map(|n| key_id(n).into()).collect();
    let mut shards: [Shard; 3] = std::array::from_fn(|_| Shard::new(WaitPolicy::default()));
    let mut out = Vec::new();
    let mut decide = |at: usize| {
        let charge = |n: usize| Charge {
            subject: subjects[n * KEYS_BUSY + at],
            limits: limits.clone(),
            cost: Cost::ONE,
        };
        let charges = [charge(0), charge(1), charge(2)];
        let [a, b, c] = &mut shards;
        let mut locked = Locked { shards: &mut [a, b, c], at: &[0, 1, 2] };
        locked.handle_joint(&context, &charges, WaiterId(0), &mut out)
    };
    (0..KEYS_BUSY).for_each(|at| assert_eq!(verdict(decide(at)), Verdict::Admitted));
    let mut at = 0;
    bencher.iter(|| {
        at = (at + STRIDE) % KEYS_BUSY;
        decide(black_box(at))
    });
}

/// A denial of which it is proven that all three nodes have spent their shares.
fn denied(bencher: &mut Bencher<'_>) {
    let world = World::new();
    let context = world.context();
    let limits = key_limits(3);
    let keys: Vec<Subject> = (0..KEYS_BUSY).map(|n| key_id(n).into()).collect();
    let (mut shard, mut out) = (Shard::new(WaitPolicy::default()), Vec::new());
    for key in &keys {
        let step = shard.handle_request(&context, key, &limits, Cost::ONE, WaiterId(0), &mut out);
        assert_eq!(verdict(step), Verdict::Admitted);
        for node in [NODES[1], NODES[2]] {
            let gossip = spent_one(key, &limits);
            shard.handle_gossip(&context, &|_| None, &sender(node), &gossip, &mut Vec::new());
        }
        let step = shard.handle_request(&context, key, &limits, Cost::ONE, WaiterId(0), &mut out);
        assert_eq!(verdict(step), Verdict::Limited);
    }
    let mut at = 0;
    bencher.iter(|| {
        at = (at + STRIDE) % KEYS_BUSY;
        shard.handle_request(
            &context,
            black_box(&keys[at]),
            &limits,
            Cost::ONE,
            WaiterId(0),
            &mut out,
        )
    });
}

fn sender(node: NodeId) -> Sender {
    Sender { node, boot: BootId(1) }
}

fn spent_one(key: &Subject, limits: &SubjectLimits) -> CounterGossip {
    let spec = &limits.specs[0];
    CounterGossip {
        given: Vec::new(),
        counter: CounterId {
            subject: *key,
            limit: spec.tag,
            window: spec.limit.window_at(NOW).number,
        },
        mine: CounterReport { spent: 1, burned: 0, limit: 0, incarnations: 0, left: 0 },
    }
}

/// Shape, checksum and SHA-256 of a credential.
fn digest(bencher: &mut Bencher<'_>) {
    let secret = secret(key_id(1), 1);
    let text = secret.expose().as_bytes();
    assert_eq!(text.len(), 70);
    bencher.iter(|| Credential::parse(black_box(text)));
}

/// A key found among a million: any of them, then one of the busy ones.
fn look_up(bencher: &mut Bencher<'_>, table: &Table, among: usize) {
    let mut at = 0;
    bencher.iter(|| {
        at = (at + STRIDE) % among;
        let revision = revision_of;
        table.shared.table.with(black_box(&table.ids[at]), revision)
    });
}

fn revision_of(entry: &fluxgate_engine::state::entry::KeyEntry) -> u64 {
    entry.revision()
}

/// All of it, as a node does it for one validate. With few keys the memory that it touches stays
/// in the processor's caches, with many it does not: the difference is what memory costs.
fn decide(bencher: &mut Bencher<'_>, table: &Table, among: usize) {
    let world = World::new();
    let context = world.context();
    let defaults = limits(caps::LIMIT_TOKENS_MAX);
    let (mut shard, mut out) = (Shard::new(WaitPolicy::default()), Vec::new());
    let mut decide = |text: &str| {
        let credential = Credential::parse(text.as_bytes()).ok()?;
        let known = table.shared.table.with(&credential.key_id, |entry| {
            let valid = entry.opens(&credential.digest, NOW)
                && entry.status(NOW) == Status::Active
                && entry.scope() >= Scope::Read;
            entry.touch(NOW);
            valid.then(|| SubjectLimits {
                created: entry.created_index(),
                specs: Arc::clone(entry.own_limits().unwrap_or(&defaults)),
            })
        });
        let limits = known??;
        Some(shard.handle_request(
            &context,
            &credential.key_id.into(),
            &limits,
            Cost::ONE,
            WaiterId(0),
            &mut out,
        ))
    };
    for text in &table.credentials {
        assert_eq!(decide(text).map(verdict), Some(Verdict::Admitted));
    }
    let mut at = 0;
    bencher.iter(|| {
        at = (at + STRIDE) % among;
        decide(black_box(&table.credentials[at]))
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // Seconds to make, so only once a bench asks for it.
    let table = LazyCell::new(Table::new);
    criterion.bench_function("counter/admitted_100_busy", |b| admitted(b, 100));
    criterion.bench_function("counter/admitted_10k_busy", |b| admitted(b, KEYS_BUSY));
    criterion.bench_function("counter/admitted_10k_busy_3_subjects", admitted_jointly);
    criterion.bench_function("counter/denied_proven", denied);
    criterion.bench_function("credential/parse_70_bytes", digest);
    criterion.bench_function("table/look_up_any_of_1M", |b| look_up(b, &table, KEYS));
    criterion.bench_function("table/look_up_busy_of_1M", |b| look_up(b, &table, KEYS_BUSY));
    criterion.bench_function("decision/whole_100_busy", |b| decide(b, &table, 100));
    criterion.bench_function("decision/whole_10k_busy", |b| decide(b, &table, KEYS_BUSY));
    criterion.final_summary();
}
