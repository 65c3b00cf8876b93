//! Which nodes the next share map has.
//!
//! Answers for: a node whose lease has been gone for a while leaves the map, one that holds a lease
//! comes (back) in, and only nodes that vote hold shares. Made anew with each office: what an
//! earlier one saw says nothing about this one's leases.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, NodeId};

use crate::lease::{Granter, LeaseTerms};
use crate::state::View;

/// A node leaves the share map when its lease has been gone for so many leases.
const ABSENT_LEASES: u64 = 2;

/// What one term of leadership knows of nodes without a lease.
#[derive(Clone, Debug, Default)]
pub struct ShareMapPlanner {
    absent_since: BTreeMap<NodeId, BootNs>,
}

impl ShareMapPlanner {
    /// The nodes of the next share map, with their weights; `None` where the last one will do.
    /// `members` are the nodes of the cluster and whether each votes.
    pub fn next(
        &mut self,
        now: BootNs,
        terms: &LeaseTerms,
        granter: &Granter,
        members: impl IntoIterator<Item = (NodeId, bool)>,
        view: &View,
    ) -> Option<Vec<(NodeId, u32)>> {
        let last = view.share_maps.last()?;
        let mut wanted = Vec::new();
        for (node, votes) in members {
            // What an earlier leader granted counts as a lease held: it is no reason to come in,
            // and none to go.
            let latest = granter.latest(node);
            let leased = node == granter.me() || latest.is_some_and(|until| until > now);
            if leased {
                self.absent_since.remove(&node);
            }
            let since = if leased { now } else { *self.absent_since.entry(node).or_insert(now) };
            let long_absent = now.since(since) > ABSENT_LEASES * terms.lease_ms * 1_000_000;
            let registered = view.nodes.get(&node).is_some_and(|known| !known.removed);
            let in_map = last.nodes.iter().any(|(id, _)| *id == node);
            let stays = if in_map { !long_absent } else { leased && registered };
            if votes && stays {
                wanted.push((node, 1));
            }
        }
        (!wanted.is_empty() && wanted != last.nodes).then_some(wanted)
    }
}
