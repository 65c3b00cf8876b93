//! Leases and the write barrier: one leader at a time, writes, and clocks that drift.
//!
//! Real: [`fluxgate_engine::lease`]. Modelled: consensus ([`crate::cluster`]); a proof of
//! leadership succeeds only for the current leader; the voters are outside of the nodes, have
//! one clock, and note the leader's messages ([`Contacts`]) as soon as they are sent. The clocks of node
//! 1, of node 3 and of the voters run 1 % fast, that of node 2 runs 1 % slow: the worst pairing of a
//! holder and a granter, both ways round.

use fluxgate_engine::fault::Mutation;
use fluxgate_engine::lease::{Contacts, Grant, LeaderId, LeaseTerms, Voted};
use fluxgate_types::{BootNs, NodeId};
use stateright::{Model, Property};

use crate::cluster::{Cluster, Entry, id, index};
use crate::{Broken, ByDebug};

/// True milliseconds per tick: a little longer than a lease lasts by a slow holder's clock and by a
/// fast granter's, and shorter than it would last for that holder without its margin.
pub(crate) const TICK_MS: u64 = 990;
/// The default terms at a third of their length.
const TERMS: LeaseTerms = LeaseTerms { lease_ms: 1_000, clock_error_ms_max: 333 };

/// The bounds of the search.
#[derive(Clone, Debug)]
pub struct Leases {
    /// The rule that is broken.
    pub broken: Option<Broken>,
    /// Nodes: two or three.
    pub nodes: usize,
    /// Ticks of the clocks.
    pub ticks: u64,
    /// Writes.
    pub writes: usize,
    /// Changes of leader.
    pub elections: usize,
}

/// A message in transit: each node has at most one, and the next one means that this one was lost.
#[derive(Clone, Debug)]
enum Flight {
    /// A request for a lease.
    LeaseRequest { leader: usize, sent: BootNs, applied: usize },
    /// The reply.
    Grant { sent: BootNs, grant: Grant },
}

/// The state of one node's driver.
#[derive(Clone, Debug, Default)]
struct Driver {
    flight: Option<Flight>,
    /// The tick of its last request: a node sends at most one per tick.
    requested: Option<u64>,
    /// The last entry that it committed, or knew of when its term began.
    known: usize,
}

/// A state of the whole model.
#[derive(Clone, Debug)]
pub struct State {
    tick: u64,
    acked: usize,
    cluster: Cluster,
    drivers: Vec<Driver>,
    voters: Contacts,
    // The tick of the newest election.
    elected: u64,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node requests a lease from another node, or from itself.
    RequestLease(usize, usize),
    /// The request arrives.
    Arrive(usize),
    /// The reply arrives.
    Take(usize),
    /// The leader commits a write.
    Write,
    /// A node applies the next entry.
    Apply(usize),
    /// A leader hears how far a node has applied the log.
    Report(usize, usize),
    /// A leader acknowledges every write up to an entry.
    Ack(usize, usize),
    /// A node becomes the leader.
    Elect(usize),
}

impl State {
    fn boot(&self, node: usize) -> BootNs {
        let percent = if node == 1 { 99 } else { 101 };
        BootNs(self.tick * TICK_MS * 10_000 * percent)
    }

    /// The clock of the voters.
    fn voters_now(&self) -> BootNs {
        self.boot(0)
    }

    /// The leader of the newest term.
    fn leader(&self) -> LeaderId {
        LeaderId { term: self.cluster.elections() as u64, node: id(self.cluster.leader) }
    }

    /// The voters vote for a node, and say when their last contact with a leader before it was, as
    /// its clock has it.
    fn vote(&mut self, node: usize) -> Option<BootNs> {
        let leader = LeaderId { term: self.leader().term + 1, node: id(node) };
        let now = self.voters_now();
        self.voters.handle_voted(Voted { leader, is_elected: false }, now);
        let age_ns = now.since(self.voters.last_before(leader)?);
        Some(BootNs(self.boot(node).0.saturating_sub(age_ns)))
    }

    fn serves(&self, node: usize) -> bool {
        self.boot(node) < self.cluster.members[node].holder.until()
            || Mutation::SpendWithoutLease.active()
    }
}

impl Leases {
    fn grant(&self, state: &mut State, node: usize) -> bool {
        let Some(Flight::LeaseRequest { leader, sent, applied }) =
            state.drivers[node].flight.take()
        else {
            return false;
        };
        let (now, known) = (state.boot(leader), state.drivers[leader].known);
        let proven = state.cluster.leader == leader;
        let read = if proven { state.cluster.log.len() } else { known };
        let Some(granter) = &mut state.cluster.members[leader].term else { return false };
        if !proven && self.broken != Some(Broken::NoQuorum) {
            return false;
        }
        if granter.lags(now, id(node), index(applied)) {
            return false;
        }
        let mut grant = granter.grant(now, id(node), index(applied), index(read), 0);
        if self.broken == Some(Broken::NoDriftMargin) {
            grant.holder_ms = TERMS.granter_ms();
        }
        state.drivers[node].flight = Some(Flight::Grant { sent, grant });
        true
    }

