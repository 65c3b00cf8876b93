//! Orderly stops and crashes.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{Carryover, Cursor, Sender};
use fluxgate_types::{ClusterMs, NodeId, Subject};

use super::Net;

impl Net {
    /// An orderly stop: gives to the peers that live, returns what is left for the file.
    pub(crate) fn stop(&mut self, id: NodeId) -> Option<Carryover> {
        self.nodes.get_mut(&id).unwrap().shard.begin_drain();
        let heirs: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(n, node)| **n != id && node.alive)
            .map(|(n, _)| *n)
            .collect();
        if let Some(heir) = heirs.first().copied() {
            let boot = self.nodes[&heir].incarnation.incarnations.of(heir).unwrap();
            let to = Sender { node: heir, boot };
            let incarnation = self.nodes[&id].incarnation.clone();
            let from = Sender { node: id, boot: incarnation.incarnations.of(id).unwrap() };
            let handoffs = self.step(id, |shard, context, limits, _| {
                let (mut cursor, mut handoffs) = (Cursor::default(), Vec::new());
                let find = |_: &Subject| Some(limits.clone());
                while shard.drain(context, &find, &to, &mut cursor, 1, &mut handoffs) {}
                handoffs
            });
            for handoff in handoffs {
                let taken = self.step(heir, |shard, context, limits, out| {
                    shard.handle_transfer_reply(
                        context,
                        &|_| Some(limits.clone()),
                        &from,
                        &handoff.reply,
                        out,
                    )
                });
                if !taken {
                    self.nodes.get_mut(&id).unwrap().shard.take_back(&to, &handoff);
                }
            }
        }
        self.stop_alone(id)
    }

    /// An orderly stop of a node that finds no node to hand its balances to.
    pub(crate) fn stop_alone(&mut self, id: NodeId) -> Option<Carryover> {
        self.nodes.get_mut(&id).unwrap().shard.begin_drain();
        let mut left = BTreeMap::new();
        let shard = &mut self.nodes.get_mut(&id).unwrap().shard;
        let mut cursor = Cursor::default();
        while shard.carryover(&mut cursor, 1, &mut left) {}
        let left =
            Carryover::of(&self.nodes[&id].incarnation, left, ClusterMs(self.now_ms()), true);
        self.kill(id);
        left
    }

    pub(crate) fn kill(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().alive = false;
        for node in self.nodes.values_mut() {
            node.busy.remove(&id);
        }
    }
}
