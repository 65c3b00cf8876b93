//! The accounts that a counter keeps of other nodes: what they reported, and what was given to and
//! received from each.

use std::collections::BTreeMap;

use fluxgate_types::{BootId, NodeId, caps};

use super::{
    Burned, CounterReport, Incarnation, Incarnations, Noted, PeerAccount, Sender, WindowCounter,
};
use crate::fault::Mutation;

impl WindowCounter {
    /// Takes the report of another node. True if it changed what this counter knows.
    pub(in crate::quota) fn hear(
        &mut self,
        incarnations: &Incarnations,
        sender: &Sender,
        mine: &CounterReport,
    ) -> bool {
        // The sender still counts by a higher limit: the limit was lowered within this window, even
        // if this node opened the window only afterwards.
        self.lowered |= mine.limit > self.tokens();
        let account = self.account(incarnations, sender.node);
        // The driver records incarnations before it delivers messages, so one with an older
        // incarnation is late.
        if account.boot.is_some_and(|boot| boot != sender.boot) {
            return false;
        }
        account.boot = Some(sender.boot);
        let burned = Some(Burned {
            incarnations: mine.incarnations,
            limit: mine.limit,
            tokens: mine.burned,
        });
        let news = account.spent < mine.spent
            || account.burned != burned
            || account.left != Some(mine.left);
        account.spent = account.spent.max(mine.spent.min(caps::LIMIT_TOKENS_MAX));
        account.burned = burned;
        account.left = Some(mine.left);
        news
    }

    /// Takes what a node reported before this counter was opened here.
    pub(in crate::quota) fn take_in(&mut self, incarnation: &Incarnation, noted: &Noted) {
        if noted.node() == incarnation.me {
            return;
        }
        self.lowered |= noted.limit() > self.tokens();
        let (spent, before, said) = noted.under(&incarnation.incarnations);
        let account = self.account(&incarnation.incarnations, noted.node());
        account.boot = account.boot.max(Some(noted.boot()));
        (account.spent, account.spent_before) = (spent, before);
        account.burned = said.map(|(burned, _)| burned);
        account.left = said.map(|(_, left)| left);
    }

    /// Takes a third node's spending, as a second node reports it.
    pub(in crate::quota) fn hear_of(
        &mut self,
        incarnations: &Incarnations,
        node: NodeId,
        spent: u64,
    ) {
        let account = self.account(incarnations, node);
        account.heard = account.heard.max(spent.min(caps::LIMIT_TOKENS_MAX));
    }

    /// The sender has given this node `given` in total. Returns the new part of it.
    pub(in crate::quota) fn receive(
        &mut self,
        incarnations: &Incarnations,
        sender: &Sender,
        given: u64,
    ) -> u64 {
        let account = self.account(incarnations, sender.node);
        if account.boot.is_some_and(|boot| boot != sender.boot)
            && !Mutation::IncarnationsIgnored.active()
        {
            return 0;
        }
        account.boot = Some(sender.boot);
        let seen = if Mutation::TransferAddsTotals.active() { 0 } else { account.got };
        let new = given.min(caps::LIMIT_TOKENS_MAX).saturating_sub(seen);
        account.got += new;
        new
    }

    /// Gives tokens to an incarnation of another node; returns the total given to it. `None`, and
    /// nothing given, if this counter knows another incarnation of it: each total belongs to one.
    pub(in crate::quota) fn give(
        &mut self,
        incarnations: &Incarnations,
        to: &Sender,
        tokens: u64,
    ) -> Option<u64> {
        let account = self.account(incarnations, to.node);
        if account.boot.is_some_and(|boot| boot != to.boot) {
            return None;
        }
        account.boot = Some(to.boot);
        account.given += tokens;
        let total = account.given;
        assert!(self.balance() >= 0 || tokens == 0, "a node gave what it did not hold");
        Some(total)
    }

    /// The total given to the current incarnation of each other node.
    pub(in crate::quota) fn given_totals(&self) -> Vec<(NodeId, BootId, u64)> {
        let given = self.accounts().iter().filter(|t| t.given > 0);
        given.filter_map(|t| Some((t.node, t.boot?, t.given))).collect()
    }

    /// Takes back tokens that demonstrably never reached the receiver.
    pub(in crate::quota) fn take_back(&mut self, to: &Sender, tokens: u64) {
        let known =
            |account: &&mut PeerAccount| account.node == to.node && account.boot == Some(to.boot);
        let accounts = self.exchange.iter_mut().flat_map(|exchange| &mut exchange.accounts);
        if let Some(account) = accounts.into_iter().find(known) {
            account.given = account.given.saturating_sub(tokens);
        }
    }

    /// The totals given to and received from an incarnation of another node.
    pub(in crate::quota) fn totals(&self, with: &Sender) -> (u64, u64) {
        let of_it = |boot| boot == with.boot;
        let known = |t: &&PeerAccount| t.node == with.node && t.boot.is_none_or(of_it);
        self.accounts().iter().find(known).map_or((0, 0), |account| (account.given, account.got))
    }

    /// The total received from the current incarnation of `node`.
    pub(in crate::quota) fn got_from(&self, node: NodeId) -> u64 {
        self.accounts().iter().find(|t| t.node == node).map_or(0, |t| t.got)
    }

    /// What this node knows of the other nodes' spending, except that of `but`.
    pub(in crate::quota) fn known(&self, but: NodeId) -> Vec<(NodeId, u64)> {
        let others = self.accounts().iter().filter(|t| t.node != but && t.spent_in_all() > 0);
        others.map(|t| (t.node, t.spent_in_all())).collect()
    }

    /// Spending per node, this one's included.
    pub(in crate::quota) fn spent_by(&self, me: NodeId) -> BTreeMap<NodeId, u64> {
        let mut by: BTreeMap<NodeId, u64> =
            self.accounts().iter().map(|t| (t.node, t.spent_in_all())).collect();
        by.insert(me, self.spent());
        by
    }

    /// The account of a node. A new account belongs to the node's newest known incarnation, even if
    /// a late message of an ended incarnation caused it.
    fn account(&mut self, incarnations: &Incarnations, node: NodeId) -> &mut PeerAccount {
        let accounts = &mut self.exchange().accounts;
        let at = accounts.iter().position(|t| t.node == node).unwrap_or_else(|| {
            let newest = incarnations.of(node).filter(|_| !Mutation::EndedSendersHeard.active());
            // One at a time: there are few nodes, and many counters.
            accounts.reserve_exact(1);
            accounts.push(PeerAccount { boot: newest, ..PeerAccount::new(node) });
            accounts.len() - 1
        });
        &mut accounts[at]
    }
}
