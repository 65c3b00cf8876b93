//! Shares, transfers and incarnations: no token is spent twice, and no request is denied while a
//! token is left.
//!
//! Real: [`Shard`], with everything that it does to a counter. Modelled: the driver around it,
//! which mirrors `crates/node`: headers that name incarnations, and their records. Messages arrive
//! in any order, twice, or never; a node crashes and begins a new incarnation in the same window.

use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, Effect, Entitlement, Incarnation, Incarnations, Peer, Shard,
    Step, SubjectLimits, TransferReply, TransferRequest, Verdict, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject};
use stateright::{Model, Property};

use crate::cluster::id;
use crate::{Broken, ByDebug};

const PERIOD_MS: u64 = 60_000;
const WINDOW: u64 = 10;
const CLOCK_ERROR_MS: u64 = 1_000;

/// The bounds of the search.
#[derive(Clone, Debug)]
pub struct Counters {
    /// The rule that is broken.
    pub broken: Option<Broken>,
    /// Number of nodes.
    pub nodes: usize,
    /// Tokens of the window.
    pub tokens: u64,
    /// Requests, each for one token.
    pub requests: u64,
    /// Crashes.
    pub crashes: u64,
    /// Messages that arrive twice.
    pub repeats: u64,
    /// Times that nodes send each other their reports.
    pub gossips: u64,
    /// Messages in transit at one time.
    pub messages: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MessageHeader {
    boot: BootId,
    to: Option<BootId>,
}

#[derive(Clone, Debug)]
enum Payload {
    TransferRequest(TransferRequest),
    TransferReply(TransferReply),
    Gossip(Vec<CounterGossip>, Vec<(NodeId, BootId)>),
}

#[derive(Clone, Debug)]
struct Message {
    from: usize,
    to: usize,
    header: MessageHeader,
    payload: Payload,
}

#[derive(Clone, Debug)]
struct Member {
    boot: BootId,
    incarnation: Arc<Incarnation>,
    shard: Shard,
}

/// A state of the whole model.
#[derive(Clone, Debug)]
pub struct State {
    members: Vec<Member>,
    /// Sorted by their payload, so that states do not differ by the order of sending alone.
    messages: Vec<Message>,
    requests: u64,
    admitted: u64,
    crashes: u64,
    repeats: u64,
    gossips: u64,
    /// A denial without proof.
    unproven: bool,
    limited: bool,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client sends a request to a node.
    Request(usize),
    /// A message arrives.
    Deliver(usize),
    /// A message arrives, and its copy is still in transit.
    DeliverTwice(usize),
    /// A message is lost.
    Lose(usize),
    /// A node gives up its transfer request.
    GiveUp(usize),
    /// A node sends its reports to the others.
    Gossip(usize),
    /// A node crashes, starts again, and gets its first lease.
    Crash(usize),
}

/// The constants of all states.
struct World {
    key: Subject,
    key_limits: SubjectLimits,
    view: View,
}

impl Counters {
    fn world(&self) -> World {
        let limit = Limit::new("requests", self.tokens, PERIOD_MS);
        let nodes = (0..self.nodes).map(|node| (id(node), 1)).collect();
        World {
            key: KeyId::new(*b"modelmodel01")
                .unwrap_or_else(|_| unreachable!("letters and digits"))
                .into(),
            key_limits: SubjectLimits {
                created: LogIndex(1),
                specs: [LimitSpec::new(limit)].into(),
            },
            view: View {
                share_maps: vec![ShareMap { from: ClusterMs(0), nodes }],
                ..View::default()
            },
        }
    }

    fn member(&self, node: usize, boot: u64, first_lease: Option<FirstLease>) -> Member {
        let mut incarnations = Incarnations::default();
        incarnations.note(id(node), BootId(boot));
        let incarnation = Incarnation {
            me: id(node),
            entitlement: first_lease.is_none().then_some(Entitlement::All),
            first_lease: first_lease.or(Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) })),
            carryover: None,
            reached: ClusterMs(0),
            incarnations_tag: incarnations.tag(),
            incarnations,
            peers: (0..self.nodes).filter(|n| *n != node).map(|n| Peer::new(id(n))).collect(),
            clock_error_ms_max: CLOCK_ERROR_MS,
        };
        Member {
            boot: BootId(boot),
            incarnation: Arc::new(incarnation),
            shard: Shard::new(WaitPolicy::default()),
        }
    }
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).unwrap_or(0)
}

impl World {
    fn counter(&self) -> CounterId {
        CounterId { subject: self.key, limit: self.key_limits.specs[0].tag, window: WINDOW }
    }

