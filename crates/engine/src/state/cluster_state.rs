//! Replicated settings of the whole cluster, except members and share maps.
//!
//! Answers for: the level (which rules every member knows), the lease terms, and the newest start
//! of every node.

use std::collections::BTreeMap;

use fluxgate_types::{ClusterMs, DirId, NodeId, caps};

use super::apply::{Context, invalid};
use super::audit::Action;
use super::command::{CommandError, Outcome};
pub use super::level::{LEVEL, level_of};
pub use super::start_id::StartId;
use super::{NodeRecord, Registry};
use crate::lease::{LeaseTerms, TermsRecord};

/// How long superseded lease terms are kept, milliseconds of cluster time: much longer than any
/// promise under them lasts.
const TERMS_KEPT_MS: u64 = 600_000;

/// What the cluster has agreed on about itself. Replaced as a whole on change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterState {
    /// The rules of this level and of all lower ones apply.
    pub level: u32,
    /// Lease terms, oldest first; the last one is in force. Empty until a leader has set one.
    pub terms: Vec<TermsRecord>,
    /// The newest start of every node, removed ones included.
    pub start_ids: BTreeMap<NodeId, StartId>,
}

impl Default for ClusterState {
    fn default() -> Self {
        Self { level: 1, terms: Vec::new(), start_ids: BTreeMap::new() }
    }
}

impl ClusterState {
    /// The lease terms in force, once they are set.
    #[must_use]
    pub fn terms(&self) -> Option<LeaseTerms> {
        self.terms.last().map(|record| record.terms)
    }
}

impl Registry {
    pub(super) fn set_level(&self, level: u32) -> Result<Outcome, CommandError> {
        if level > LEVEL {
            return Err(invalid("a level that this program does not know"));
        }
        self.shared.change_cluster(|cluster| cluster.level = cluster.level.max(level));
        Ok(Outcome::Done)
    }

    pub(super) fn set_terms(
        &self,
        context: &Context<'_>,
        terms: LeaseTerms,
    ) -> Result<Outcome, CommandError> {
        if !terms.is_sound() {
            return Err(invalid("lease terms out of bounds"));
        }
        let before = self.shared.cluster().terms();
        if before == Some(terms) {
            return Ok(Outcome::Done);
        }
        let record = TermsRecord { index: context.index, at: context.at, terms };
        self.shared.change_cluster(|cluster| cluster.terms.push(record));
        let text = |terms: LeaseTerms| {
            format!("lease {} ms, clock error {} ms", terms.lease_ms, terms.clock_error_ms_max)
        };
        let details = before.map_or_else(
            || text(terms),
            |before| format!("{} (before: {})", text(terms), text(before)),
        );
        self.audit(context, Action::TermsSet, None, &details);
        Ok(Outcome::Done)
    }

    /// Removes lease terms whose promises have long ended.
    pub(super) fn prune_terms(&self, at: ClusterMs) {
        let ended = |next: &TermsRecord| next.at + TERMS_KEPT_MS < at;
        let cluster = self.shared.cluster();
        let over = cluster.terms.iter().skip(1).take_while(|next| ended(next)).count();
        if over > 0 {
            self.shared.change_cluster(|cluster| drop(cluster.terms.drain(..over)));
        }
    }

    pub(super) fn set_time(
        &mut self,
        context: &Context<'_>,
        to: ClusterMs,
    ) -> Result<Outcome, CommandError> {
        if to <= context.at {
            return Err(invalid("cluster time never goes back"));
        }
        if to.0 > caps::CLUSTER_TIME_MS_MAX {
            return Err(invalid("cluster time is too far ahead"));
        }
        self.set_stamp(to);
        // No time passes in the jump: what was promised must last as long as before.
        let jump_ms = to - context.at;
        self.shared.change_cluster(|cluster| {
            cluster.terms.iter_mut().for_each(|record| record.at = record.at + jump_ms);
        });
        for (_, at) in &mut self.outcomes_order {
            *at = *at + jump_ms;
        }
        let details = format!("cluster time set forward from {} to {to}", context.at);
        self.audit(context, Action::TimeSet, None, &details);
        Ok(Outcome::Done)
    }

    /// Registers the start of a node. Rejected if the cluster knows a later start of it, another
    /// start with this number, or another data directory.
    pub(super) fn register_incarnation(
        &self,
        context: &Context<'_>,
        node: NodeId,
        dir_id: DirId,
        started: StartId,
    ) -> Result<Outcome, CommandError> {
        let newest = self.shared.cluster().start_ids.get(&node).copied();
        let older = newest.map(|newest| CommandError::OlderStart { node, newest: newest.boot });
        let known = self.shared.view().nodes.get(&node).cloned();
        match known {
            Some(known) if known.removed && known.dir_id == dir_id => {
                return Err(CommandError::Removed(node));
            }
            Some(known) if !known.removed && known.dir_id != dir_id => {
                return Err(CommandError::OtherDirectory(node));
            }
            // The same directory again, or a new one after a removal: the numbers must continue
            // above the last known one, so that messages of earlier starts remain late.
            Some(known) => {
                let same = newest == Some(started) && !known.removed;
                let later = newest.is_none_or(|newest| newest.boot < started.boot);
                if !same && !later {
                    return Err(older.unwrap_or(CommandError::Removed(node)));
                }
                if known.removed {
                    self.audit(context, Action::NodeRegistered, None, &format!("node {node}"));
                }
            }
            None => {
                self.audit(context, Action::NodeRegistered, None, &format!("node {node}"));
            }
        }
        let record = NodeRecord { dir_id, removed: false };
        if self.shared.view().nodes.get(&node) != Some(&record) {
            self.shared.change_view(|view| {
                view.nodes.insert(node, record);
            });
        }
        if newest != Some(started) {
            self.shared.change_cluster(|cluster| {
                cluster.start_ids.insert(node, started);
            });
        }
        Ok(Outcome::Done)
    }
}
