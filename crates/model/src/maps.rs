//! Share maps: no window is opened under two of them, over changes of leader and clock errors.
//!
//! Real: [`Granter`] (which moments it promises, when a map may begin) and [`Holder`] (which
//! windows it may open). Stands in: consensus, as one log; a lease is asked for, granted and taken
//! in one step, since [`crate::leases`] has the rest. One node's clock
//! is ahead by the whole clock error, the other's behind by it.

use std::collections::BTreeMap;

use fluxgate_engine::lease::{Former, Granter, Holder, LeaseTerms};
use fluxgate_engine::mutation::Mutation;
use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};
use stateright::{Model, Property};

use crate::leases::TICK_MS;
use crate::{Broken, Told};

const NODES: usize = 2;
/// A window is as long as the time between two looks at the clocks, and so is the clock error.
const TERMS: LeaseTerms = LeaseTerms { lease_ms: 1_000, clock_error_ms_max: TICK_MS };
/// Cluster time at the beginning.
const BEGIN_MS: u64 = 100 * TICK_MS;

/// How far to look.
#[derive(Clone, Debug)]
pub struct Maps {
    /// The rule that is left out.
    pub broken: Option<Broken>,
    /// Looks at the clocks.
    pub ticks: u64,
    /// Changes of leader.
    pub elections: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Office(usize),
    Map(ClusterMs),
}

#[derive(Clone, Debug)]
struct Member {
    applied: usize,
    holder: Holder,
    seen: (usize, BootNs),
    office: Option<Granter>,
    /// When it last renewed, and what it and the log were: again would change nothing.
    renewed: (u64, usize, usize),
}

/// Everything.
#[derive(Clone, Debug)]
pub struct State {
    /// The node whose clock is ahead.
    ahead: usize,
    tick: u64,
    log: Vec<Entry>,
    leader: usize,
    /// Proposed by the leader, and not committed.
    proposed: Option<ClusterMs>,
    members: Vec<Member>,
    /// Windows that were opened, and under how many maps each.
    opened: BTreeMap<u64, Vec<ClusterMs>>,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node renews its lease.
    Renew(usize),
    /// The leader proposes another map.
    Propose,
    /// It is committed.
    Commit,
    /// A node applies the next entry.
    Apply(usize),
    /// A node opens a window.
    Open(usize, u64),
    /// A node becomes the leader; the proposal was in its log, or not.
    Elect(usize, bool),
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn index(at: usize) -> LogIndex {
    LogIndex(at as u64)
}

impl State {
    fn boot(&self) -> BootNs {
        BootNs(self.tick * TICK_MS * 1_000_000)
    }

    fn cluster(&self, node: usize) -> ClusterMs {
        // The truth is one clock error past the slower of them.
        let error = if node == self.ahead { 2 * TERMS.clock_error_ms_max } else { 0 };
        ClusterMs(BEGIN_MS + self.tick * TICK_MS + error)
    }

    fn apply(&mut self, node: usize) {
        let now = self.boot();
        let member = &mut self.members[node];
        let entry = self.log[member.applied];
        member.applied += 1;
        member.holder.handle_applied(index(member.applied));
        if let Entry::Office(of) = entry {
            member.seen = (of, now);
            if of != node {
                member.office = None;
            }
        }
    }

    /// The map that this node knows for a window.
    fn map_at(&self, node: usize, start: ClusterMs) -> ClusterMs {
        let maps = self.log[..self.members[node].applied].iter().filter_map(|entry| match entry {
            Entry::Map(from) => Some(*from),
            Entry::Office(_) => None,
        });
        maps.filter(|from| *from <= start).max().unwrap_or(ClusterMs(0))
    }

    fn may_open(&self, node: usize, window: u64) -> bool {
        let member = &self.members[node];
        let start = ClusterMs(window * TICK_MS);
        self.boot() < member.holder.until()
            && start < member.holder.horizon()
            && start <= self.cluster(node) + TERMS.clock_error_ms_max
    }

    fn elect(&mut self, node: usize) {
        self.leader = node;
        while self.members[node].applied < self.log.len() {
            self.apply(node);
        }
        let (now, (former, seen_since)) = (self.boot(), self.members[node].seen);
        self.log.push(Entry::Office(node));
        self.apply(node);
        let former = Former { node: id(former), seen_since };
        let granter = Granter::new(TERMS, id(node), now, (0..NODES).map(id), Some(former));
        self.members[node].office = Some(granter);
        self.members[node].holder.handle_elected(now, &TERMS);
    }

    fn renewal(&self, node: usize) -> (u64, usize, usize) {
        (self.tick, self.log.len(), self.members[node].applied)
    }

    fn has_map(&self) -> bool {
        self.second_map().is_some()
    }

