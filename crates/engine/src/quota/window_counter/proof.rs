//! What is known of all nodes together: the proof that nothing is left, and what is left else.

use fluxgate_types::NodeId;

use super::{Context, CounterReport, PeerAccount, WindowCounter};
use crate::fault::Mutation;

impl WindowCounter {
    /// A lower bound of what all nodes together have spent. What others have spent only grows, so
    /// any figure ever heard counts. Tokens that died with a life count as spent where every node
    /// has said, under the same lives, what it lost to and has from them.
    pub(in crate::quota) fn spent_lower_bound(&self, context: &Context<'_>) -> u64 {
        let others =
            self.accounts.iter().map(PeerAccount::spent_in_all).fold(0, u64::saturating_add);
        let plain = self.spent.saturating_add(others);
        let own = self.report();
        if own.burned == 0 && self.accounts.iter().all(|t| t.burned.is_none_or(|b| b.tokens == 0)) {
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
            let account = self.accounts.iter().find(|t| t.node == node)?;
            let burned = account.burned?;
            let same_limit = burned.limit == self.tokens || Mutation::BurnedOfAnotherLimit.active();
            if burned.incarnations != tag || !same_limit {
                return None;
            }
            sum =
                sum.checked_add(i64::try_from(account.spent).ok()?)?.checked_add(burned.tokens)?;
        }
        u64::try_from(sum).ok()
    }

    /// Every other node that may hold or may have held tokens of this window. One that was removed
    /// before it began never says a word of it.
    fn everybody(&self, context: &Context<'_>) -> Vec<NodeId> {
        let members = context.view.nodes.iter().filter(|(_, n)| !n.removed).map(|(id, _)| *id);
        let map = context.view.map_at(self.start).into_iter();
        let sharers = map.flat_map(|map| &map.nodes).map(|(id, _)| *id);
        let known = self.accounts.iter().map(|t| t.node);
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
    pub(in crate::quota) fn is_proven(&mut self, context: &Context<'_>, cost: u64) -> bool {
        if self.exhausted {
            return true;
        }
        let gone = self.spent_lower_bound(context);
        self.exhausted = gone >= self.tokens;
        gone.saturating_add(cost) > self.tokens
    }

    /// What is left as far as this node knows: never rises within a window.
    pub(in crate::quota) fn remaining(&mut self, context: &Context<'_>) -> u64 {
        if Mutation::RemainingIsNothing.active() {
            return 0;
        }
        if Mutation::RemainingForgetsOthers.active() {
            return self.tokens.saturating_sub(self.spent);
        }
        let left = self.tokens.saturating_sub(self.spent_lower_bound(context));
        self.shown = self.shown.min(left);
        self.shown
    }

    /// How much `node` is believed to hold: what it last said, else its share less what it is known
    /// to have spent.
    pub(in crate::quota) fn believed_left(&self, context: &Context<'_>, node: NodeId) -> u64 {
        let known = self.accounts.iter().find(|t| t.node == node);
        known.and_then(|t| t.left).unwrap_or_else(|| {
            let map = context.view.map_at(self.start);
            let share = map.map_or(0, |map| map.share(node, self.tokens, self.salt));
            share.saturating_sub(known.map_or(0, PeerAccount::spent_in_all))
        })
    }
}
