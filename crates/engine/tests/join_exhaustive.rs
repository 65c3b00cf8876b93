//! Three nodes that join, in every order of their starts, questions and answers.
//!
//! Each node makes two attempts. An attempt asks, is answered by any set of the nodes that run, and
//! judges the answers later: they may be stale then. Consensus is as small as it can be: a node
//! votes once, and a majority elects. From every state that is reached, a fair run must bring the
//! cluster up, so no order of events blocks a first start.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use fluxgate_engine::join::{
    Effect, FORM_PATIENCE_MS, Heard, Introduction, Join, JoinError, RegisteredDirectory, Settings,
    Situation, Times,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, BootNs, DirId, NodeId};

const NODES: usize = 3;
const ATTEMPTS: u8 = 2;
/// The newest start that the cluster has registered of each node.
const REGISTERED: BootId = BootId(4);
/// The newest start of the original of an older copy, and of a directory that was replaced.
const LATER: StartId = StartId { boot: BootId(9), nonce: 99 };
const REPLACED: DirId = DirId(99);

/// A data directory as its node starts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Store {
    /// Without a log, and no directory was registered under the id.
    New,
    /// With the log of a cluster.
    Old,
    /// Old; it has not applied what the cluster registered of the node that is neither `Old` nor
    /// `Behind`.
    Behind,
    /// Without a log. Another directory is registered under the id.
    Replacing,
    /// Without a log. Another directory was registered under the id, and removed.
    AfterRemoval,
    /// With a log, put back from before a registered start.
    OlderCopy,
}

impl Store {
    fn has_log(self) -> bool {
        matches!(self, Self::Old | Self::Behind | Self::OlderCopy)
    }
}

#[derive(Clone, Debug)]
struct Node {
    id: NodeId,
    store: Store,
    join: Join,
    now: BootNs,
    running: bool,
    attempts: u8,
    // Answers that are not judged yet.
    pending: Option<BTreeMap<NodeId, Heard>>,
    start_id: StartId,
    has_log: bool,
    has_history: bool,
    takes_part: bool,
    voted: Option<NodeId>,
    done: bool,
    ended: Option<JoinError>,
}

impl Node {
    fn new(at: usize, store: Store) -> Self {
        let id = id(at);
        let settings = Settings {
            me: id,
            dir_id: directory(at),
            members: (0..NODES).map(self::id).collect(),
            clock_error_ms_max: 1_000,
        };
        Self {
            id,
            store,
            join: Join::new(settings, BootNs(0)),
            now: BootNs(0),
            running: false,
            attempts: 0,
            pending: None,
            start_id: StartId { boot: BootId(5), nonce: id.0 },
            has_log: store.has_log(),
            has_history: store.has_log(),
            takes_part: false,
            voted: None,
            done: false,
            ended: None,
        }
    }

    fn joins(&self) -> bool {
        !self.done && self.ended.is_none()
    }

    fn situation(&self) -> Situation {
        let voters = (0..NODES).filter(|_| self.has_log).map(|at| (id(at), true));
        Situation {
            formed: self.has_log,
            takes_part: self.takes_part,
            members: voters.collect(),
            start_id: self.start_id,
            times: times(),
        }
    }

    /// Carries effects out until the node asks others; false if it does not ask.
    fn poll(&mut self) -> bool {
        while let Some(effect) = self.join.poll_effect(self.now, &self.situation()) {
            match effect {
                Effect::Introduce { .. } => return true,
                Effect::LookForCopy { .. } => self.join.handle_own_addresses(self.start_id, &[]),
                Effect::CountOn(boot) => self.start_id.boot = boot,
                Effect::Form => {
                    self.has_log = true;
                    self.voted.get_or_insert(self.id);
                }
                Effect::TakePart => self.takes_part = true,
                Effect::End(error) => {
                    self.takes_part = false;
                    self.ended = Some(error);
                }
                Effect::Done => self.done = true,
                Effect::AskForLease | Effect::NoteClocks(_) | Effect::Report(_) => {}
            }
        }
        false
    }
}

fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

fn directory(at: usize) -> DirId {
    DirId(10 + id(at).0)
}

fn registered(node: NodeId) -> StartId {
    StartId { boot: REGISTERED, nonce: node.0 }
}

