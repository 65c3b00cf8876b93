//! An operator: one node at a time loses its disk, gets an older copy of its directory back, or is
//! replaced.

use fluxgate_engine::state::command::{Actor, Command, Proposal};
use fluxgate_types::{DirId, NodeId};

use super::host::Directory;
use super::{Event, World};
use crate::invariants::Violation;
use crate::machine::Disk;
use crate::node::Node;
use crate::raft::Members;
use fluxgate_plan::{MS, SECOND, Us};

/// How often the operator looks.
const LOOK: Us = 500 * MS;
/// How often an older directory is started before the right one is put back.
const TRIES: u32 = 3;

/// What the operator does, and how far that is.
#[derive(Debug)]
enum Stage {
    /// The process ends, and its directory is copied.
    Copying,
    /// The node runs on; later it gets the copy.
    RunningOn(Disk),
    /// It has the copy; the right directory is kept.
    PutBack { right: Disk, tries: u32 },
    /// Its disk is empty, and it is started again as if nothing had happened.
    Lost,
    /// It is to be removed; its disk may be empty already.
    Removing { is_empty: bool },
    /// It is removed, and a new directory is to be added.
    Adding,
}

/// A work on one node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// It gets an older copy of its directory back for a while.
    PutBack,
    /// Its disk is lost, it starts on an empty one, and is replaced then.
    ReplaceLost,
    /// It is replaced although it is healthy.
    Replace,
}

/// The operator, who works on one node at a time.
#[derive(Debug)]
pub(super) struct Operator {
    work: Option<(NodeId, Stage)>,
    // The write that has no answer yet, and when it ends by itself. An operator waits for the answer:
    // a second removal could be applied after the new directory was added.
    asked: Option<(u64, Us)>,
    // Directories so far: each has a number.
    directories: u64,
}

impl Operator {
    pub(super) fn new(nodes: u64) -> Self {
        Self { work: None, asked: None, directories: nodes }
    }

    /// A write has an answer.
    pub(super) fn answered(&mut self, write: u64) {
        self.asked.take_if(|(asked, _)| *asked == write);
    }

    /// How far the work on this node is, if there is any.
    fn stage_of(&mut self, id: NodeId) -> Option<&mut Stage> {
        self.work.as_mut().filter(|(node, _)| *node == id).map(|(_, stage)| stage)
    }
}

impl World {
    /// Begins a work on this node, if the operator is free and the node is a full member.
    pub(super) fn begin_work(&mut self, work: Work, id: NodeId) -> Result<(), Violation> {
        if self.operator.work.is_some() || !self.is_registered_above(id, 0) {
            return Ok(());
        }
        self.schedule(self.now + LOOK, Event::Operator);
        self.note_work();
        let stage = match work {
            Work::PutBack => Stage::Copying,
            Work::ReplaceLost => Stage::Lost,
            Work::Replace => Stage::Removing { is_empty: false },
        };
        self.operator.work = Some((id, stage));
        match work {
            Work::PutBack if self.rng.permille(500) => return self.begin_stop(id),
            Work::PutBack => self.crash(id, MS),
            Work::ReplaceLost => {
                let down = self.rng.span(SECOND).max(MS);
                self.crash(id, down);
                self.empty_disk(id, Directory::Older);
            }
            Work::Replace => {}
        }
        Ok(())
    }

    /// Nothing is calm while the operator works.
    fn note_work(&mut self) {
        let (now, settle) = (self.now, self.settle_time());
        self.book.disturb(now, now + 2 * LOOK, settle);
    }

    fn empty_disk(&mut self, id: NodeId, directory: Directory) {
        self.operator.directories += 1;
        let dir_id = DirId(self.operator.directories);
        let slot = self.slot(id);
        (slot.disk, slot.directory) = (Disk::new(dir_id), directory);
    }

    /// A process of this node has ended, and what it left is on its disk.
    pub(super) fn note_down(&mut self, id: NodeId) {
        if matches!(self.operator.stage_of(id), Some(Stage::Copying)) {
            let copy = self.slot(id).disk.clone();
            self.operator.work = Some((id, Stage::RunningOn(copy)));
        }
    }

