//! Share maps: no window is opened under two of them, over changes of leader and clock errors.
//!
//! Real: [`fluxgate_engine::lease`]: which moments a granter promises, when a map may begin, and
//! which windows a holder may open. Modelled: consensus ([`crate::cluster`]); a lease is requested,
//! granted and taken in one step, because [`crate::leases`] has the rest. One node's clock is ahead
//! by the whole clock error, the other's is behind by it.

use std::collections::BTreeMap;

use fluxgate_engine::fault::Mutation;
use fluxgate_engine::lease::LeaseTerms;
use fluxgate_types::{BootNs, ClusterMs};
use stateright::{Model, Property};

use crate::cluster::{Cluster, Entry, id, index};
use crate::leases::TICK_MS;
use crate::{Broken, ByDebug};

const NODES: usize = 2;
/// One tick is the length of a window, and also the clock error.
const TERMS: LeaseTerms = LeaseTerms { lease_ms: 1_000, clock_error_ms_max: TICK_MS };
/// Cluster time at the beginning.
const BEGIN_MS: u64 = 100 * TICK_MS;

/// The bounds of the search.
#[derive(Clone, Debug)]
pub struct Maps {
    /// The rule that is broken.
    pub broken: Option<Broken>,
    /// Ticks of the clocks.
    pub ticks: u64,
    /// Changes of leader.
    pub elections: usize,
}

/// A state of the whole model.
#[derive(Clone, Debug)]
pub struct State {
    /// The node whose clock is ahead.
    ahead: usize,
    tick: u64,
    cluster: Cluster,
    /// Proposed by the leader, not committed.
    proposed: Option<ClusterMs>,
    /// For each node, the tick, log length and applied index at its last renewal: a second renewal
    /// would change nothing.
    renewed: [(u64, usize, usize); NODES],
    /// Windows that were opened, and the maps under which they were.
    opened: BTreeMap<u64, Vec<ClusterMs>>,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node renews its lease.
    Renew(usize),
    /// The leader proposes another map.
    Propose,
    /// The proposal is committed.
    Commit,
    /// A node applies the next entry.
    Apply(usize),
    /// A node opens a window.
    Open(usize, u64),
    /// A node becomes the leader; its log contained the proposal, or did not.
    Elect(usize, bool),
}

impl State {
    fn boot(&self) -> BootNs {
        BootNs(self.tick * TICK_MS * 1_000_000)
    }

    fn time(&self, node: usize) -> ClusterMs {
        // True time is one clock error ahead of the slower clock.
        let error = if node == self.ahead { 2 * TERMS.clock_error_ms_max } else { 0 };
        ClusterMs(BEGIN_MS + self.tick * TICK_MS + error)
    }

    /// The map that this node knows for a window.
    fn map_at(&self, node: usize, start: ClusterMs) -> ClusterMs {
        let maps =
            self.cluster.log[..self.cluster.members[node].applied].iter().filter_map(|entry| {
                match entry {
                    Entry::Map(from) => Some(*from),
                    Entry::TermStart(_) | Entry::Write => None,
                }
            });
        maps.filter(|from| *from <= start).max().unwrap_or(ClusterMs(0))
    }

    fn may_open(&self, node: usize, window: u64) -> bool {
        let holder = &self.cluster.members[node].holder;
        let start = ClusterMs(window * TICK_MS);
        self.boot() < holder.until()
            && start < holder.horizon()
            && start <= self.time(node) + TERMS.clock_error_ms_max
    }

    fn renewal(&self, node: usize) -> (u64, usize, usize) {
        (self.tick, self.cluster.log.len(), self.cluster.members[node].applied)
    }

    fn has_map(&self) -> bool {
        self.second_map().is_some()
    }

    /// When the second map begins. Earlier windows do not fall under it and cannot show a
    /// violation.
    fn second_map(&self) -> Option<ClusterMs> {
        let committed = self.cluster.log.iter().find_map(|entry| match entry {
            Entry::Map(from) => Some(*from),
            Entry::TermStart(_) | Entry::Write => None,
        });
        self.proposed.or(committed)
    }
}

