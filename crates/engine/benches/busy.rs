//! A million keys in use: how long a lock is held, what memory it takes, what a decision costs.
//!
//! Answers for: one table of figures of this machine, by `scripts/bench/busy.sh`. It simulates one
//! node, with as many shards behind locks and the same steps, in one thread and virtual time, so
//! that a minute of windows takes seconds. Holds are in time of the processor: a machine that is
//! busy with other things makes no hold longer.
//!
//! `busy [KEYS] [MINUTES]`; three runs: ten keys, KEYS keys, and KEYS keys that two other nodes use
//! too. Each key gets two requests a minute, and the keys are spread over the minute. At the end come
//! two minutes in which all keys are used just after the turn of the window, which no machine answers
//! so fast: the most memory that this number of keys can take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, CounterReport, Cursor, Entitlement, Incarnation,
    Incarnations, Peer, SHARDS, Sender, Shard, Step, SubjectLimits, Verdict, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject, caps,
};
use rustix::time::{ClockId, clock_gettime};

const T0: u64 = 600_000_000;
const MINUTE_MS: u64 = 60_000;
const IDLE_MS: u64 = 3_600_000;
/// Groups of keys. They take their turns in the first half of a minute, one each 1.5 seconds.
const SLOTS: u64 = 20;

fn cpu_now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Holds of one kind.
#[derive(Default)]
struct Holds {
    // In nanoseconds: below 4 096 one by one, above in steps of a sixteenth.
    counts: BTreeMap<u64, u64>,
    all: u64,
    over: u64,
    longest: Duration,
}

/// No hold may be longer. One in millions is, because of the machine: a page is zeroed, or the host
/// gives the time to another machine.
const HOLD_MAX: Duration = Duration::from_millis(1);

impl Holds {
    fn note(&mut self, hold: Duration) {
        let ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        let step = (ns / 16).max(1).next_power_of_two();
        *self.counts.entry(ns / step * step).or_default() += 1;
        self.all += 1;
        self.over += u64::from(hold > HOLD_MAX);
        self.longest = self.longest.max(hold);
    }

    fn at(&self, permyriad: u64) -> Duration {
        let mut left = self.all * permyriad / 10_000;
        for (ns, count) in &self.counts {
            if left < *count {
                return Duration::from_nanos(*ns);
            }
            left -= count;
        }
        self.longest
    }

    fn line(&self, what: &str) -> String {
        format!(
            "{what:<32} {:>11} {:>10.1?} {:>10.1?} {:>10.1?} {:>9}",
            self.all,
            self.at(5_000),
            self.at(9_990),
            self.longest,
            self.over
        )
    }
}

/// A node of three, as far as its counters go.
struct Node {
    view: View,
    incarnation: Incarnation,
    limits: SubjectLimits,
    shards: Vec<Mutex<Shard>>,
    keys: Vec<(usize, Subject)>,
}

impl Node {
    fn new(keys: usize) -> Self {
        let mut incarnations = Incarnations::default();
        for node in 1..=3 {
            incarnations.note(NodeId(node), BootId(1));
        }
        let limit = Limit::new("requests", 100, MINUTE_MS);
        let key = |n: usize| {
            let text = format!("{n:012}");
            let bytes = text.as_bytes().try_into().expect("twelve digits");
            let key = Subject::from(KeyId::new(bytes).expect("digits make an id"));
            (usize::try_from(key.mix() >> 44).unwrap_or(0) % SHARDS, key)
        };
        let nodes = (1..=3).map(|node| (NodeId(node), 1)).collect();
        Self {
            view: View {
                defaults: Arc::new([]),
                share_maps: vec![ShareMap { from: ClusterMs(0), nodes }],
                nodes: BTreeMap::new(),
                ..View::default()
            },
            incarnation: Incarnation {
                me: NodeId(1),
                entitlement: Some(Entitlement::All),
                first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
                carryover: None,
                reached: ClusterMs(0),
                incarnations_tag: incarnations.tag(),
                incarnations,
                peers: vec![Peer::new(NodeId(2)), Peer::new(NodeId(3))],
                clock_error_ms_max: 1_000,
            },
            limits: SubjectLimits { created: LogIndex(1), specs: [LimitSpec::new(limit)].into() },
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(WaitPolicy::default()))).collect(),
            keys: (0..keys).map(key).collect(),
        }
    }

    /// A step under the lock of a shard, and how long it was held.
    fn hold<R>(
        &self,
        place: usize,
        at_ms: u64,
        holds: &mut Holds,
        step: impl FnOnce(&mut Shard, &Context<'_>) -> R,
    ) -> R {
        let context = Context {
            boot: BootNs(at_ms * 1_000_000),
            now: ClusterMs(at_ms),
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &self.incarnation,
        };
        let mut shard = self.shards[place].lock().expect("one thread");
        let begun = cpu_now();
        let result = step(&mut shard, &context);
        holds.note(cpu_now().saturating_sub(begun));
        result
    }

    fn counters(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("one thread").counters()).sum()
    }
}

#[derive(Default)]
struct Kinds {
    opening: Holds,
    deciding: Holds,
    hearing: Holds,
    telling: Holds,
    telling_again: Holds,
    sweeping: Holds,
}

