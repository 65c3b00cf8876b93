//! What is known of all nodes together: the proof that nothing is left, or how much remains.

use fluxgate_types::{Cost, NodeId};

use super::{Context, CounterReport, PeerAccount, WindowCounter};
use crate::fault::Mutation;

impl WindowCounter {
    /// A lower bound of what all nodes together have spent. Spending only grows, so every report
    /// stays valid. Tokens that were lost with an incarnation count as spent once every node has
    /// reported, under the same incarnations, what it gave to and received from the ended ones.
    pub(in crate::quota) fn spent_lower_bound(&self, context: &Context<'_>) -> u64 {
        let others =
            self.accounts().iter().map(PeerAccount::spent_in_all).fold(0, u64::saturating_add);
        let plain = self.spent().saturating_add(others);
        let own = self.report();
        if own.burned == 0 && self.accounts().iter().all(|t| t.burned.is_none_or(|b| b.tokens == 0))
        {
            return plain;
        }
        self.spent_or_burned_lower_bound(context, own).map_or(plain, |burned| burned.max(plain))
    }

    fn spent_or_burned_lower_bound(
        &self,
        context: &Context<'_>,
        own: CounterReport,
    ) -> Option<u64> {
        let tag = own.incarnations;
        let mut sum = i64::try_from(own.spent).ok()?.checked_add(own.burned)?;
        for node in self.everybody(context) {
            let account = self.accounts().iter().find(|t| t.node == node)?;
            let burned = account.burned?;
            let same_limit =
                burned.limit == self.tokens() || Mutation::BurnedOfAnotherLimit.active();
            if burned.incarnations != tag || !same_limit {
                return None;
            }
            sum =
                sum.checked_add(i64::try_from(account.spent).ok()?)?.checked_add(burned.tokens)?;
        }
        u64::try_from(sum).ok()
    }

    /// Every other node that may have or may have had tokens of this window. A node that was
    /// removed before the window began will never report on it, and is not waited for.
    fn everybody(&self, context: &Context<'_>) -> Vec<NodeId> {
        let members = context.view.nodes.iter().filter(|(_, n)| !n.removed).map(|(id, _)| *id);
        let map = context.view.map_at(self.start()).into_iter();
        let sharers = map.flat_map(|map| &map.nodes).map(|(id, _)| *id);
        let known = self.accounts().iter().map(|t| t.node);
        let mut nodes: Vec<NodeId> = members.chain(sharers).chain(known).collect();
        if Mutation::RemovedAreAsked.active() {
            nodes.push(NodeId(u64::MAX));
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|node| *node != context.incarnation.me);
        nodes
    }

    /// Whether it is proven that less than `cost` is left.
    pub(in crate::quota) fn is_proven(&mut self, context: &Context<'_>, cost: Cost) -> bool {
        if self.exhausted {
            return true;
        }
        let gone = self.spent_lower_bound(context);
        self.exhausted = gone >= self.tokens();
        gone.saturating_add(cost.0) > self.tokens()
    }

    /// What is left as far as this node knows; never rises within a window.
    pub(in crate::quota) fn remaining(&mut self, context: &Context<'_>) -> u64 {
        if Mutation::RemainingIsNothing.active() {
            return 0;
        }
        if Mutation::RemainingForgetsOthers.active() {
            return self.tokens().saturating_sub(self.spent());
        }
        // What was proven stays proven, also when a peer reports under other incarnations since.
        let gone = if self.exhausted { self.tokens() } else { self.spent_lower_bound(context) };
        let left = self.tokens().saturating_sub(gone);
        self.shown = self.shown.min(u32::try_from(left).unwrap_or(u32::MAX));
        u64::from(self.shown)
    }

    /// The assumed balance of `node`: what it last reported, otherwise its share minus its known
    /// spending. `salt` is that of the counter.
    pub(in crate::quota) fn believed_left(
        &self,
        context: &Context<'_>,
        node: NodeId,
        salt: u64,
    ) -> u64 {
        let known = self.accounts().iter().find(|t| t.node == node);
        known.and_then(|t| t.left).unwrap_or_else(|| {
            let map = context.view.map_at(self.start());
            let share = map.map_or(0, |map| map.share(node, self.tokens(), salt));
            share.saturating_sub(known.map_or(0, PeerAccount::spent_in_all))
        })
    }
}