    /// Where the second map begins. Windows before it are nobody's under it, and tell nothing.
    fn second_map(&self) -> Option<ClusterMs> {
        let committed = self.log.iter().find_map(|entry| match entry {
            Entry::Map(from) => Some(*from),
            Entry::Office(_) => None,
        });
        self.proposed.or(committed)
    }
}

impl Maps {
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => state.tick += 1,
            Action::Renew(node) => {
                let (now, leader, committed) = (state.boot(), state.leader, state.log.len());
                let cluster_ns = state.cluster(leader).0 * 1_000_000;
                let applied = index(state.members[node].applied);
                let Some(granter) = state.members[leader].office.as_mut() else { return };
                let grant = granter.grant(now, id(node), applied, index(committed), cluster_ns);
                state.members[node].holder.handle_grant(now, &grant, applied);
                state.members[node].renewed = state.renewal(node);
            }
            Action::Propose => {
                let cluster = state.cluster(state.leader);
                let ahead_ms = match self.broken {
                    Some(Broken::Engine(Mutation::MapAtOnce)) => 0,
                    Some(Broken::MapTooSoon) => TERMS.horizon_ms() - TICK_MS,
                    _ => TERMS.map_ahead_ms(),
                };
                let Some(granter) = state.members[state.leader].office.as_mut() else { return };
                let from = cluster + ahead_ms;
                let late_enough = granter.handle_map_proposed(cluster, from);
                if late_enough || self.broken == Some(Broken::MapTooSoon) {
                    state.proposed = Some(from);
                }
            }
            Action::Commit => {
                let Some(from) = state.proposed.take() else { return };
                state.log.push(Entry::Map(from));
                let at = index(state.log.len());
                if let Some(granter) = state.members[state.leader].office.as_mut() {
                    granter.handle_map_committed(at);
                }
            }
            Action::Apply(node) => state.apply(node),
            Action::Open(node, window) => {
                let map = state.map_at(node, ClusterMs(window * TICK_MS));
                let maps = state.opened.entry(window).or_default();
                if !maps.contains(&map) {
                    maps.push(map);
                }
            }
            Action::Elect(node, keeps) => {
                if let Some(from) = state.proposed.take().filter(|_| keeps) {
                    state.log.push(Entry::Map(from));
                }
                state.elect(node);
            }
        }
    }
}

impl Model for Maps {
    type State = Told<State>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        Broken::apply(self.broken);
        let member = |_| Member {
            applied: 0,
            holder: Holder::default(),
            seen: (0, BootNs(0)),
            office: None,
            renewed: (u64::MAX, 0, 0),
        };
        let begin = |ahead| {
            let members = (0..NODES).map(member).collect();
            let (log, opened) = (Vec::new(), BTreeMap::new());
            let mut state =
                State { ahead, tick: 0, log, leader: 0, proposed: None, members, opened };
            state.elect(0);
            for node in 1..NODES {
                state.apply(node);
            }
            Told(state)
        };
        (0..NODES).map(begin).collect()
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        Broken::apply(self.broken);
        let state = &state.0;
        if state.tick < self.ticks {
            actions.push(Action::Tick);
        }
        if !state.has_map() {
            actions.push(Action::Propose);
        }
        if state.proposed.is_some() {
            actions.push(Action::Commit);
        }
        let offices = state.log.iter().filter(|e| matches!(e, Entry::Office(_))).count();
        for node in 0..NODES {
            if state.members[node].renewed != state.renewal(node) {
                actions.push(Action::Renew(node));
            }
            if state.members[node].applied < state.log.len() {
                actions.push(Action::Apply(node));
            }
            // The window that runs by this node's clock, and its neighbours.
            let now = state.cluster(node).0 / TICK_MS;
            for window in now - 1..=now + 1 {
                let map = state.map_at(node, ClusterMs(window * TICK_MS));
                let told = state.opened.get(&window).is_some_and(|maps| maps.contains(&map));
                let second = state.second_map().is_some_and(|from| window * TICK_MS >= from.0);
                if second && !told && state.may_open(node, window) {
                    actions.push(Action::Open(node, window));
                }
            }
            if node != state.leader && offices <= self.elections {
                actions.push(Action::Elect(node, true));
                if state.proposed.is_some() {
                    actions.push(Action::Elect(node, false));
                }
            }
        }
    }

    fn next_state(&self, state: &Self::State, action: Self::Action) -> Option<Self::State> {
        Broken::apply(self.broken);
        let mut next = state.clone();
        self.step(&mut next.0, action);
        // Windows that nobody can open any more tell nothing further.
        let slowest = (BEGIN_MS + next.0.tick * TICK_MS) / TICK_MS;
        next.0.opened.retain(|window, maps| *window + 1 >= slowest || maps.len() > 1);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one_map_per_window", |_: &Self, state: &Told<State>| {
                state.0.opened.values().all(|maps| maps.len() < 2)
            }),
            Property::sometimes(
                "a window is opened under the second map",
                |_: &Self, state: &Told<State>| {
                    let second = |maps: &Vec<ClusterMs>| maps.iter().any(|map| map.0 > 0);
                    state.0.opened.values().any(second)
                },
            ),
        ]
    }
}