    /// Calls a member's shard.
    fn with<T>(
        &self,
        member: &mut Member,
        act: impl FnOnce(&mut Shard, &Context<'_>, &dyn Fn(&Subject) -> Option<SubjectLimits>) -> T,
    ) -> T {
        let context = Context {
            boot: BootNs(1_000_000_000),
            // The window has just begun, by the clocks of the nodes: a leader's clock may be
            // behind.
            now: ClusterMs(WINDOW * PERIOD_MS + 1),
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &member.incarnation,
        };
        act(&mut member.shard, &context, &|_| Some(self.key_limits.clone()))
    }
}

impl State {
    fn header(&self, from: usize, to: usize) -> MessageHeader {
        let incarnation = &self.members[from].incarnation;
        MessageHeader { boot: self.members[from].boot, to: incarnation.incarnations.of(id(to)) }
    }

    fn send(&mut self, from: usize, to: usize, payload: Payload) {
        let header = self.header(from, to);
        self.messages.push(Message { from, to, header, payload });
    }

    fn record_incarnation(&mut self, node: usize, of: NodeId, boot: BootId) {
        let member = &mut self.members[node];
        let known = member.incarnation.incarnations.of(of);
        if known.is_some_and(|known| known >= boot) {
            return;
        }
        let incarnation = Arc::make_mut(&mut member.incarnation);
        incarnation.incarnations.note(of, boot);
        incarnation.incarnations_tag = incarnation.incarnations.tag();
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>, world: &World) {
        for effect in effects {
            match effect {
                Effect::TransferRequest { peer, request } => {
                    self.send(node, place(peer), Payload::TransferRequest(request))
                }
                Effect::Decided { decision, .. } => self.decided(decision.verdict, world),
                Effect::Again { .. } => unreachable!("every request is charged to one subject"),
            }
        }
    }

    fn decided(&mut self, verdict: Verdict, world: &World) {
        match verdict {
            Verdict::Admitted => self.admitted += 1,
            Verdict::Limited => {
                self.limited = true;
                self.unproven |= self.reachable(world) > 0;
            }
            Verdict::Degraded | Verdict::Unavailable => {}
        }
    }

    /// Tokens that nodes hold, and those in transit between running incarnations.
    fn reachable(&self, world: &World) -> u64 {
        let counter = world.counter();
        let mut sum = 0;
        for (node, member) in self.members.iter().enumerate() {
            let mut opened = member.clone();
            let seen = opened.shard.observe(&counter).or_else(|| {
                world.with(&mut opened, |_, context, _| {
                    Shard::would_observe(
                        context,
                        &world.key_limits,
                        &world.key_limits.specs[0],
                        &counter,
                    )
                })
            });
            let Some(seen) = seen else { continue };
            sum += u64::try_from(seen.balance).unwrap_or(0);
            for totals in seen.transfers {
                let heir = &self.members[place(totals.node)];
                if Some(heir.boot) != totals.boot {
                    continue;
                }
                let theirs = heir.shard.observe(&counter);
                let theirs = theirs.and_then(|theirs| theirs.with(id(node), member.boot));
                sum += totals.given.saturating_sub(theirs.map_or(0, |theirs| theirs.got));
            }
        }
        sum
    }

    fn deliver(&mut self, message: &Message, world: &World) {
        let Message { from, to, header, payload } = message;
        let (from, to) = (*from, *to);
        self.record_incarnation(to, id(from), header.boot);
        let incarnation = &self.members[to].incarnation;
        let Some(sender) = incarnation.accepted(id(from), header.boot, header.to) else { return };
        let mut effects = Vec::new();
        let member = &mut self.members[to];
        match payload {
            Payload::TransferRequest(request) => {
                let reply = world.with(member, |shard, context, find| {
                    shard.handle_transfer_request(context, find, &sender, request, &mut effects)
                });
                self.carry_out(to, effects, world);
                self.send(to, from, Payload::TransferReply(reply));
            }
            Payload::TransferReply(reply) => {
                world.with(member, |shard, context, find| {
                    shard.handle_transfer_reply(context, find, &sender, reply, &mut effects)
                });
                self.carry_out(to, effects, world);
            }
            Payload::Gossip(gossip, incarnations) => {
                world.with(member, |shard, context, find| {
                    for one in gossip {
                        shard.handle_gossip(context, find, &sender, one, &mut effects);
                    }
                });
                self.carry_out(to, effects, world);
                for (node, boot) in incarnations.iter().filter(|(node, _)| *node != id(to)) {
                    self.record_incarnation(to, *node, *boot);
                }
            }
        }
    }

