//! One step of a simulated node: what it may use, and what it wants done.

use fluxgate_types::NodeId;

use crate::messages::{Message, Seen, Timer};
use crate::mutation::DriverMutation;
use fluxgate_plan::Rng;
use fluxgate_plan::{Plan, Us};

/// One thing that a step wants done.
#[derive(Debug)]
pub enum Action {
    /// Send a message.
    Send(NodeId, Message),
    /// Wake the node.
    At(Us, Timer),
    /// Show the observer.
    See(Seen),
}

/// What a step needs of the world.
pub struct Step<'a> {
    /// True time.
    pub now: Us,
    /// Chance.
    pub rng: &'a mut Rng,
    /// The plan.
    pub plan: &'a Plan,
    /// The rule that this driver leaves out, if any.
    pub driver_mutation: Option<DriverMutation>,
    /// Faults have not ended.
    pub faulty: bool,
    /// The number of the newest call.
    pub next: &'a mut u64,
    /// What this step wants done.
    pub out: Vec<Action>,
}

impl Step<'_> {
    pub(crate) fn number(&mut self) -> u64 {
        *self.next += 1;
        *self.next
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Action::Send(to, message));
    }

    pub(crate) fn wake(&mut self, after: Us, timer: Timer) {
        self.out.push(Action::At(self.now + after, timer));
    }

    /// Wakes the node at a moment.
    pub(crate) fn wake_at(&mut self, at: Us, timer: Timer) {
        self.out.push(Action::At(at, timer));
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        self.out.push(Action::See(seen));
    }

    pub(crate) fn is(&self, driver_mutation: DriverMutation) -> bool {
        self.driver_mutation == Some(driver_mutation)
    }
}
