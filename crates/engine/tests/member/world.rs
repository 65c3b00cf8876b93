//! A member of three nodes, and surroundings that a test sets by hand.

use std::sync::Arc;

use fluxgate_engine::clock::sync::ClockAnswer;
use fluxgate_engine::clock::{ClockReading, ClusterClock};
use fluxgate_engine::lease::{Grant, LeaderId, LeaseTerms};
use fluxgate_engine::member::{
    CallId, ClocksHeard, ClusterMember, Effect, LeaseAnswer, LeaseRequest, Member, OwnHealth,
    PeerReport, SeenLeadership, Settings, Step, SubmitError, Submitted, Surroundings, Written,
};
use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::state::cluster_state::{LEVEL, StartId};
use fluxgate_engine::state::command::{Actor, Batch, Command, Outcome, Proposal};
use fluxgate_engine::state::{Registry, Shared};
use fluxgate_types::{BootId, BootNs, ClusterMs, DirId, LogIndex, NodeId};

/// The member under test.
pub(crate) const ME: NodeId = NodeId(1);
/// Another voter.
pub(crate) const PEER: NodeId = NodeId(2);
/// The third voter.
pub(crate) const THIRD: NodeId = NodeId(3);
/// The terms of all tests.
pub(crate) const TERMS: LeaseTerms = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 1_000 };
/// The start of the member.
pub(crate) const START: StartId = StartId { boot: BootId(1), nonce: 77 };

/// The node around the member.
pub(crate) struct Around {
    pub(crate) leader: Option<NodeId>,
    pub(crate) leads_in: Option<u64>,
    pub(crate) applied: u64,
    pub(crate) leaderships: (Option<SeenLeadership>, Option<SeenLeadership>),
    pub(crate) own: OwnHealth,
    /// This node's last contact with a leader before it.
    pub(crate) contact: Option<BootNs>,
    /// The voters by which it was elected.
    pub(crate) electorate: Vec<Vec<NodeId>>,
    shared: Arc<Shared>,
}

impl Surroundings for Around {
    fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    fn leads_in(&self) -> Option<u64> {
        self.leads_in
    }

    fn applied(&self) -> LogIndex {
        LogIndex(self.applied)
    }

    fn leaderships(&self) -> (Option<SeenLeadership>, Option<SeenLeadership>) {
        self.leaderships
    }

    fn electorate(&self, _: u64) -> Vec<Vec<NodeId>> {
        self.electorate.clone()
    }

    fn last_contact(&self, before: LeaderId) -> Option<BootNs> {
        assert_eq!(Some(before.term), self.leads_in);
        self.contact
    }

    fn members(&self) -> Vec<ClusterMember> {
        let member = |node| ClusterMember { node, votes: true, matched: LogIndex(0) };
        [ME, PEER, THIRD].map(member).to_vec()
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn peer(&self, _: NodeId) -> Option<PeerReport> {
        Some(PeerReport {
            is_recent: true,
            is_ready: true,
            can_write: Some(true),
            level: LEVEL,
            wall_offset_ns: 0,
        })
    }

    fn own(&self) -> OwnHealth {
        self.own
    }
}

/// The member, its surroundings and its clocks.
pub(crate) struct World {
    pub(crate) member: Member,
    pub(crate) around: Around,
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
    /// How long ago the third node had contact with a leader before this one, as it says.
    pub(crate) contact_of_third_ns: Option<u64>,
    registry: Registry,
}

impl World {
    /// A member that has just started; node 2 leads.
    pub(crate) fn new() -> Self {
        Self::at_level(LEVEL)
    }