/// What each of two other nodes says of these keys, in messages of up to one hold of the lock.
fn hear(node: &Node, keys: &[(usize, Subject)], at: u64, holds: &mut Holds) {
    let spec = &node.limits.specs[0];
    let window = spec.limit.window_at(ClusterMs(at)).number;
    let mut by_shard: BTreeMap<usize, Vec<Subject>> = BTreeMap::new();
    keys.iter().for_each(|(place, key)| by_shard.entry(*place).or_default().push(*key));
    for peer in [NodeId(2), NodeId(3)] {
        let sender = Sender { node: peer, boot: BootId(1) };
        for (place, keys) in &by_shard {
            for some in keys.chunks(caps::ITEMS_PER_HOLD_MAX) {
                node.hold(*place, at, holds, |shard, context| {
                    for key in some {
                        let counter = CounterId { subject: *key, limit: spec.tag, window };
                        let left = spec.limit.tokens / 3;
                        let mine = CounterReport {
                            spent: 1,
                            burned: 0,
                            limit: spec.limit.tokens,
                            incarnations: context.incarnation.incarnations_tag,
                            left,
                        };
                        let gossip = CounterGossip { counter, mine, given: Vec::new() };
                        let find = |_: &Subject| Some(node.limits.clone());
                        shard.handle_gossip(context, &find, &sender, &gossip, &mut Vec::new());
                    }
                });
            }
        }
    }
}

/// One request of each of these keys, all admitted.
fn request(node: &Node, keys: &[(usize, Subject)], at: u64, holds: &mut Holds) {
    for (place, key) in keys {
        let step = node.hold(*place, at, holds, |shard, context| {
            let none = &mut Vec::new();
            shard.handle_request(context, key, &node.limits, Cost::ONE, WaiterId(0), none)
        });
        assert!(matches!(step, Step::Decided(d) if d.verdict == Verdict::Admitted));
    }
}

/// What a node does about its counters at one moment: it sweeps, and tells its peers.
fn look_after(node: &Node, at: u64, kinds: &mut Kinds) {
    for place in 0..SHARDS {
        while node.hold(place, at, &mut kinds.sweeping, |shard, c| shard.sweep(c, IDLE_MS)) {}
        let most = caps::PEER_ITEMS_MAX / SHARDS;
        node.hold(place, at, &mut kinds.telling, |shard, c| shard.take_gossip(c, most));
        node.hold(place, at, &mut kinds.telling, |shard, c| {
            shard.take_gossip(c, caps::ITEMS_PER_HOLD_MAX)
        });
        let (mut cursor, mut gossip) = (Cursor::default(), Vec::new());
        let most = caps::ITEMS_PER_HOLD_MAX;
        node.hold(place, at, &mut kinds.telling_again, |shard, c| {
            let find = |_: &Subject| Some(node.limits.clone());
            shard.repeat_gossip(c, &find, &mut cursor, most, &mut gossip)
        });
    }
}

/// One minute: each key gets one request that opens its window, and a later one that finds it open,
/// followed by what others say of it if they use it too. The keys take their turns over
/// the minute in [`SLOTS`] groups or, `at_once`, all together.
fn minute(node: &Node, minute: u64, kinds: &mut Kinds, heard: bool, at_once: bool) {
    // Just after the turn: the windows before are over and still in memory.
    let begin = T0 + minute * MINUTE_MS + 100;
    let slots = if at_once { 1 } else { SLOTS };
    let group = |slot: u64| {
        let (slot, count) = (usize::try_from(slot).unwrap_or(0), node.keys.len());
        let at = |slot: usize| slot * count / usize::try_from(slots).unwrap_or(1);
        &node.keys[at(slot)..at(slot + 1)]
    };
    let later = if at_once { 1 } else { SLOTS / 3 };
    for slot in 0..slots + later {
        let at = begin + slot * (MINUTE_MS / SLOTS / 2);
        for (slot, holds) in [
            (Some(slot).filter(|slot| *slot < slots), &mut kinds.opening),
            (slot.checked_sub(later), &mut kinds.deciding),
        ] {
            let Some(keys) = slot.map(group) else { continue };
            request(node, keys, at, holds);
            if heard {
                hear(node, keys, at, &mut kinds.hearing);
            }
        }
        look_after(node, at, kinds);
    }
    // Long after the turn.
    look_after(node, begin + MINUTE_MS - 1_000, kinds);
}

#[expect(clippy::print_stdout, reason = "the result of a bench")]
fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (keys, minutes) = (words.next().unwrap_or(1_000_000), words.next().unwrap_or(4));
    let before = resident_kib();
    for (count, heard) in [(10, false), (keys, false), (keys, true)] {
        let node = Node::new(count);
        let of_bench = size_of_val(node.keys.as_slice()) as u64 / 1_024;
        let taken = || resident_kib().saturating_sub(before + of_bench) / 1_024;
        let (mut kinds, mut memory) = (Kinds::default(), Vec::new());
        for n in 0..minutes as u64 {
            minute(&node, n, &mut kinds, heard, false);
            assert_eq!(node.counters(), count, "each key has one window, and no old one stays");
            memory.push(taken());
        }
        println!(
            "{count} keys{}, {minutes} minutes",
            if heard { " that two other nodes use too" } else { "" }
        );
        println!(
            "                                 holds of a lock        p50      p99.9    longest over 1 ms"
        );
        for (what, holds) in [
            ("open a window and decide", &kinds.opening),
            ("decide in an open window", &kinds.deciding),
            ("take reports of others", &kinds.hearing),
            ("take reports to send", &kinds.telling),
            ("take reports again", &kinds.telling_again),
            ("forget what is over", &kinds.sweeping),
        ] {
            println!("{}", holds.line(what));
        }
        let every = (memory.len() / 8).max(1);
        let some: Vec<String> =
            memory.iter().step_by(every).chain(memory.last()).map(u64::to_string).collect();
        let mut at_once = Kinds::default();
        for n in 0..2 {
            minute(&node, minutes as u64 + n, &mut at_once, heard, true);
        }
        println!("{}", at_once.opening.line("open a window, all keys at once"));
        println!("resident memory, MiB, over the minutes: {}", some.join(" "));
        println!("after two minutes with all keys at once: {}\n", taken());
    }
}
