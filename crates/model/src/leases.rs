//! Leases and the write barrier: one leader at a time, writes, and clocks that drift.
//!
//! Real: [`Granter`] and [`Holder`]. Stands in: consensus, as one log of committed entries whose
//! order nobody doubts; a proof of leadership succeeds for the newest leader only. Node 1 and
//! node 3 have clocks that run 1 % fast, node 2's runs 1 % slow: the worst pairing for a holder
//! and a granter, both ways round.

use fluxgate_engine::lease::{Former, Grant, Granter, Holder, LeaseTerms};
use fluxgate_engine::mutation::Mutation;
use fluxgate_types::{BootNs, LogIndex, NodeId};
use stateright::{Model, Property};

use crate::{Broken, Told};

/// True milliseconds between looks at the clocks: a little longer than a lease lasts by a slow
/// holder's clock and by a fast granter's, and shorter than it would last for that holder without
/// its margin.
pub(crate) const TICK_MS: u64 = 990;
/// The default terms at a third of their length.
const TERMS: LeaseTerms = LeaseTerms { lease_ms: 1_000, clock_error_ms_max: 333 };

/// How far to look.
#[derive(Clone, Debug)]
pub struct Leases {
    /// The rule that is left out.
    pub broken: Option<Broken>,
    /// Nodes: two or three.
    pub nodes: usize,
    /// Looks at the clocks.
    pub ticks: u64,
    /// Writes.
    pub writes: usize,
    /// Changes of leader.
    pub elections: usize,
}

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Begins a node's office.
    Office(usize),
    /// Creates, changes or revokes a key.
    Write,
}

/// A message under way: of one node at most one, and the next one means that this one was lost.
#[derive(Clone, Debug)]
enum Flight {
    /// A request for a lease.
    Ask { leader: usize, sent: BootNs, applied: usize },
    /// The answer.
    Grant { sent: BootNs, grant: Grant },
}

