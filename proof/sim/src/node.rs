//! One node: the engine's machines on a simulated machine, with a small Raft.
//!
//! Answers for: what the driver of a node does with time, messages and requests. Every rule is the
//! engine's ([`Member`], [`Shard`]); here is a pump that carries its effects out on virtual time, as
//! `crates/node` does on real time.

mod answers;
mod consensus;
mod counters;
mod joining;
mod member;
mod stopping;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::member::{self as engine, Member};
use fluxgate_engine::quota::{CHECKPOINT_MS, Charge, Shard, WaiterId};
use fluxgate_engine::state::View;
use fluxgate_types::{BootId, BootNs, ClusterMs, NodeId};

use crate::calls::Calls;
use crate::machine::{Disk, Machine, SavedTime, Threads};
use crate::messages::{CallId, Request, Timer};
use crate::mutation::DriverMutation;
use crate::raft::{Raft, Replica};
use crate::step::Step;
use fluxgate_plan::{MS, Us};

/// A request that is not decided yet, and what it is charged to.
#[derive(Clone, Debug)]
struct Validate {
    request: Request,
    charges: Vec<Charge>,
}

/// A running process.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its incarnation.
    pub boot: BootId,
    /// Its machine's clocks.
    pub machine: Machine,
    /// Its part in consensus, and the replicated state.
    pub replica: Replica,
    /// Its counters.
    pub shard: Shard,
    /// Its part in the cluster.
    pub member: Member,
    saved: SavedTime,
    threads: Threads,
    peers: BTreeMap<NodeId, counters::Peer>,
    calls: Calls,
    // Requests that the member answers later, by its call.
    askers: BTreeMap<engine::CallId, Asker>,
    // Validates that wait for tokens.
    validates: BTreeMap<WaiterId, Validate>,
    ticking: bool,
    // True time for which the member's timer is set.
    member_wake: Us,
    // When the newest request for a lease left.
    lease_asked: Us,
    joining: joining::Joining,
    stop: Option<Box<stopping::Stopping>>,
}

/// The one that asked something of the member.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// A client of this node, by the number of its change.
    Client(u64),
    /// Another node, by its call.
    Node(NodeId, CallId),
}

impl Node {
    /// Starts a process on a disk. The file of an orderly stop is used once.
    pub fn start(id: NodeId, machine: Machine, disk: &mut Disk, step: &mut Step<'_>) -> Self {
        disk.boots += 1;
        let carryover = if step.is(DriverMutation::FileUsedTwice) {
            disk.carryover.clone()
        } else {
            disk.carryover.take()
        };
        let saved = SavedTime::of(disk);
        let nonce = step.rng.draw();
        let member = member::at_start(id, &machine, disk, (carryover, nonce), step);
        let joining = joining::Joining::at_start(id, &machine, disk, nonce, step);
        let mut raft = Raft::new(id, std::mem::take(&mut disk.raft), step.plan.heartbeat);
        raft.driver_mutation = step.is(DriverMutation::AckBeforeSync);
        let mut node = Self {
            id,
            boot: BootId(disk.boots),
            replica: Replica::new(raft, machine.boot(step.now)),
            machine,
            shard: Shard::new(step.plan.waits),
            member,
            saved,
            threads: Threads::default(),
            peers: BTreeMap::new(),
            calls: Calls::default(),
            askers: BTreeMap::new(),
            validates: BTreeMap::new(),
            ticking: false,
            member_wake: 0,
            lease_asked: 0,
            joining,
            stop: None,
        };
        node.note_members(step);
        node.join(step);
        let gossip = step.rng.below(step.plan.gossip);
        step.wake(gossip, Timer::Gossip);
        step.wake(CHECKPOINT_MS * MS, Timer::Save);
        node.act(step, Member::handle_timeout);
        node
    }

    /// What a crash leaves on the disk.
    pub fn crash(self, disk: &mut Disk) {
        disk.raft = self.replica.raft.crash();
        disk.clock = self.saved.crash();
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
        self.threads.steps
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
        let term = self.replica.raft.leads_in();
        term.is_some() && self.member.led_in() == term
    }

    /// The replicated state's small part.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.replica.shared.view()
    }

    /// Saves cluster time.
    fn save_time(&mut self, now: Us) {
        if self.member.clock().is_synced() {
            let has_room = self.machine.has_room(now);
            self.saved.save(self.cluster_now(now), self.boot_now(now), has_room);
        }
    }

    /// Time has come.
    pub fn handle_timer(&mut self, timer: Timer, step: &mut Step<'_>) {
        match timer {
            Timer::Raft if !self.takes_part() => {}
            Timer::Raft => {
                self.consent(step, |raft, step, out| raft.handle_time(step.now, step.rng, out));
            }
            Timer::Synced => self.consent(step, |raft, _, out| raft.synced(out)),
            Timer::Tick => self.tick(step),
            Timer::Gossip => self.send_gossip(step),
            Timer::Member => self.act(step, Member::handle_timeout),
            Timer::Join => self.join(step),
            Timer::Save => {
                self.save_time(step.now);
                step.wake(CHECKPOINT_MS * MS, Timer::Save);
            }
            Timer::Over(call) => {
                if let Some((waiter, outcome)) = self.calls.close(call) {
                    self.handle_outcome(call, waiter, outcome, step);
                }
            }
            Timer::Submit(call) => self.submit_late(call, step),
            Timer::Proven(call, at) => self.proven(call, Some(at), step),
            Timer::Stop => self.stop_timeout(step),
        }
    }
}