    /// A canonical order of the messages, independent of the order of sending.
    fn sort(&mut self) {
        self.messages.sort_by_cached_key(|message| format!("{message:?}"));
    }
}

impl Counters {
    fn step(&self, state: &mut State, action: Action) {
        let world = self.world();
        match action {
            Action::Request(node) => {
                let (number, mut effects) = (state.requests, Vec::new());
                state.requests += 1;
                let step = world.with(&mut state.members[node], |shard, context, _| {
                    let (key, limits) = (&world.key, &world.key_limits);
                    shard.handle_request(
                        context,
                        key,
                        limits,
                        Cost::ONE,
                        WaiterId(number),
                        &mut effects,
                    )
                });
                if let Step::Decided(decision) = step {
                    state.decided(decision.verdict, &world);
                }
                state.carry_out(node, effects, &world);
            }
            Action::Deliver(at) => {
                let message = state.messages.remove(at);
                state.deliver(&message, &world);
            }
            Action::DeliverTwice(at) => {
                state.repeats += 1;
                let message = state.messages[at].clone();
                state.deliver(&message, &world);
            }
            Action::Lose(at) => drop(state.messages.remove(at)),
            Action::GiveUp(node) => {
                let (counter, mut effects) = (world.counter(), Vec::new());
                for peer in (0..self.nodes).filter(|peer| *peer != node) {
                    world.with(&mut state.members[node], |shard, context, find| {
                        shard.handle_transfer_failed(
                            context,
                            find,
                            id(peer),
                            &counter,
                            &mut effects,
                        );
                    });
                }
                state.carry_out(node, effects, &world);
            }
            Action::Gossip(node) => {
                state.gossips += 1;
                let member = &mut state.members[node];
                let gossip =
                    world.with(member, |shard, context, _| shard.take_gossip(context, 100));
                let incarnations = member.incarnation.incarnations.all();
                for peer in (0..self.nodes).filter(|peer| *peer != node) {
                    state.send(node, peer, Payload::Gossip(gossip.clone(), incarnations.clone()));
                }
            }
            Action::Crash(node) => {
                state.crashes += 1;
                let boot = state.members[node].boot.0 + 1;
                // By the leader's clock, which is behind, the window has not begun.
                let at = ClusterMs(WINDOW * PERIOD_MS - CLOCK_ERROR_MS / 2);
                let first = FirstLease { at, index: LogIndex(5) };
                state.members[node] = self.member(node, boot, Some(first));
            }
        }
        state.sort();
    }
}

impl Model for Counters {
    type State = ByDebug<State>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        Broken::apply(self.broken);
        vec![ByDebug(State {
            members: (0..self.nodes).map(|node| self.member(node, 1, None)).collect(),
            messages: Vec::new(),
            requests: 0,
            admitted: 0,
            crashes: 0,
            repeats: 0,
            gossips: 0,
            unproven: false,
            limited: false,
        })]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        Broken::apply(self.broken);
        let state = &state.0;
        for node in 0..self.nodes {
            if state.requests < self.requests {
                actions.push(Action::Request(node));
            }
            if state.gossips < self.gossips {
                actions.push(Action::Gossip(node));
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(node));
            }
            // A node gives a transfer request up only when none of its messages is in transit.
            let is_transfer = |message: &Message| {
                message.from == node && matches!(message.payload, Payload::TransferRequest(_))
                    || message.to == node && matches!(message.payload, Payload::TransferReply(_))
            };
            if state.members[node].shard.has_waiting() && !state.messages.iter().any(is_transfer) {
                actions.push(Action::GiveUp(node));
            }
        }
        for at in 0..state.messages.len() {
            actions.push(Action::Deliver(at));
            actions.push(Action::Lose(at));
            if state.repeats < self.repeats {
                actions.push(Action::DeliverTwice(at));
            }
        }
    }

    fn next_state(&self, state: &Self::State, action: Self::Action) -> Option<Self::State> {
        Broken::apply(self.broken);
        let mut next = state.clone();
        self.step(&mut next.0, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never_over_admits", |model: &Self, state: &ByDebug<State>| {
                state.0.admitted <= model.tokens
            }),
            Property::always("tokens_are_conserved", |model: &Self, state: &ByDebug<State>| {
                Broken::apply(model.broken);
                state.0.admitted + state.0.reachable(&model.world()) <= model.tokens
            }),
            Property::always("denials_are_proven", |_: &Self, state: &ByDebug<State>| {
                !state.0.unproven
            }),
            Property::sometimes("all tokens are spent", |model: &Self, state: &ByDebug<State>| {
                state.0.admitted == model.tokens
            }),
            Property::sometimes("a denial is proven", |_: &Self, state: &ByDebug<State>| {
                state.0.limited
            }),
        ]
    }

    fn within_boundary(&self, state: &Self::State) -> bool {
        state.0.messages.len() <= self.messages
    }
}
