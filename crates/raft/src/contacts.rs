//! The contacts of this node with leaders, on behalf of [`fluxgate_engine::lease::Contacts`].
//!
//! Answers for: a message is recorded before openraft gets it, a vote only once it is on the disk,
//! and an answer reads the vote and the contact in one step. So openraft acknowledges nothing of a
//! leader before the voted one that the answer does not know.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fluxgate_engine::lease::{Contacts, LeaderId, Voted};
use fluxgate_types::{BootNs, NodeId};
use fluxgate_wire::raft::VoteV1;

use crate::shapes::Shaped as _;
use crate::types::Vote;

#[derive(Clone, Debug)]
pub(crate) struct ContactWatch {
    contacts: Arc<Mutex<Contacts>>,
    boot_now: fn() -> BootNs,
}

fn leader(vote: VoteV1) -> LeaderId {
    LeaderId { term: vote.term, node: NodeId(vote.node) }
}

impl ContactWatch {
    pub(crate) fn new(me: NodeId, boot_now: fn() -> BootNs) -> Self {
        let contacts = Contacts::new(me, Voted::NONE, boot_now());
        Self { contacts: Arc::new(Mutex::new(contacts)), boot_now }
    }

    fn locked(&self) -> MutexGuard<'_, Contacts> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader's message has come. Call BEFORE openraft gets it.
    pub(crate) fn note_message(&self, vote: VoteV1) {
        self.locked().handle_message(leader(vote), (self.boot_now)());
    }

    /// A vote is on the disk.
    pub(crate) fn note_voted(&self, vote: &Vote) {
        let vote = vote.to_shape();
        let voted = Voted { leader: leader(vote), is_elected: vote.committed };
        self.locked().handle_voted(voted, (self.boot_now)());
    }

    pub(crate) fn last_before(&self, leader: LeaderId) -> Option<BootNs> {
        self.locked().last_before(leader)
    }
}