    /// A process has ended by itself, because its directory must not continue.
    pub(super) fn ended(&mut self, id: NodeId) {
        self.crash(id, LOOK);
        match self.operator.stage_of(id) {
            Some(Stage::PutBack { tries, .. }) => *tries += 1,
            Some(stage @ Stage::Lost) => *stage = Stage::Removing { is_empty: true },
            Some(Stage::Copying | Stage::RunningOn(_) | Stage::Removing { .. } | Stage::Adding)
            | None => {}
        }
    }

    /// The directory of a node takes part. One that no node could know to be older is taken away
    /// before it does harm: the rules do not promise more.
    pub(super) fn took_part(&mut self, id: NodeId) {
        self.put_right_back(id);
        self.slot(id).directory = Directory::Whole;
    }

    /// Puts the right directory back, if the node has an older one.
    fn put_right_back(&mut self, id: NodeId) {
        let has_older =
            |work: &mut (NodeId, Stage)| work.0 == id && matches!(work.1, Stage::PutBack { .. });
        let Some((_, Stage::PutBack { right, .. })) = self.operator.work.take_if(has_older) else {
            return;
        };
        self.crash(id, LOOK);
        let slot = self.slot(id);
        (slot.disk, slot.directory) = (right, Directory::Whole);
    }

    /// Whether the newest state that a running node knows has the directory of this node.
    #[must_use]
    pub fn is_registered(&self, id: NodeId) -> bool {
        let known =
            self.newest().and_then(|node| node.replica.shared.view().nodes.get(&id).cloned());
        let own = self.host(id).map(|host| host.disk.dir_id);
        known.is_some_and(|known| Some(known.dir_id) == own && !known.removed)
    }

    /// Whether so few voters know the newest start of this node that a majority of the others may
    /// not.
    #[must_use]
    pub fn may_not_be_known(&self, id: NodeId) -> bool {
        let Some((_, Stage::PutBack { right, .. })) = &self.operator.work else { return false };
        let (newest, voters) = (right.boots, self.plan.nodes);
        let knows = |node: &&crate::node::Node| {
            let starts = &node.replica.shared.cluster().start_ids;
            starts.get(&id).is_some_and(|start| start.boot.0 >= newest)
        };
        let others = self.nodes().filter(|node| node.id != id);
        let behind = others.filter(|node| !knows(node)).count() as u64;
        (behind + 1) * 2 > voters
    }

    /// The operator looks again.
    pub(super) fn operate(&mut self) -> Result<(), Violation> {
        if self.operator.work.is_none() {
            return Ok(());
        }
        self.schedule(self.now + LOOK, Event::Operator);
        self.note_work();
        if self.operator.asked.is_some_and(|(_, ends)| self.now < ends) {
            return Ok(());
        }
        let Some((id, stage)) = &self.operator.work else { return Ok(()) };
        let id = *id;
        match stage {
            Stage::Copying | Stage::Lost => Ok(()),
            Stage::RunningOn(copy) => {
                let older = copy.boots;
                if self.is_registered_above(id, older) && self.rng.permille(100) {
                    self.put_back(id);
                }
                Ok(())
            }
            Stage::PutBack { tries, .. } => {
                if *tries >= TRIES || !self.faulty {
                    self.put_right_back(id);
                }
                Ok(())
            }
            Stage::Removing { is_empty } => {
                let is_empty = *is_empty;
                self.remove(id, is_empty)
            }
            Stage::Adding => self.add(id),
        }
    }

    fn is_registered_above(&self, id: NodeId, older: u64) -> bool {
        let Some(newest) = self.newest() else { return false };
        let starts = &newest.replica.shared.cluster().start_ids;
        let boot = self.boot(id).filter(|boot| boot.0 > older);
        boot.is_some_and(|boot| starts.get(&id).is_some_and(|start| start.boot == boot))
    }

    fn put_back(&mut self, id: NodeId) {
        let Some((_, Stage::RunningOn(copy))) = self.operator.work.take() else { return };
        self.crash(id, LOOK);
        let slot = self.slot(id);
        let right = std::mem::replace(&mut slot.disk, copy);
        slot.directory = Directory::Older;
        self.operator.work = Some((id, Stage::PutBack { right, tries: 0 }));
        self.say(|| format!("node {id} gets an older directory back"));
    }