    pub(crate) fn at_level(level: u32) -> Self {
        let registry = Registry::at_level(level);
        let own = OwnHealth {
            has_joined: true,
            lacks_entries: false,
            can_write: true,
            differs: false,
            is_stopping: false,
            is_changing_members: false,
            wall_is_plausible: true,
        };
        let around = Around {
            leader: Some(PEER),
            leads_in: None,
            applied: 0,
            leaderships: (None, None),
            own,
            contact: None,
            electorate: vec![vec![ME, PEER, THIRD]],
            shared: registry.shared(),
        };
        let incarnation = Incarnation::at_start(
            ME,
            START.boot,
            None,
            None,
            &[PEER, THIRD],
            TERMS.clock_error_ms_max,
        );
        let settings = Settings {
            terms: TERMS,
            default_limits: Vec::new(),
            seed: None,
            look_ms: 200,
            clock_carried: false,
        };
        let boot_ms = 10_000;
        let clock = ClusterClock::new(BootNs(0).plus_ms(boot_ms), ClusterMs(boot_ms));
        let member = Member::new(START, DirId(1), settings, clock, incarnation);
        let (wall_ms, contact_of_third_ns) = (boot_ms, None);
        Self { member, around, boot_ms, wall_ms, contact_of_third_ns, registry }
    }

    /// A leader in term 1 with a lease of its own; what it lacks is not committed.
    pub(crate) fn leading() -> Self {
        Self::leading_at(LEVEL)
    }

    /// The same in a cluster of this level.
    pub(crate) fn leading_at(level: u32) -> Self {
        let mut world = Self::at_level(level);
        world.register(ME, START);
        world.lead(1);
        world.renew();
        world
    }

    /// A leader renews its own lease.
    pub(crate) fn renew(&mut self) {
        let effects = self.timeout();
        self.serve(effects);
        assert!(self.is_leased(), "its own lease");
    }

    /// Answers what a leader asks for on the way to its own lease, as if all went well.
    fn serve(&mut self, mut effects: Vec<Effect>) {
        while let Some(effect) = effects.pop() {
            let read = Some(LogIndex(self.around.applied));
            let contact = self.contact_of_third_ns;
            effects.extend(self.act(|member, at| {
                if let Effect::SaveStart { start, registered } = effect {
                    member.handle_start_saved(start, registered, true, at);
                } else if let Effect::AskClocks { call, nodes, .. } = effect {
                    let (own, mut heard) = (member.own_clocks(at), ClocksHeard::default());
                    for node in nodes {
                        let contact = contact.filter(|_| node == THIRD);
                        heard.add(ClockAnswer { node, ..own }, contact, at.now());
                    }
                    member.handle_clocks(call, &heard, at);
                } else if let Effect::ProveLeadership { call } = effect {
                    member.handle_proof(call, read, at);
                }
            }));
        }
    }

    /// This node leads in a term whose first entry is applied.
    pub(crate) fn lead(&mut self, term: u64) {
        self.around.leader = Some(ME);
        self.around.leads_in = Some(term);
        let since = BootNs(0).plus_ms(self.boot_ms);
        let seen = SeenLeadership { term, node: ME, since };
        self.around.leaderships = (Some(seen), self.around.leaderships.0);
    }

    /// An entry with this command is applied.
    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.around.applied += 1;
        let index = self.around.applied;
        let proposal = proposal(u128::from(index), command);
        let batch = Batch { at: ClusterMs(self.boot_ms), proposals: vec![proposal] };
        self.registry.apply(1, LogIndex(index), &batch).outcomes.remove(0)
    }

    /// A start is registered.
    pub(crate) fn register(&mut self, node: NodeId, start_id: StartId) {
        let dir_id = DirId(node.0);
        let done = self.apply(Command::RegisterStart { node, dir_id, start_id });
        assert_eq!(done, Outcome::Done);
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.boot_ms += ms;
        self.wall_ms += ms;
    }

