//! Nodes and share maps: the members, and how budgets are split.

use fluxgate_types::{ClusterMs, DirId, NodeId, caps};

use super::apply::{Context, invalid};
use super::audit::Action;
use super::command::{CommandError, Outcome};
use super::{NodeRecord, Registry};
use crate::share_map::ShareMap;

/// A map that was superseded this long ago applies to no open window, milliseconds.
const SUPERSEDED_MS: u64 = 2 * caps::LIMIT_PERIOD_MS_MAX;
/// How many share maps are kept at most.
const SHARE_MAPS_MAX: usize = 1_024;

impl Registry {
    pub(super) fn set_share_map(
        &self,
        context: &Context<'_>,
        map: &ShareMap,
        term: u64,
    ) -> Result<Outcome, CommandError> {
        // The proposal waited across an election: the new leader may have promised windows that
        // this map would split differently.
        if context.term != term {
            return Err(invalid("share map of another leader's term"));
        }
        let view = self.shared.view();
        let in_order = view.share_maps.last().is_none_or(|last| last.from < map.from);
        if !map.is_sound() || !in_order {
            return Err(invalid("share map out of order"));
        }
        self.shared.change_view(|view| {
            view.share_maps.push(map.clone());
            if view.share_maps.len() > SHARE_MAPS_MAX {
                view.share_maps.remove(0);
            }
        });
        self.prune_maps(context.at);
        let nodes: Vec<String> = map.nodes.iter().map(|(node, _)| node.to_string()).collect();
        let details = format!("nodes {} from {}", nodes.join(", "), map.from);
        self.audit(context, Action::ShareMapSet, None, &details);
        Ok(Outcome::Done)
    }

    /// Removes share maps that were superseded long enough ago that no window under them is open.
    pub(super) fn prune_maps(&self, at: ClusterMs) {
        let over = |next: &ShareMap| next.from + SUPERSEDED_MS < at;
        let view = self.shared.view();
        let count = view.share_maps.iter().skip(1).take_while(|next| over(next)).count();
        if count > 0 {
            self.shared.change_view(|view| drop(view.share_maps.drain(..count)));
        }
    }

    pub(super) fn register(
        &self,
        context: &Context<'_>,
        node: NodeId,
        dir_id: DirId,
    ) -> Result<Outcome, CommandError> {
        match self.shared.view().nodes.get(&node) {
            Some(known) if known.dir_id != dir_id || known.removed => {
                return Err(CommandError::OtherDirectory(node));
            }
            Some(_) => return Ok(Outcome::Done),
            None => {}
        }
        let record = NodeRecord { dir_id, removed: false };
        self.shared.change_view(|view| {
            view.nodes.insert(node, record);
        });
        self.audit(context, Action::NodeRegistered, None, &format!("node {node}"));
        Ok(Outcome::Done)
    }

    pub(super) fn remove_node(
        &self,
        context: &Context<'_>,
        node: NodeId,
    ) -> Result<Outcome, CommandError> {
        if self.shared.view().nodes.get(&node).is_none_or(|known| known.removed) {
            return Ok(Outcome::Done);
        }
        self.shared.change_view(|view| {
            if let Some(known) = view.nodes.get_mut(&node) {
                known.removed = true;
            }
        });
        self.audit(context, Action::NodeRemoved, None, &format!("node {node}"));
        Ok(Outcome::Done)
    }
}
