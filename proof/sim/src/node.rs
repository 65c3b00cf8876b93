//! One node: the engine's machines and a small Raft on a simulated machine.
//!
//! Answers for: what the driver of a node does with time, messages and requests. Every rule is the
//! engine's ([`Member`], [`Shard`]); here is a pump that carries its effects out on virtual time, as
//! `crates/node` does on real time.

mod around;
mod calls;
mod consensus;
mod context;
mod counting;
mod joining;
mod machine;
mod pump;
mod requests;
mod step;
mod stopping;
mod torn;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::member::{self, Member, SeenLeadership};
use fluxgate_engine::quota::{CHECKPOINT_MS, Outbox, Shard, WaiterId, covered_by};
use fluxgate_engine::state::command::Proposal;
use fluxgate_engine::state::{Registry, Shared, View};
use fluxgate_types::{BootId, BootNs, ClusterMs, LogIndex, NodeId};

use crate::messages::{CallId, PeerSaid, Request, Timer};
use crate::mutation::DriverMutation;
use crate::raft::Raft;
use fluxgate_plan::{MS, Us};

use calls::Call;
use consensus::ProposalWaiter;
use requests::WriteWaiter;
use torn::Torn;

pub use machine::{Disk, EPOCH_MS, Machine};
pub use step::{Action, Step};

/// A running process.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its incarnation.
    pub boot: BootId,
    /// Its machine's clocks.
    pub machine: Machine,
    /// Its part in consensus.
    pub raft: Raft,
    /// The replicated state.
    pub registry: Registry,
    /// The part of it that others read.
    pub shared: Arc<Shared>,
    /// Entries applied.
    pub applied: usize,
    /// Its counters.
    pub shard: Shard,
    /// Its part in the cluster.
    pub member: Member,
    // Cluster time as the disk has it.
    noted: Option<(ClusterMs, BootNs)>,
    // The end of what that covers.
    covered: ClusterMs,
    leaderships: (Option<SeenLeadership>, Option<SeenLeadership>),
    outboxes: BTreeMap<NodeId, Outbox>,
    // The call to each peer whose transfer requests are in flight.
    asking: BTreeMap<NodeId, CallId>,
    peers: BTreeMap<NodeId, PeerSaid>,
    gossip: BTreeMap<NodeId, counting::Gossip>,
    torn: Torn,
    waiting: BTreeMap<WaiterId, Request>,
    ticking: bool,
    raft_wake: Us,
    // The place of the entry that set the members that this node knows.
    members_at: usize,
    // The leader when the member last looked.
    led_by: Option<NodeId>,
    // True time for which the member's timer is set.
    member_wake: Us,
    // When the newest request for a lease left.
    lease_asked: Us,
    // Calls to other nodes, by their number on the network.
    calls: BTreeMap<CallId, Call>,
    // Requests of other nodes that the member answers later, by its call.
    lease_requests: BTreeMap<member::CallId, (NodeId, CallId)>,
    writes: BTreeMap<member::CallId, WriteWaiter>,
    proposals: Vec<(usize, u64, ProposalWaiter)>,
    // Changes whose thread is held up before it proposes them, by the call.
    held_up: BTreeMap<member::CallId, Proposal>,
    applied_waits: Vec<(NodeId, CallId, LogIndex)>,
    joining: joining::Joining,
    stop: Option<Box<stopping::Stopping>>,
}