    pub(crate) fn step<R>(
        &mut self,
        step: impl FnOnce(&mut Member, &mut Step<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let mut out = Vec::new();
        let reading = ClockReading {
            boot: BootNs(0).plus_ms(self.boot_ms),
            wall_ns: self.wall_ms * 1_000_000,
            apart_ns: 0,
        };
        let result =
            step(&mut self.member, &mut Step { reading, around: &self.around, out: &mut out });
        (result, out)
    }

    pub(crate) fn act(&mut self, step: impl FnOnce(&mut Member, &mut Step<'_>)) -> Vec<Effect> {
        self.step(step).1
    }

    pub(crate) fn timeout(&mut self) -> Vec<Effect> {
        self.act(Member::handle_timeout)
    }

    pub(crate) fn is_leased(&self) -> bool {
        BootNs(0).plus_ms(self.boot_ms) < self.member.holder().until()
    }

    /// The member saves its start and requests a lease: its call, and whom it asks.
    pub(crate) fn request(&mut self) -> (CallId, NodeId) {
        let mut effects = self.timeout();
        if let [Effect::SaveStart { start, registered: false }] = effects[..] {
            effects = self.act(|member, at| member.handle_start_saved(start, false, true, at));
        }
        requested(&effects).expect("a request")
    }

    /// Another node requests a lease of this one, under a number of the test's own.
    pub(crate) fn lease_request(
        &mut self,
        from: NodeId,
        start: StartId,
        call: CallId,
    ) -> Vec<Effect> {
        let applied = LogIndex(self.around.applied);
        let dir_id = DirId(from.0);
        let request = LeaseRequest { start, dir_id, applied };
        self.act(|member, step| member.handle_lease_request(from, request, call, step))
    }

    /// A client asks for a change.
    pub(crate) fn write(&mut self, may_forward: bool) -> (CallId, Vec<Effect>) {
        self.write_command(Command::SetLevel { level: 1 }, may_forward)
    }

    /// A client asks for this change.
    pub(crate) fn write_command(
        &mut self,
        command: Command,
        may_forward: bool,
    ) -> (CallId, Vec<Effect>) {
        let proposal = proposal(9_000, command);
        self.step(|member, step| {
            let write = member.next_call();
            member.handle_write(write, proposal, 10_000, may_forward, step);
            write
        })
    }
}

fn proposal(request: u128, command: Command) -> Proposal {
    Proposal { request, actor: Actor::System, presented: None, from: None, command }
}

/// A grant of the leader, which has applied up to `index`.
pub(crate) fn grant(index: u64, cluster_ms: u64) -> LeaseAnswer {
    LeaseAnswer::Granted(Grant {
        index: LogIndex(index),
        holder_ms: TERMS.holder_ms(),
        cluster_ns: cluster_ms * 1_000_000,
        horizon: ClusterMs(cluster_ms + TERMS.horizon_ms()),
    })
}

/// The call of the first effect of a kind.
#[track_caller]
pub(crate) fn call_of(effects: &[Effect], of: impl Fn(&Effect) -> Option<CallId>) -> CallId {
    effects.iter().find_map(of).unwrap_or_else(|| panic!("no such effect in {effects:?}"))
}

pub(crate) fn requested(effects: &[Effect]) -> Option<(CallId, NodeId)> {
    effects.iter().find_map(|effect| {
        if let Effect::RequestLease { call, to, .. } = effect { Some((*call, *to)) } else { None }
    })
}

pub(crate) fn proving(effects: &[Effect]) -> Option<CallId> {
    effects.iter().find_map(|effect| {
        if let Effect::ProveLeadership { call } = effect { Some(*call) } else { None }
    })
}

pub(crate) fn answered(effects: &[Effect], request: CallId) -> Option<LeaseAnswer> {
    effects.iter().find_map(|effect| {
        let Effect::AnswerLease { request: of, answer } = effect else { return None };
        (*of == request).then(|| answer.clone())
    })
}

pub(crate) fn submitted(effects: &[Effect]) -> Option<CallId> {
    effects.iter().find_map(|effect| {
        if let Effect::Submit { call, .. } = effect { Some(*call) } else { None }
    })
}

pub(crate) fn forwarded(effects: &[Effect]) -> Option<(CallId, NodeId)> {
    effects.iter().find_map(|effect| {
        if let Effect::Forward { call, to, .. } = effect { Some((*call, *to)) } else { None }
    })
}

pub(crate) fn ended(effects: &[Effect], write: CallId) -> Option<Result<Written, SubmitError>> {
    effects.iter().find_map(|effect| {
        let Effect::AnswerWrite { write: of, result } = effect else { return None };
        (*of == write).then(|| result.clone())
    })
}

pub(crate) fn committed(term: u64, index: u64) -> Result<Submitted, SubmitError> {
    Ok(Submitted { term, index: LogIndex(index), outcome: Outcome::Done })
}
