//! Compares this node's state with the digests that the other nodes report.
//!
//! A node whose state no majority shares answers nothing, grants nothing and proposes nothing until
//! one does: it may hold keys that were revoked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fluxgate_engine::agreement::{Agreement as Notes, Standing};
use fluxgate_engine::state::Shared;
use fluxgate_raft::RaftHandle;
use fluxgate_types::{LogIndex, NodeId};

use crate::metrics::Metrics;

/// What this node knows of the others' states.
#[derive(Debug)]
pub struct Agreement {
    raft: RaftHandle,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    differs: AtomicBool,
    notes: Mutex<Notes>,
    // The nodes that differ, as last logged.
    different: Mutex<Vec<NodeId>>,
}

impl Agreement {
    pub fn new(raft: RaftHandle, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: raft.shared(),
            raft,
            metrics,
            differs: AtomicBool::new(false),
            notes: Mutex::default(),
            different: Mutex::default(),
        }
    }

    /// Whether some node's state differs, and no majority is known to share this node's.
    pub fn differs(&self) -> bool {
        self.differs.load(Ordering::Acquire)
    }

    /// The nodes whose state differs from this one's.
    pub fn different(&self) -> Vec<NodeId> {
        self.different.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares with the digest that another node has after an entry; whether the comparison can
    /// be judged.
    pub fn compare(&self, node: NodeId, index: LogIndex, digest: u64) -> bool {
        // Before level 2, nodes may run programs that apply some commands differently.
        if self.shared.cluster().level < 2 {
            return false;
        }
        let Some(own) = self.shared.digest_at(index) else { return false };
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).note(node, own == digest);
        true
    }

    /// Draws the conclusion from the comparisons so far. Members may have left since. Calls
    /// `publish` if [`Self::differs`] changed.
    pub fn judge(&self, publish: impl FnOnce()) {
        let members = self.raft.status().nodes;
        let me = self.raft.me();
        let others: Vec<NodeId> = members.into_keys().filter(|id| *id != me).collect();
        let standing = {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.standing(&others)
        };
        let (differs, different) = match standing {
            Standing::Agrees => (false, Vec::new()),
            Standing::Majority(different) => (false, different),
            Standing::Minority(different) => (true, different),
        };
        self.metrics.state_differs.set(i64::from(!different.is_empty()));
        let news = {
            let mut known = self.different.lock().unwrap_or_else(PoisonError::into_inner);
            let news = *known != different;
            known.clone_from(&different);
            news
        };
        let turned = self.differs.swap(differs, Ordering::AcqRel) != differs;
        if turned {
            publish();
        }
        if news || turned {
            say(&different, differs);
        }
    }
}

fn say(different: &[NodeId], differs: bool) {
    let nodes: Vec<u64> = different.iter().map(|node| node.0).collect();
    if differs {
        tracing::error!(
            nodes = ?nodes,
            "this node's state differs from that of other nodes at the same entry, and no majority has \
             it: this node answers nothing; compare what was changed lately before you empty a data \
             directory"
        );
    } else if nodes.is_empty() {
        tracing::warn!("all states that could be compared are equal again");
    } else {
        tracing::error!(
            nodes = ?nodes,
            "the state of these nodes differs from that of a majority at the same entry: compare what was \
             changed lately before you empty a data directory; the majority may be the older one"
        );
    }
}
