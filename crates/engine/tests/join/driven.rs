//! A directory that joins, under a driver that carries out what needs no other node.

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::join::{
    ANSWER_TIMEOUT_MS, Effect, Heard, Introduction, Join, RegisteredDirectory, Settings, Situation,
    Times,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, BootNs, DirId, NodeId};

pub(crate) const SECOND_NS: u64 = 1_000_000_000;
pub(crate) const WALL_NS: u64 = 20_000 * 86_400 * SECOND_NS;
pub(crate) const MY_DIRECTORY: DirId = DirId(70);
pub(crate) const MY_START: StartId = start(5, 1);

pub(crate) const fn start(boot: u64, nonce: u64) -> StartId {
    StartId { boot: BootId(boot), nonce }
}

pub(crate) fn times(wall_ns: u64) -> Times {
    Times { synced_ns: None, stamp_ns: 0, carried_ns: None, wall_ns, plausible: true }
}

/// A node that knows nothing of a cluster.
pub(crate) fn new_node(node: u64) -> Introduction {
    Introduction {
        node: NodeId(node),
        dir_id: DirId(node),
        start_id: start(1, node),
        formed: false,
        directories: Vec::new(),
        start_ids: Vec::new(),
        heard: Vec::new(),
        time: times(WALL_NS),
    }
}

/// A node of a cluster.
pub(crate) fn member(node: u64) -> Introduction {
    Introduction { formed: true, ..new_node(node) }
}

/// A node of a cluster that knows a directory and the newest start of node 1.
pub(crate) fn knows(node: u64, dir_id: DirId, removed: bool, newest: StartId) -> Introduction {
    Introduction {
        directories: vec![RegisteredDirectory { node: NodeId(1), dir_id, removed }],
        start_ids: vec![(NodeId(1), newest)],
        ..member(node)
    }
}

pub(crate) fn with_wall(introduction: Introduction, wall_ns: u64) -> Introduction {
    Introduction { time: times(wall_ns), ..introduction }
}

pub(crate) fn ids(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    nodes.into_iter().map(NodeId).collect()
}

/// A machine and its driver, which carries out what needs no other node.
pub(crate) struct Driven {
    pub(crate) join: Join,
    pub(crate) now: BootNs,
    pub(crate) situation: Situation,
    pub(crate) made: Vec<StartId>,
    pub(crate) asked: BTreeSet<NodeId>,
}

impl Driven {
    /// Node `me`, on a directory without a log.
    pub(crate) fn new(me: u64, members: impl IntoIterator<Item = u64>) -> Self {
        let now = BootNs(77 * SECOND_NS);
        let settings = Settings {
            me: NodeId(me),
            dir_id: MY_DIRECTORY,
            members: ids(members),
            clock_error_ms_max: 1_000,
        };
        let situation = Situation {
            formed: false,
            takes_part: false,
            members: BTreeMap::new(),
            start_id: MY_START,
            times: times(WALL_NS),
        };
        let made = vec![MY_START];
        Self { join: Join::new(settings, now), now, situation, made, asked: BTreeSet::new() }
    }

    /// Node 1, on a directory with a log whose members are these voters.
    pub(crate) fn with_log(voters: impl IntoIterator<Item = u64>) -> Self {
        let mut driven = Self::new(1, [1, 2, 3]);
        driven.situation.formed = true;
        driven.situation.members = voters.into_iter().map(|node| (NodeId(node), true)).collect();
        driven
    }

    pub(crate) fn poll(&mut self) -> Option<Effect> {
        let effect = self.join.poll_effect(self.now, &self.situation);
        match &effect {
            Some(Effect::TakePart) => self.situation.takes_part = true,
            Some(Effect::CountOn(boot)) => self.situation.start_id.boot = *boot,
            Some(_) | None => {}
        }
        effect
    }

    pub(crate) fn drain(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    /// Begins the next attempt, up to its questions to the other nodes. What came instead of them
    /// otherwise.
    pub(crate) fn ask(&mut self) -> Result<(), Vec<Effect>> {
        if let Some(until) = self.join.poll_timeout() {
            self.now = self.now.max(until);
        }
        let mut effects = self.drain();
        if effects == [Effect::LookForCopy { timeout_ms: ANSWER_TIMEOUT_MS }] {
            self.join.handle_own_addresses(self.situation.start_id, &[]);
            effects = self.drain();
        }
        match effects.as_slice() {
            [Effect::Introduce { nodes, timeout_ms: ANSWER_TIMEOUT_MS }] => {
                self.asked.clone_from(nodes);
                Ok(())
            }
            _ => Err(effects),
        }
    }

    /// What follows when these answer the questions.
    pub(crate) fn answer(&mut self, said: &[Introduction]) -> Vec<Effect> {
        let at = self.now;
        let heard = said.iter().map(|said| (said.node, Heard { said: said.clone(), at }));
        let heard: BTreeMap<NodeId, Heard> = heard.collect();
        assert!(heard.keys().all(|node| self.asked.contains(node)), "{heard:?} were not asked");
        let made = |start| self.made.contains(&start);
        self.join.handle_introductions(self.now, &self.situation, made, &heard);
        self.drain()
    }

    /// One attempt that these nodes answer.
    pub(crate) fn attempt(&mut self, said: &[Introduction]) -> Vec<Effect> {
        match self.ask() {
            Ok(()) => self.answer(said),
            Err(instead) => instead,
        }
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }
}

pub(crate) fn takes_part(effects: &[Effect]) -> bool {
    effects.contains(&Effect::TakePart)
}

pub(crate) fn forms(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Form)
}
