//! How far the state machine has come, and which node led while it did.
//!
//! Written by the one task that applies; read by any task, without waiting.

use std::sync::Mutex;
use std::sync::PoisonError;

use fluxgate_types::{LogIndex, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::types::LogId;

/// One leadership, as this node saw it in the entries that it applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub node: NodeId,
    /// When this incarnation applied the leadership's first entry (monotonic clock): after the
    /// leadership began, and not later than any of its entries that were applied later.
    pub seen_since: Instant,
    /// Whether this incarnation applied the leadership's entry, and did not load it from a
    /// snapshot.
    pub seen: bool,
}

#[derive(Debug)]
pub(crate) struct Progress {
    applied: watch::Sender<LogIndex>,
    leaderships: Mutex<Leaderships>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leaderships {
    now: Option<Leadership>,
    before: Option<Leadership>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { applied: watch::Sender::new(LogIndex(0)), leaderships: Mutex::default() }
    }
}

impl Progress {
    /// Entries up to `id` are in the table. Leaderships are updated BEFORE the index, so that a
    /// reader of the index sees them.
    pub(crate) fn handle_applied(&self, id: &LogId) {
        self.handle_office(id, true);
        self.applied.send_if_modified(|applied| {
            let index = LogIndex(id.index);
            let newer = *applied < index;
            *applied = (*applied).max(index);
            newer
        });
    }

    /// An entry of this leadership was applied, or is covered by a snapshot.
    pub(crate) fn handle_office(&self, id: &LogId, seen: bool) {
        let (term, node) = (id.leader_id.term, NodeId(id.leader_id.node_id));
        let mut leaderships = self.leaderships.lock().unwrap_or_else(PoisonError::into_inner);
        if leaderships.now.is_some_and(|now| (now.term, now.node) == (term, node)) {
            return;
        }
        leaderships.before = leaderships.now;
        leaderships.now = Some(Leadership { term, node, seen_since: Instant::now(), seen });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    pub(crate) fn applied(&self) -> LogIndex {
        *self.applied.borrow()
    }

    /// The leadership of the newest entry applied, and the one before it.
    pub(crate) fn leaderships(&self) -> (Option<Leadership>, Option<Leadership>) {
        let leaderships = self.leaderships.lock().unwrap_or_else(PoisonError::into_inner);
        (leaderships.now, leaderships.before)
    }
}
