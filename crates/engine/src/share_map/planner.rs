//! The nodes of the next share map.
//!
//! Answers for: a node without a lease for a while leaves the map, a node with a lease is added (or
//! returns), and only voting nodes have shares. Created for each term of leadership: what an
//! earlier one observed says nothing about the leases of this one.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, NodeId};

use crate::lease::{Granter, LeaseTerms};
use crate::state::View;

/// A node leaves the share map after it had no lease for this many lease durations.
const ABSENT_LEASES: u64 = 2;

/// The nodes without a lease, as one term of leadership observes them.
#[derive(Clone, Debug, Default)]
pub struct ShareMapPlanner {
    absent_since: BTreeMap<NodeId, BootNs>,
}

impl ShareMapPlanner {
    /// The nodes of the next share map, with their weights; `None` if the last map still fits.
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
            // A lease that an earlier leader may have granted counts as held until it expires:
            // until then the node does not count as absent.
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
