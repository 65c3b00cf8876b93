//! A machine with its disk, and the process that runs on it.

use fluxgate_types::{DirId, NodeId};

use super::{Event, World};
use crate::invariants::Violation;
use crate::machine::{Disk, Machine};
use crate::node::Node;
use fluxgate_plan::Us;

/// A machine with its disk, and the process on it, if one runs.
pub struct Host {
    /// Its clocks.
    pub machine: Machine,
    /// The least and the most that its wall clock was ever ahead of true time, milliseconds.
    pub wall_ms: (i64, i64),
    /// Its disk.
    pub disk: Disk,
    /// The process.
    pub node: Option<Box<Node>>,
    /// It does not run before then.
    pub paused_until: Us,
    /// Its clocks stood still until then, and its process has not renewed its lease since: it may
    /// take an old lease for valid, which no rule prevents.
    pub stood_still_until: Option<Us>,
    /// When it has renewed its lease after its clocks stood still.
    pub renewed: Us,
    /// Counts the processes: timers of earlier ones are void.
    pub epoch: u64,
    /// What its directory remembers.
    pub directory: Directory,
}

/// What a directory remembers of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Everything that the node promised.
    Whole,
    /// Less than that, or nothing: it must not take part.
    Older,
    /// Nothing, and the node was removed: it may take part.
    New,
}

impl Host {
    pub(super) fn new(machine: Machine, dir_id: DirId) -> Self {
        let wall_ms = (machine.wall_ms, machine.wall_ms);
        let disk = Disk::new(dir_id);
        Self {
            machine,
            wall_ms,
            disk,
            node: None,
            paused_until: 0,
            stood_still_until: None,
            renewed: 0,
            epoch: 0,
            directory: Directory::Whole,
        }
    }

    /// Changes the machine, also under the process that runs on it.
    pub(super) fn change_machine(&mut self, change: impl Fn(&mut Machine)) {
        change(&mut self.machine);
        if let Some(node) = self.node.as_mut() {
            change(&mut node.machine);
        }
        let now = self.machine.wall_ms;
        self.wall_ms = (self.wall_ms.0.min(now), self.wall_ms.1.max(now));
    }
}

impl World {
    pub(super) fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let at = usize::try_from(id.0 - 1).unwrap_or(0);
        if self.slots[at].node.is_some() {
            return Ok(());
        }
        let (now, full_until) = (self.now, self.slots[at].machine.full_until);
        if now < full_until {
            // The start cannot be counted.
            self.schedule(full_until, Event::Start(id));
            return Ok(());
        }
        self.say(|| format!("node {id} starts"));
        let slot = &mut self.slots[at];
        slot.epoch += 1;
        let (machine, mut disk) =
            (slot.machine, std::mem::replace(&mut slot.disk, Disk::new(DirId(0))));
        let mut step = self.new_step();
        let node = Node::start(id, machine, &mut disk, &mut step);
        let out = step.out;
        self.slots[at].disk = disk;
        self.slots[at].node = Some(Box::new(node));
        self.carry_out(id, out)
    }

    /// Whether a node may have taken an old lease for valid when it took a request at this moment: its
    /// clocks had stood still, and it had not renewed since.
    #[must_use]
    pub fn stood_still(&self, node: NodeId, taken: Us) -> bool {
        let slot = usize::try_from(node.0 - 1).ok().and_then(|place| self.slots.get(place));
        slot.is_some_and(|slot| slot.stood_still_until.is_some() || taken <= slot.renewed)
    }
}