impl Maps {
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => state.tick += 1,
            Action::Renew(node) => {
                let (now, committed) = (state.boot(), state.cluster.log.len());
                let cluster_ns = state.time(state.cluster.leader).0 * 1_000_000;
                let applied = index(state.cluster.members[node].applied);
                let Some(granter) = state.cluster.granter() else { return };
                let grant = granter.grant(now, id(node), applied, index(committed), cluster_ns);
                state.cluster.members[node].holder.handle_grant(now, &grant, applied);
                state.renewed[node] = state.renewal(node);
            }
            Action::Propose => {
                let time = state.time(state.cluster.leader);
                let ahead_ms = match self.broken {
                    Some(Broken::Engine(Mutation::MapAtOnce)) => 0,
                    Some(Broken::MapTooSoon) => TERMS.horizon_ms() - TICK_MS,
                    _ => TERMS.map_ahead_ms(),
                };
                let Some(granter) = state.cluster.granter() else { return };
                let from = time + ahead_ms;
                let late_enough = granter.handle_map_proposed(time, from);
                if late_enough || self.broken == Some(Broken::MapTooSoon) {
                    state.proposed = Some(from);
                }
            }
            Action::Commit => {
                let Some(from) = state.proposed.take() else { return };
                state.cluster.log.push(Entry::Map(from));
                let at = index(state.cluster.log.len());
                if let Some(granter) = state.cluster.granter() {
                    granter.handle_map_committed(at);
                }
            }
            Action::Apply(node) => {
                let now = state.boot();
                state.cluster.apply(node, now);
            }
            Action::Open(node, window) => {
                let map = state.map_at(node, ClusterMs(window * TICK_MS));
                let maps = state.opened.entry(window).or_default();
                if !maps.contains(&map) {
                    maps.push(map);
                }
            }
            Action::Elect(node, keeps) => {
                if let Some(from) = state.proposed.take().filter(|_| keeps) {
                    state.cluster.log.push(Entry::Map(from));
                }
                let now = state.boot();
                state.cluster.elect(node, now, None, TERMS);
            }
        }
    }
}

impl Model for Maps {
    type State = ByDebug<State>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        Broken::apply(self.broken);
        let begin = |ahead| {
            let (cluster, opened) = (Cluster::new(NODES, TERMS), BTreeMap::new());
            let renewed = [(u64::MAX, 0, 0); NODES];
            ByDebug(State { ahead, tick: 0, cluster, proposed: None, renewed, opened })
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
        let cluster = &state.cluster;
        for node in 0..NODES {
            if state.renewed[node] != state.renewal(node) {
                actions.push(Action::Renew(node));
            }
            if cluster.members[node].applied < cluster.log.len() {
                actions.push(Action::Apply(node));
            }
            // The current window by this node's clock, and its neighbours.
            let now = state.time(node).0 / TICK_MS;
            for window in now - 1..=now + 1 {
                let map = state.map_at(node, ClusterMs(window * TICK_MS));
                let known = state.opened.get(&window).is_some_and(|maps| maps.contains(&map));
                let second = state.second_map().is_some_and(|from| window * TICK_MS >= from.0);
                if second && !known && state.may_open(node, window) {
                    actions.push(Action::Open(node, window));
                }
            }
            if node != cluster.leader && cluster.elections() < self.elections {
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
        // A window that no node can open any more cannot show a violation.
        let slowest = (BEGIN_MS + next.0.tick * TICK_MS) / TICK_MS;
        next.0.opened.retain(|window, maps| *window + 1 >= slowest || maps.len() > 1);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one_map_per_window", |_: &Self, state: &ByDebug<State>| {
                state.0.opened.values().all(|maps| maps.len() < 2)
            }),
            Property::sometimes(
                "a window is opened under the second map",
                |_: &Self, state: &ByDebug<State>| {
                    let second = |maps: &Vec<ClusterMs>| maps.iter().any(|map| map.0 > 0);
                    state.0.opened.values().any(second)
                },
            ),
        ]
    }
}