fn times() -> Times {
    let wall_ns = 20_000 * 86_400 * 1_000_000_000;
    Times { synced_ns: None, stamp_ns: 0, carried_ns: None, wall_ns, plausible: true }
}

#[derive(Clone, Debug)]
struct World {
    nodes: Vec<Node>,
    leader: Option<NodeId>,
}

impl World {
    fn new(stores: [Store; NODES]) -> Self {
        let nodes = stores.iter().enumerate().map(|(at, store)| Node::new(at, *store)).collect();
        Self { nodes, leader: None }
    }

    fn existed(&self) -> bool {
        self.nodes.iter().any(|node| node.store.has_log())
    }

    /// What the replicated state of a node says of the nodes.
    fn registrations(&self, by: &Node) -> Vec<(RegisteredDirectory, StartId)> {
        let of = |at: usize| {
            let own = (directory(at), false, registered(id(at)));
            let (dir_id, removed, newest) = match self.nodes[at].store {
                Store::Old | Store::Behind => own,
                Store::OlderCopy if by.store == Store::OlderCopy => own,
                Store::OlderCopy => (directory(at), false, LATER),
                Store::New => return None,
                Store::Replacing | Store::AfterRemoval if by.store == Store::Behind => return None,
                Store::Replacing => (REPLACED, false, LATER),
                Store::AfterRemoval => (REPLACED, true, LATER),
            };
            Some((RegisteredDirectory { node: id(at), dir_id, removed }, newest))
        };
        (0..NODES).filter(|_| by.store.has_log()).filter_map(of).collect()
    }

    fn introduction(&self, at: usize) -> Introduction {
        let by = &self.nodes[at];
        let known = self.registrations(by);
        Introduction {
            node: by.id,
            dir_id: directory(at),
            start_id: by.start_id,
            formed: by.has_history,
            directories: known.iter().map(|(directory, _)| *directory).collect(),
            start_ids: known.iter().map(|(directory, newest)| (directory.node, *newest)).collect(),
            heard: Vec::new(),
            time: times(),
        }
    }

    /// A node begins an attempt, and those of `mask` that run answer it. A late one begins after
    /// the patience for nodes with lower ids.
    fn ask(&mut self, at: usize, mask: usize, late: bool) {
        let answers =
            |other: &usize| *other != at && mask & (1 << other) != 0 && self.nodes[*other].running;
        let said: Vec<_> = (0..NODES).filter(answers).map(|of| self.introduction(of)).collect();
        let node = &mut self.nodes[at];
        node.running = true;
        node.attempts += 1;
        let patient = BootNs(0).plus_ms(FORM_PATIENCE_MS + 1);
        node.now = node.now.max(node.join.poll_timeout().unwrap_or_default());
        node.now = if late { node.now.max(patient) } else { node.now };
        if node.poll() {
            let now = node.now;
            let heard = said.into_iter().map(|said| (said.node, Heard { said, at: now }));
            node.pending = Some(heard.collect());
        }
    }

    fn judge(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Some(heard) = node.pending.take() {
            let (situation, me, own) = (node.situation(), node.id, node.start_id);
            let made = |start| start == own || start == registered(me);
            node.join.handle_introductions(node.now, &situation, made, &heard);
            assert!(!node.poll(), "an attempt follows a pause");
        }
        if let Some(error) = &node.ended {
            assert!(must_end(node.store), "node {} ended: {error:?}", node.id);
        }
    }

    /// A node that formed the cluster is elected if a majority can vote for it.
    fn elect(&mut self, at: usize) {
        let candidate = id(at);
        let votes =
            |node: &Node| node.takes_part && node.voted.is_none_or(|voted| voted == candidate);
        let stands = self.nodes[at].has_log && votes(&self.nodes[at]);
        let count = self.nodes.iter().filter(|node| votes(node)).count();
        if self.existed() || !stands || count * 2 <= NODES || self.leader == Some(candidate) {
            return;
        }
        assert_eq!(self.leader, None, "two clusters: {self:#?}");
        self.leader = Some(candidate);
        for node in self.nodes.iter_mut().filter(|node| votes(node)) {
            (node.voted, node.has_log, node.has_history) = (Some(candidate), true, true);
        }
    }

