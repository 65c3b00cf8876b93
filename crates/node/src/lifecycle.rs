//! How far this node is between its start and its end: whether it votes, leaves, stops, must end.
//!
//! Owns the flags; decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fluxgate_raft::RaftHandle;
use tokio::sync::Notify;

use crate::error::NodeError;

#[derive(Debug, Default)]
pub struct Lifecycle {
    may_vote: AtomicBool,
    leaving: AtomicBool,
    stopping: AtomicBool,
    /// Why this node must end: the cluster knows a later start of it, or another data directory.
    ended: Mutex<Option<NodeError>>,
    /// Notified when `ended` was set.
    pub must_end: Notify,
    /// Notified to end the drain of a shutdown at once.
    pub end_drain: Notify,
}

impl Lifecycle {
    /// This node has announced that it is about to stop; it still serves requests.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub fn begin_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// This node is shutting down: it takes no new work.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether this node takes part in consensus. Not before it knows that no other data directory
    /// took part under its id.
    pub fn may_vote(&self) -> bool {
        self.may_vote.load(Ordering::Acquire)
    }

    pub fn allow_votes(&self, raft: &RaftHandle) {
        raft.allow_elections();
        self.may_vote.store(true, Ordering::Release);
    }

    /// The cluster knows another start or directory under this id: this node stops taking part in
    /// anything, and ends.
    pub fn end(&self, why: NodeError) {
        self.may_vote.store(false, Ordering::Release);
        self.begin_stopping();
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.must_end.notify_one();
    }

    /// Takes the reason why this node must end.
    pub fn why_ended(&self) -> Option<NodeError> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