/// One node.
#[derive(Clone, Debug)]
struct Member {
    applied: usize,
    holder: Holder,
    /// The newest office that it knows of: its node, and when it saw it.
    seen: (usize, BootNs),
    /// Its own office, and the last entry that it knows to be committed.
    office: Option<(Granter, usize)>,
    flight: Option<Flight>,
    /// When it last asked: at most once between two looks at the clocks.
    asked: Option<u64>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct State {
    tick: u64,
    log: Vec<Entry>,
    leader: usize,
    acked: usize,
    members: Vec<Member>,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node asks another, or itself, for a lease.
    Ask(usize, usize),
    /// The request arrives.
    Arrive(usize),
    /// The answer arrives.
    Take(usize),
    /// The leader commits a write.
    Write,
    /// A node applies the next entry.
    Apply(usize),
    /// A leader hears how far a node has applied.
    Report(usize, usize),
    /// A leader acknowledges everything up to an entry.
    Ack(usize, usize),
    /// A node becomes the leader.
    Elect(usize),
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn index(at: usize) -> LogIndex {
    LogIndex(at as u64)
}

impl State {
    fn boot(&self, node: usize) -> BootNs {
        let percent = if node == 1 { 99 } else { 101 };
        BootNs(self.tick * TICK_MS * 10_000 * percent)
    }

    fn serves(&self, node: usize) -> bool {
        self.boot(node) < self.members[node].holder.until() || Mutation::SpendWithoutLease.active()
    }

    fn apply(&mut self, node: usize) {
        let now = self.boot(node);
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

    fn elect(&mut self, node: usize) {
        self.leader = node;
        while self.members[node].applied < self.log.len() {
            self.apply(node);
        }
        let (now, (former, seen_since)) = (self.boot(node), self.members[node].seen);
        self.log.push(Entry::Office(node));
        self.apply(node);
        let former = Former { node: id(former), seen_since };
        let granter =
            Granter::new(TERMS, id(node), now, (0..self.members.len()).map(id), Some(former));
        let member = &mut self.members[node];
        member.office = Some((granter, self.log.len()));
        member.holder.handle_elected(now, &TERMS);
    }

    fn elections(&self) -> usize {
        self.log.iter().filter(|entry| **entry != Entry::Write).count() - 1
    }
}

impl Leases {
    fn grant(&self, state: &mut State, node: usize) -> bool {
        let Some(Flight::Ask { leader, sent, applied }) = state.members[node].flight.take() else {
            return false;
        };
        let (now, committed) = (state.boot(leader), state.log.len());
        let proven = state.leader == leader;
        let Some((granter, known)) = state.members[leader].office.as_mut() else { return false };
        if !proven && self.broken != Some(Broken::NoQuorum) {
            return false;
        }
        let read = if proven { committed } else { *known };
        if granter.lags(now, id(node), index(applied)) {
            return false;
        }
        let mut grant = granter.grant(now, id(node), index(applied), index(read), 0);
        if self.broken == Some(Broken::NoDriftMargin) {
            grant.holder_ms = TERMS.granter_ms();
        }
        state.members[node].flight = Some(Flight::Grant { sent, grant });
        true
    }

    fn step(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Tick => state.tick += 1,
            Action::Ask(node, leader) => {
                let (sent, applied) = (state.boot(node), state.members[node].applied);
                state.members[node].flight = Some(Flight::Ask { leader, sent, applied });
                state.members[node].asked = Some(state.tick);
            }
            Action::Arrive(node) => return self.grant(state, node),
            Action::Take(node) => {
                let now = state.boot(node);
                let member = &mut state.members[node];
                let Some(Flight::Grant { sent, grant }) = member.flight.take() else {
                    return false;
                };
                let late = self.broken == Some(Broken::LeaseFromAnswer);
                let sent = if late { now } else { sent };
                member.holder.handle_grant(sent, &grant, index(member.applied));
            }
            Action::Write => {
                state.log.push(Entry::Write);
                let at = state.log.len();
                if let Some((granter, known)) = state.members[state.leader].office.as_mut() {
                    granter.handle_committed(index(at));
                    *known = at;
                }
            }
            Action::Apply(node) => state.apply(node),
            Action::Report(node, leader) => {
                let applied = state.members[node].applied;
                if let Some((granter, _)) = state.members[leader].office.as_mut() {
                    granter.handle_applied(id(node), index(applied));
                }
            }
            Action::Ack(_, at) => state.acked = at,
            Action::Elect(node) => state.elect(node),
        }
        true
    }

    fn may_ack(state: &State, leader: usize, at: usize) -> bool {
        let member = &state.members[leader];
        let now = state.boot(leader);
        member.office.as_ref().is_some_and(|(granter, known)| {
            at <= *known && at <= member.applied && granter.holders(index(at), now).is_empty()
        })
    }
}

impl Model for Leases {
    type State = Told<State>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        Broken::apply(self.broken);
        let member = |_| Member {
            applied: 0,
            holder: Holder::default(),
            seen: (0, BootNs(0)),
            office: None,
            flight: None,
            asked: None,
        };
        let members = (0..self.nodes).map(member).collect();
        let mut state = State { tick: 0, log: Vec::new(), leader: 0, acked: 0, members };
        state.elect(0);
        for node in 1..self.nodes {
            state.apply(node);
        }
        vec![Told(state)]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        Broken::apply(self.broken);
        let state = &state.0;
        if state.tick < self.ticks {
            actions.push(Action::Tick);
        }
        let writes = state.log.iter().filter(|entry| **entry == Entry::Write).count();
        if writes < self.writes {
            actions.push(Action::Write);
        }
        let leaders = |state: &State| {
            let in_office = |node: &usize| state.members[*node].office.is_some();
            (0..state.members.len()).filter(in_office).collect::<Vec<_>>()
        };
        for node in 0..self.nodes {
            let member = &state.members[node];
            if member.asked != Some(state.tick) {
                // Who believes that it leads asks itself.
                let own = member.office.is_some();
                let to = leaders(state).into_iter().filter(|to| !own || *to == node);
                actions.extend(to.map(|to| Action::Ask(node, to)));
            }
            match member.flight {
                None => {}
                Some(Flight::Ask { .. }) => actions.push(Action::Arrive(node)),
                Some(Flight::Grant { .. }) => actions.push(Action::Take(node)),
            }
            if member.applied < state.log.len() {
                actions.push(Action::Apply(node));
            }
            for leader in leaders(state) {
                // Of use only where a write waits for it.
                let awaited = state.log[state.acked..].contains(&Entry::Write);
                if leader != node && awaited {
                    actions.push(Action::Report(node, leader));
                }
                for at in state.acked + 1..=state.log.len() {
                    let write = state.log[at - 1] == Entry::Write;
                    if node == 0 && write && Self::may_ack(state, leader, at) {
                        actions.push(Action::Ack(leader, at));
                    }
                }
            }
            if node != state.leader && state.elections() < self.elections {
                actions.push(Action::Elect(node));
            }
        }
    }

    fn next_state(&self, state: &Self::State, action: Self::Action) -> Option<Self::State> {
        Broken::apply(self.broken);
        let mut next = state.clone();
        self.step(&mut next.0, action).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("acknowledged_means_applied", |model: &Self, state: &Told<State>| {
                Broken::apply(model.broken);
                let state = &state.0;
                (0..model.nodes)
                    .all(|n| !state.serves(n) || state.members[n].applied >= state.acked)
            }),
            Property::sometimes(
                "acknowledged beside a leased follower",
                |model: &Self, state: &Told<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    state.acked > 1
                        && (0..model.nodes).any(|n| n != state.leader && state.serves(n))
                },
            ),
            Property::sometimes(
                "acknowledged past a silent follower",
                |model: &Self, state: &Told<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    let silent = |n: usize| {
                        state.members[n].applied < state.acked
                            && state.members[n].holder.until() > BootNs(0)
                    };
                    state.acked > 1 && (0..model.nodes).any(silent)
                },
            ),
        ]
    }
}