    /// The leader's log reaches a node, which then knows what the leader does.
    fn replicate(&mut self, at: usize) {
        let leads = |node: &Node| node.store.has_log() && node.takes_part;
        let in_time = self.leader.is_some() || self.nodes.iter().filter(|n| leads(n)).count() > 1;
        let node = &mut self.nodes[at];
        if in_time && node.takes_part && node.joins() {
            (node.has_log, node.has_history) = (true, true);
        }
    }

    /// Must hold in every state.
    fn check(&self) {
        for node in &self.nodes {
            if node.takes_part {
                assert!(!must_end(node.store), "node {} takes part: {self:#?}", node.id);
            }
            if node.takes_part && node.store == Store::AfterRemoval {
                assert!(node.start_id.boot > LATER.boot, "late messages would count: {self:#?}");
            }
            let formed = node.voted.is_some();
            assert!(!formed || !self.existed(), "node {} formed a second: {self:#?}", node.id);
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// Every state that one step leads to.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut step = |take: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            take(&mut world);
            next.push(world);
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if node.pending.is_some() {
                step(&|world| world.judge(at));
            } else if node.joins() && node.attempts < ATTEMPTS {
                for mask in (0..1 << NODES).filter(|mask| mask & (1 << at) == 0) {
                    step(&|world| world.ask(at, mask, false));
                    if node.attempts > 0 {
                        step(&|world| world.ask(at, mask, true));
                    }
                }
            }
            if node.takes_part {
                step(&|world| world.elect(at));
                step(&|world| world.replicate(at));
            }
        }
        next
    }

    /// From here on all nodes run, and every question is answered.
    fn run_fairly(mut self) {
        self.nodes.iter_mut().for_each(|node| node.running = true);
        // Enough for one that waits out its patience.
        for round in 0..8 {
            if !self.nodes.iter().any(Node::joins) {
                break;
            }
            for at in 0..NODES {
                if self.nodes[at].joins() && self.nodes[at].pending.is_none() {
                    self.ask(at, (1 << NODES) - 1, round > 4);
                }
                self.judge(at);
                self.elect(at);
                self.replicate(at);
                self.check();
            }
        }
        for node in &self.nodes {
            assert_eq!(node.done, !must_end(node.store), "a fair run ends so: {self:#?}");
            assert_eq!(node.ended.is_some(), must_end(node.store), "{:?}", node.ended);
        }
        assert!(self.existed() || self.leader.is_some(), "no cluster: {self:#?}");
    }
}

/// Whether a directory must not take part.
fn must_end(store: Store) -> bool {
    match store {
        Store::Replacing | Store::OlderCopy => true,
        Store::New | Store::Old | Store::Behind | Store::AfterRemoval => false,
    }
}

/// Goes through every state, with the third store at every place; returns how many there are.
fn explore(stores: [Store; NODES]) -> usize {
    let [first, second, third] = stores;
    let places = [[third, first, second], [first, third, second], [first, second, third]];
    let places: BTreeSet<_> = places.into_iter().collect();
    places.into_iter().map(explore_one).sum()
}

fn explore_one(stores: [Store; NODES]) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![World::new(stores)];
    while let Some(world) = open.pop() {
        world.check();
        for next in world.next() {
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
        world.run_fairly();
    }
    seen.len()
}

#[test]
fn new_nodes_form_one_cluster() {
    let states = explore([Store::New; NODES]);
    assert!(states > 1_000, "only {states} states");
}

#[test]
fn an_existing_cluster_starts_again() {
    explore([Store::Old; NODES]);
}

#[test]
fn a_new_node_joins_an_existing_cluster_and_forms_none() {
    explore([Store::Old, Store::Old, Store::New]);
}

#[test]
fn a_directory_that_replaces_another_never_takes_part() {
    explore([Store::Old, Store::Old, Store::Replacing]);
    explore([Store::Old, Store::Behind, Store::Replacing]);
}

#[test]
fn a_directory_after_a_removal_takes_part_above_all_earlier_starts() {
    explore([Store::Old, Store::Old, Store::AfterRemoval]);
}

#[test]
fn an_older_copy_never_takes_part() {
    explore([Store::Old, Store::Old, Store::OlderCopy]);
}
