//! Messages between nodes: when they arrive, and what becomes of them then.

use fluxgate_types::{DirId, NodeId};

use super::{Event, World};
use crate::invariants::Violation;
use crate::messages::{Answer, Call, Message};

/// A message on its way.
#[derive(Debug)]
pub(super) struct Packet {
    from: NodeId,
    to: NodeId,
    // The directories of both ends when it was sent.
    directories: (DirId, DirId),
    message: Message,
}

impl World {
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId, message: Message) {
        let mut arrivals = self.net.route(self.now, from, to, &mut self.rng);
        // The giver takes a refused handoff back. That is sound because a connection carries a call
        // once.
        if matches!(message, Message::Call(_, Call::Handoffs(..))) {
            arrivals.truncate(1);
        }
        let directories = self.directories(from, to);
        for at in arrivals {
            let message = message.clone();
            self.schedule(at, Event::Packet(Packet { from, to, directories, message }));
        }
    }

    fn directories(&self, from: NodeId, to: NodeId) -> (DirId, DirId) {
        let of = |node| self.host(node).map_or(DirId(0), |host| host.disk.dir_id);
        (of(from), of(to))
    }

    pub(super) fn arrive(&mut self, packet: Packet) -> Result<(), Violation> {
        let Packet { from, to, directories, message } = packet;
        // A call names the directories of both ends, and is rejected if one was replaced.
        if directories != self.directories(from, to) {
            return Ok(());
        }
        let (now, slot) = (self.now, self.slot(to));
        if slot.node.is_some() && slot.stood_still_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        if slot.node.is_some() && slot.paused_until > now {
            let at = slot.paused_until;
            self.schedule(at, Event::Packet(Packet { from, to, directories, message }));
            return Ok(());
        }
        if slot.node.is_none() {
            // The machine answers that no process listens.
            if let Message::Call(call, _) = message {
                self.deliver(to, from, Message::Answer(call, Answer::Refused));
            }
            return Ok(());
        }
        self.fold(to.0 ^ from.0 << 8 ^ 1 << 60);
        let late = self.requested_by_ended(from, &message);
        let before = self.given(to, from, &late);
        self.step(to, |node, step| node.handle(from, message, step))?;
        self.note_given_to_ended(to, from, &late, &before);
        Ok(())
    }
}