    /// The leader of the newest term that any of its members knows: one of an older term may not know
    /// yet that it was deposed, nor that the members have changed. A node that was taken out and does
    /// not know it may have begun a newer term for itself.
    fn leading(&self) -> Option<NodeId> {
        let is_newest = |leader: &&Node| {
            let members = leader.replica.raft.members();
            let others = self.nodes().filter(|node| members.contains(node.id));
            let newest = others.map(|node| node.replica.raft.newest_term()).max();
            leader.replica.raft.leads_in() == newest
        };
        let leaders = self.nodes().filter(|node| node.is_leading()).filter(is_newest);
        leaders.max_by_key(|node| node.replica.raft.leads_in()).map(|node| node.id)
    }

    fn change_members(
        &mut self,
        leader: NodeId,
        change: impl FnOnce(&Members) -> Members,
    ) -> Result<(), Violation> {
        self.step(leader, |node, step| {
            let members = change(node.replica.raft.members());
            node.change_members(members, step);
        })
    }

    fn remove(&mut self, id: NodeId, is_empty: bool) -> Result<(), Violation> {
        let Some(leader) = self.leading() else { return Ok(()) };
        if leader == id {
            return self.step(leader, |node, step| node.hand_over(None, step));
        }
        let (now, voters) = (self.now, self.plan.nodes - 1);
        let is_up = |place: &u64| {
            let host = self.host(NodeId(*place));
            host.is_some_and(|host| {
                host.paused_until <= now && host.node.as_ref().is_some_and(|n| n.takes_part())
            })
        };
        let up = (1..=self.plan.nodes).filter(|place| *place != id.0).filter(is_up).count();
        let Some(leads) = self.node(leader) else { return Ok(()) };
        // By the newest state: this leader may lag, and know only that an earlier directory was removed.
        let view = self.newest().map(Node::view);
        let removed =
            view.is_some_and(|view| view.nodes.get(&id).is_some_and(|known| known.removed));
        if removed {
            if !is_empty {
                self.crash(id, SECOND);
                self.empty_disk(id, Directory::New);
            }
            self.operator.work = Some((id, Stage::Adding));
            self.say(|| format!("node {id} is removed"));
            return Ok(());
        }
        if leads.replica.raft.members().contains(id) {
            // The rest must have a majority up.
            if up as u64 * 2 <= voters {
                return Ok(());
            }
            return self.change_members(leader, |members| members.without(id));
        }
        if !leads.replica.raft.members_are_committed() {
            return Ok(());
        }
        if is_empty {
            // Once that is committed it may take part.
            self.slot(id).directory = Directory::New;
        }
        let request = u128::from(self.rng.draw());
        let command = Command::RemoveNode { node: id };
        let actor = Actor::Operator;
        let proposal = Proposal { request, actor, presented: None, from: None, command };
        self.next += 1;
        let write = self.next;
        self.operator.asked = Some((write, self.now + self.plan.write_timeout_ms() * MS + SECOND));
        self.step(leader, |node, step| node.write(write, proposal, step))
    }

    fn add(&mut self, id: NodeId) -> Result<(), Violation> {
        let takes_part = self.node(id).is_some_and(Node::takes_part);
        let Some(leader) = self.leading().filter(|_| takes_part) else { return Ok(()) };
        let Some(leads) = self.node(leader) else { return Ok(()) };
        let members = leads.replica.raft.members();
        if !leads.replica.raft.members_are_committed() {
            return Ok(());
        }
        if members.voters.contains(&id) {
            self.operator.work = None;
            self.say(|| format!("node {id} is a member again"));
            return Ok(());
        }
        if !members.learners.contains(&id) {
            return self.change_members(leader, |members| members.with_learner(id));
        }
        if leads.replica.raft.matched(id) >= leads.replica.raft.committed() {
            return self.change_members(leader, |members| members.with_voter(id));
        }
        Ok(())
    }
}
