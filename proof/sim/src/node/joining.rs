//! Who may take part: carries out what the engine's machine for it asks for.

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::join::{
    Effect, Heard, Introduction, Join, MadeStarts, Settings, Situation, Times, registered,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, DirId, NodeId};

use super::Node;
use crate::calls::Waiter;
use crate::machine::{Disk, Machine};
use crate::messages::{Call, Ended, Seen, Timer};
use crate::step::Step;

/// A directory that has not joined yet, or that has: then no machine is left.
pub(super) struct Joining {
    machine: Option<Join>,
    // The process answers calls of consensus.
    pub(super) takes_part: bool,
    pub(super) dir_id: DirId,
    pub(super) nonce: u64,
    pub(super) starts: MadeStarts,
}

impl Joining {
    /// A process that has asked no node.
    pub(super) fn at_start(
        me: NodeId,
        machine: &Machine,
        disk: &Disk,
        nonce: u64,
        step: &Step<'_>,
    ) -> Self {
        let (dir_id, starts) = (disk.dir_id, disk.starts.clone());
        let settings = Settings {
            me,
            dir_id,
            members: (1..=step.plan.nodes).map(NodeId).collect(),
            clock_error_ms_max: step.plan.terms.clock_error_ms_max,
        };
        let machine = Some(Join::new(settings, machine.boot(step.now)));
        Self { machine, takes_part: false, dir_id, nonce, starts }
    }
}

impl Node {
    /// Whether this process answers calls of consensus.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.joining.takes_part
    }

    pub(super) fn start_id(&self) -> StartId {
        StartId { boot: self.boot, nonce: self.joining.nonce }
    }

    fn times(&mut self, step: &mut Step<'_>) -> Times {
        let clocks = self.act(step, |member, at| member.own_clocks(at));
        Times {
            synced_ns: clocks.synced_ns,
            stamp_ns: clocks.stamp_ns,
            carried_ns: clocks.carried_ns,
            wall_ns: clocks.wall_ns,
            plausible: clocks.plausible,
        }
    }

    fn situation(&mut self, step: &mut Step<'_>) -> Situation {
        let times = self.times(step);
        let members = self.replica.raft.members();
        let votes = |node| members.voters.contains(&node);
        Situation {
            formed: self.replica.raft.is_formed(),
            takes_part: self.joining.takes_part,
            members: members.all().map(|node| (node, votes(node))).collect(),
            start_id: self.start_id(),
            times,
        }
    }

    /// Continues to join, if this process has not joined.
    pub(super) fn join(&mut self, step: &mut Step<'_>) {
        let now = self.boot_now(step.now);
        while let Some(mut machine) = self.joining.machine.take() {
            let situation = self.situation(step);
            let effect = machine.poll_effect(now, &situation);
            let due = machine.poll_timeout();
            self.joining.machine = Some(machine);
            match effect {
                Some(Effect::Introduce { nodes, timeout_ms }) => {
                    self.ask_introductions(&nodes, timeout_ms, step);
                }
                // A simulated process has no second address.
                Some(Effect::LookForCopy { .. }) => {
                    let own = self.start_id();
                    self.with_join(|machine| machine.handle_own_addresses(own, &[]));
                }
                Some(Effect::CountOn(boot)) => self.count_on_from(boot, step),
                Some(Effect::Form) => {
                    let voters = (1..=step.plan.nodes).map(NodeId).collect();
                    self.consent(step, |raft, _, out| raft.form(voters, out));
                }
                Some(Effect::TakePart) => {
                    self.joining.takes_part = true;
                    step.see(Seen::TookPart);
                    self.replica.raft.begin(step.now, step.rng);
                    self.watch_raft(step);
                }
                Some(Effect::AskForLease) => self.act(step, |m, at| m.renew_now(at)),
                Some(Effect::NoteClocks(_) | Effect::Report(_)) => {}
                Some(Effect::End(error)) => {
                    self.joining.machine = None;
                    step.see(Seen::Ended(Ended::NotJoined(error)));
                }
                Some(Effect::Done) => self.joining.machine = None,
                None => {
                    if let Some(due) = due {
                        let at = self.machine.when(due, step.now);
                        step.wake_at(at, Timer::Join);
                    }
                    return;
                }
            }
        }
    }

    fn with_join(&mut self, act: impl FnOnce(&mut Join)) {
        if let Some(machine) = &mut self.joining.machine {
            act(machine);
        }
    }

    /// An earlier directory ran under this node: the starts of this one are counted above its own.
    pub(super) fn count_on_from(&mut self, boot: BootId, step: &mut Step<'_>) {
        if self.machine.has_room(step.now) {
            self.boot = boot;
            self.act(step, |member, _| member.handle_counted_on(boot));
        }
    }

    fn ask_introductions(&mut self, nodes: &BTreeSet<NodeId>, ms: u64, step: &mut Step<'_>) {
        if nodes.is_empty() {
            return self.handle_introductions(&BTreeMap::new(), step);
        }
        let nodes: Vec<NodeId> = nodes.iter().copied().collect();
        let waiter = Waiter::Introductions(self.boot_now(step.now), BTreeMap::new());
        self.call(&nodes, ms, waiter, Some(Call::Introduce), step);
    }

    /// Every node has answered, or has had the time.
    pub(super) fn handle_introductions(
        &mut self,
        heard: &BTreeMap<NodeId, Heard>,
        step: &mut Step<'_>,
    ) {
        let (now, situation) = (self.boot_now(step.now), self.situation(step));
        let (own, starts) = (self.start_id(), self.joining.starts.clone());
        let made = |newest: StartId| newest == own || starts.made(newest);
        self.with_join(|machine| machine.handle_introductions(now, &situation, made, heard));
        self.join(step);
    }

    /// What this node says to one that it may not know.
    pub(super) fn introduction(&mut self, step: &mut Step<'_>) -> Introduction {
        let time = self.times(step);
        let (view, cluster) = (self.replica.shared.view(), self.replica.shared.cluster());
        let tail = (self.replica.applied + 1..=self.replica.raft.last())
            .filter_map(|index| self.replica.raft.entry(index));
        let tail = tail.filter_map(|entry| entry.batch.as_ref()).flat_map(|batch| &batch.proposals);
        let tail = tail.filter_map(|proposal| proposal.command.registers());
        let (directories, start_ids) = registered(&view, &cluster, tail);
        Introduction {
            node: self.id,
            dir_id: self.joining.dir_id,
            start_id: self.start_id(),
            formed: self.replica.raft.has_history(),
            directories,
            start_ids,
            heard: self.member.incarnation().incarnations.all(),
            time,
        }
    }
}