    fn step(&self, state: &mut State, action: Action) -> bool {
        let cluster = &state.cluster;
        match action {
            Action::Tick => state.tick += 1,
            Action::RequestLease(node, leader) => {
                let (sent, applied) = (state.boot(node), cluster.members[node].applied);
                state.drivers[node].flight = Some(Flight::LeaseRequest { leader, sent, applied });
                state.drivers[node].requested = Some(state.tick);
                if node == leader && node == state.cluster.leader {
                    // Its proof begins.
                    state.voters.handle_message(state.leader(), state.voters_now());
                }
            }
            Action::Arrive(node) => return self.grant(state, node),
            Action::Take(node) => {
                let now = state.boot(node);
                let Some(Flight::Grant { sent, grant }) = state.drivers[node].flight.take() else {
                    return false;
                };
                let late = self.broken == Some(Broken::LeaseFromAnswer);
                let sent = if late { now } else { sent };
                let member = &mut state.cluster.members[node];
                member.holder.handle_grant(sent, &grant, index(member.applied));
            }
            Action::Write => {
                let leader = cluster.leader;
                state.cluster.log.push(Entry::Write);
                let at = state.cluster.log.len();
                if let Some(granter) = state.cluster.granter() {
                    granter.handle_committed(index(at));
                    state.drivers[leader].known = at;
                }
            }
            Action::Apply(node) => {
                let now = state.boot(node);
                state.cluster.apply(node, now);
            }
            Action::Report(node, leader) => {
                let applied = cluster.members[node].applied;
                if let Some(granter) = &mut state.cluster.members[leader].term {
                    granter.handle_applied(id(node), index(applied));
                }
            }
            Action::Ack(_, at) => state.acked = at,
            Action::Elect(node) => {
                let now = state.boot(node);
                let contact = state.vote(node);
                state.cluster.elect(node, now, contact, TERMS);
                state.elected = state.tick;
                state.drivers[node].known = state.cluster.log.len();
            }
        }
        true
    }

    fn may_ack(state: &State, leader: usize, at: usize) -> bool {
        let (member, now) = (&state.cluster.members[leader], state.boot(leader));
        let reached = at <= state.drivers[leader].known && at <= member.applied;
        let term = member.term.as_ref();
        reached && term.is_some_and(|granter| granter.holders(index(at), now).is_empty())
    }
}

impl Model for Leases {
    type State = ByDebug<State>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        Broken::apply(self.broken);
        let cluster = Cluster::new(self.nodes, TERMS);
        let mut drivers = vec![Driver::default(); self.nodes];
        drivers[cluster.leader].known = cluster.log.len();
        let voters = Contacts::new(NodeId(0), Voted::NONE, BootNs(0));
        vec![ByDebug(State { tick: 0, acked: 0, cluster, drivers, voters, elected: 0 })]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        Broken::apply(self.broken);
        let state = &state.0;
        let cluster = &state.cluster;
        if state.tick < self.ticks {
            actions.push(Action::Tick);
        }
        let writes = cluster.log.iter().filter(|entry| **entry == Entry::Write).count();
        if writes < self.writes {
            actions.push(Action::Write);
        }
        let leaders = || {
            let in_term = |node: &usize| cluster.members[*node].term.is_some();
            (0..cluster.members.len()).filter(in_term).collect::<Vec<_>>()
        };
        for node in 0..self.nodes {
            let member = &cluster.members[node];
            if state.drivers[node].requested != Some(state.tick) {
                // A node that believes it leads requests its lease from itself.
                let own = member.term.is_some();
                let to = leaders().into_iter().filter(|to| !own || *to == node);
                actions.extend(to.map(|to| Action::RequestLease(node, to)));
            }
            match state.drivers[node].flight {
                None => {}
                Some(Flight::LeaseRequest { .. }) => actions.push(Action::Arrive(node)),
                Some(Flight::Grant { .. }) => actions.push(Action::Take(node)),
            }
            if member.applied < cluster.log.len() {
                actions.push(Action::Apply(node));
            }
            for leader in leaders() {
                // Only useful while a write waits for it.
                let awaited = cluster.log[state.acked..].contains(&Entry::Write);
                if leader != node && awaited {
                    actions.push(Action::Report(node, leader));
                }
                for at in state.acked + 1..=cluster.log.len() {
                    let write = cluster.log[at - 1] == Entry::Write;
                    if node == 0 && write && Self::may_ack(state, leader, at) {
                        actions.push(Action::Ack(leader, at));
                    }
                }
            }
            if node != cluster.leader && cluster.elections() < self.elections {
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
            Property::always(
                "acknowledged_means_applied",
                |model: &Self, state: &ByDebug<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    (0..model.nodes).all(|n| {
                        !state.serves(n) || state.cluster.members[n].applied >= state.acked
                    })
                },
            ),
            Property::sometimes(
                "a write is acknowledged while a follower holds a lease",
                |model: &Self, state: &ByDebug<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    state.acked > 1
                        && (0..model.nodes).any(|n| n != state.cluster.leader && state.serves(n))
                },
            ),
            Property::sometimes(
                "a new leader acknowledges at once, without an old one that was cut off before",
                |model: &Self, state: &ByDebug<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    let leader = state.cluster.leader;
                    let others = (0..model.nodes).filter(|node| *node != leader);
                    state.cluster.elections() > 0
                        && state.cluster.log[..state.acked].contains(&Entry::TermStart(leader))
                        && state.tick == state.elected
                        && others.clone().all(|n| state.cluster.members[n].applied < state.acked)
                        && others.clone().any(|n| state.drivers[n].requested.is_some())
                },
            ),
            Property::sometimes(
                "a write is acknowledged without a silent follower",
                |model: &Self, state: &ByDebug<State>| {
                    Broken::apply(model.broken);
                    let state = &state.0;
                    let silent = |n: usize| {
                        state.cluster.members[n].applied < state.acked
                            && state.cluster.members[n].holder.until() > BootNs(0)
                    };
                    state.acked > 1 && (0..model.nodes).any(silent)
                },
            ),
        ]
    }
}