impl Node {
    /// Starts a process on a disk. The file of an orderly stop is used once.
    pub fn start(id: NodeId, machine: Machine, disk: &mut Disk, step: &mut Step<'_>) -> Self {
        disk.boots += 1;
        let boot = BootId(disk.boots);
        let carryover = if step.is(DriverMutation::FileUsedTwice) {
            disk.carryover.clone()
        } else {
            disk.carryover.take()
        };
        let noted = disk.clock;
        let nonce = step.rng.draw();
        let member = machine::new_member(id, &machine, disk, (carryover, nonce), step);
        let now = machine.boot(step.now);
        let starts = disk.starts.clone();
        let joining = joining::Joining::new(id, now, (disk.dir_id, nonce), starts, step);
        let registry = Registry::default();
        let mut raft = Raft::new(id, std::mem::take(&mut disk.raft), step.plan.heartbeat);
        raft.driver_mutation = step.is(DriverMutation::AckBeforeSync);
        let mut node = Self {
            id,
            boot,
            machine,
            raft,
            shared: registry.shared(),
            registry,
            applied: 0,
            shard: Shard::new(step.plan.waits),
            member,
            noted,
            covered: covered_by(noted.map(|(at, _)| at)),
            leaderships: (None, None),
            outboxes: BTreeMap::new(),
            asking: BTreeMap::new(),
            peers: BTreeMap::new(),
            gossip: BTreeMap::new(),
            torn: Torn::default(),
            waiting: BTreeMap::new(),
            ticking: false,
            raft_wake: 0,
            members_at: 0,
            led_by: None,
            member_wake: 0,
            lease_asked: 0,
            calls: BTreeMap::new(),
            lease_requests: BTreeMap::new(),
            writes: BTreeMap::new(),
            proposals: Vec::new(),
            held_up: BTreeMap::new(),
            applied_waits: Vec::new(),
            joining,
            stop: None,
        };
        node.note_members(step);
        node.join(step);
        let gossip = step.rng.below(step.plan.gossip);
        step.wake(gossip, Timer::Gossip);
        step.wake(CHECKPOINT_MS * MS, Timer::Note);
        node.member_timeout(step);
        node
    }

    /// What a crash leaves on the disk.
    pub fn crash(self, disk: &mut Disk) {
        disk.raft = self.raft.crash();
        disk.clock = self.noted;
        disk.boots = self.boot.0;
        disk.starts = self.joining.starts;
    }

    /// The boot clock.
    #[must_use]
    pub fn boot_now(&self, now: Us) -> BootNs {
        self.machine.boot(now)
    }

    /// Cluster time.
    #[must_use]
    pub fn cluster_now(&self, now: Us) -> ClusterMs {
        self.member.clock().now(self.boot_now(now))
    }

    /// Steps that came with a part of their context from a while ago.
    #[must_use]
    pub fn torn_steps(&self) -> u64 {
        self.torn.steps
    }

    /// Whether it would answer validates.
    #[must_use]
    pub fn is_leased(&self, now: Us) -> bool {
        self.boot_now(now) < self.member.holder().until()
            && self.stop.as_ref().is_none_or(|stop| !stop.has_drained)
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether it leads and has taken the leadership over.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.raft.leads_in().is_some() && self.member.led_in() == self.raft.leads_in()
    }

    /// The replicated state's small part.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    /// Saves cluster time; if the disk has no room, windows are opened without that.
    fn checkpoint(&mut self, now: Us) {
        if !self.member.clock().is_synced() {
            return;
        }
        self.covered = ClusterMs(u64::MAX);
        if self.machine.has_room(now) {
            let at = self.cluster_now(now);
            self.noted = Some((at, self.boot_now(now)));
            self.covered = covered_by(Some(at));
        }
    }

    /// Saves cluster time if it has leapt ahead since, or was set for the first time.
    pub(super) fn checkpoint_if_due(&mut self, now: Us) {
        let saved = self.noted.map_or(ClusterMs(0), |(at, _)| at);
        if self.cluster_now(now) >= saved + CHECKPOINT_MS {
            self.checkpoint(now);
        }
    }

    /// Time has come.
    pub fn handle_timer(&mut self, timer: Timer, step: &mut Step<'_>) {
        let mut out = Vec::new();
        match timer {
            Timer::Raft if !self.takes_part() => {}
            Timer::Raft => {
                self.raft.handle_time(step.now, step.rng, &mut out);
                self.consent(out, step);
            }
            Timer::Synced => {
                self.raft.synced(&mut out);
                self.consent(out, step);
            }
            Timer::Tick => self.tick(step),
            Timer::Gossip => self.send_gossip(step),
            Timer::Member => self.member_timeout(step),
            Timer::Join => self.join(step),
            Timer::Note => {
                self.checkpoint(step.now);
                step.wake(CHECKPOINT_MS * MS, Timer::Note);
            }
            Timer::Over(call) => self.call_failed(call, None, step),
            Timer::Submit(call) => self.submit_held_up(call, step),
            Timer::Proven(call, at) => self.proven(call, Some(at), step),
            Timer::Stop => self.stop_timeout(step),
        }
    }
}
