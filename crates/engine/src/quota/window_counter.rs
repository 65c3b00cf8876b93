//! One counter in one window: this node's balance, and what it knows about the other nodes.
//!
//! Answers for the arithmetic: `balance = share + received - given - spent`, the proof of
//! exhaustion, and transfers as totals that are tied to the incarnations of both nodes.

mod proof;

use std::collections::BTreeMap;

use fluxgate_types::{BootId, ClusterMs, KeyId, LogIndex, NodeId, Window, caps};

use super::heard::Noted;
use super::peer_account::{Burned, PeerAccount};
use super::search::TokenSearch;
use super::{
    CarriedBalance, Context, CounterId, CounterReport, Incarnation, Incarnations, Observed, Sender,
    TransferReply, TransferTotals,
};
use crate::clock::signed_difference;
use crate::fault::Mutation;
use crate::share_map;
use crate::state::record::LimitSpec;

/// What the previous incarnation left of a counter.
#[derive(Clone, Copy, Debug)]
struct Restored {
    tokens: i64,
    // Whether this node's share of later limit changes is added. Not if the share itself was
    // unusable: a decrease would be charged to no node, and a later increase credited to one.
    follows: bool,
}

/// One counter in one window: as large as a line of a processor's cache.
#[derive(Clone, Debug)]
pub(super) struct WindowCounter {
    pub(super) window: u64,
    pub(super) spent: u64,
    // Most counters of a node that serves a key alone need none.
    exchange: Option<Box<Exchange>>,
    map_from: ClusterMs,
    incarnations_tag: u64,
    // `Incarnations::progress` when this counter was last reconciled.
    incarnations_at: u32,
    // Of the limit, which allows no more than 32 bits of either.
    tokens: u32,
    period_ms: u32,
    share: u32,
    shown: u32,
    pub(super) dirty: bool,
    /// Proven exhausted for a cost of 1: stays so until the window ends or the limit is raised.
    pub(super) exhausted: bool,
    /// The limit was lowered in this window: more than the limit may be spent already, and then a
    /// remaining share admits nothing.
    pub(super) lowered: bool,
    usable: bool,
}

const _: () = assert!(caps::LIMIT_PERIOD_MS_MAX <= u32::MAX as u64, "a period fits");
const _: () = assert!(caps::LIMIT_TOKENS_MAX < u32::MAX as u64, "tokens fit");

/// A limit's tokens or period, within the bounds of limits.
fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// What a counter has to do with other nodes and with earlier incarnations.
#[derive(Clone, Debug, Default)]
struct Exchange {
    restored: Option<Restored>,
    // Tokens given to, and received from, incarnations that have ended.
    given_to_ended: u64,
    got_from_ended: u64,
    accounts: Vec<PeerAccount>,
    search: Option<Box<TokenSearch>>,
}

impl WindowCounter {
    /// Opens a window with this node's share. `None` when no share map is in force, or when this
    /// incarnation does not know its entitlement yet: it might have to revise what it reports.
    pub(super) fn open(
        context: &Context<'_>,
        key: &KeyId,
        created: LogIndex,
        spec: &LimitSpec,
        window: u64,
    ) -> Option<Self> {
        let whole = spec.limit.window(window);
        let (tokens, period_ms) = (small(spec.limit.tokens)?, small(whole.period_ms)?);
        let map = context.view.map_at(whole.start())?;
        let incarnation = context.incarnation;
        incarnation.entitlement()?;
        let counter = CounterId { key: *key, limit: spec.tag, window };
        let salt = share_map::salt(key, spec.tag, window);
        let usable = incarnation.may_use(created, whole, &counter);
        let share_of = |tokens| map.share(incarnation.me, tokens, salt);
        let share = share_of(spec.limit.tokens);
        let carryover = incarnation.carryover.as_ref().and_then(|map| map.get(&counter));
        let restored = carryover.map(|held| {
            let since = signed_difference(share, share_of(held.limit));
            let tokens = held.tokens.saturating_add(if held.follows { since } else { 0 });
            Restored { tokens, follows: held.follows }
        });
        Some(Self {
            window,
            spent: 0,
            map_from: map.from,
            incarnations_tag: incarnation.incarnations_tag,
            incarnations_at: incarnation.incarnations.progress(),
            tokens,
            period_ms,
            // Not more than the tokens.
            share: small(share)?,
            shown: u32::MAX,
            dirty: false,
            exhausted: false,
            lowered: false,
            usable,
            exchange: restored.map(|restored| {
                Box::new(Exchange { restored: Some(restored), ..Exchange::default() })
            }),
        })
    }

    /// The limit by which this counter counts.
    pub(super) fn tokens(&self) -> u64 {
        u64::from(self.tokens)
    }

    fn share(&self) -> u64 {
        u64::from(self.share)
    }

    fn start(&self) -> ClusterMs {
        Window { number: self.window, period_ms: u64::from(self.period_ms) }.start()
    }

    fn accounts(&self) -> &[PeerAccount] {
        self.exchange.as_ref().map_or(&[], |exchange| &exchange.accounts)
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.exchange.get_or_insert_default()
    }

    /// The search for tokens, if there was one.
    pub(super) fn search(&mut self) -> Option<&mut TokenSearch> {
        self.exchange.as_mut()?.search.as_deref_mut()
    }

    /// The search for tokens, which begins if there was none.
    pub(super) fn begin_search(&mut self) -> &mut TokenSearch {
        self.exchange().search.get_or_insert_default()
    }

    /// Whether a peer gave nothing in this round of the search.
    pub(super) fn has_tried(&self, peer: NodeId) -> bool {
        let search = self.exchange.as_ref().and_then(|exchange| exchange.search.as_ref());
        search.is_some_and(|search| search.tried.contains(&peer))
    }

    /// Adopts what changed since this counter was last used: incarnations and the limit.
    pub(super) fn follow(&mut self, context: &Context<'_>, key: &KeyId, spec: &LimitSpec) {
        self.reconcile(context.incarnation);
        if self.tokens() != spec.limit.tokens {
            self.set_tokens(context, key, spec);
        }
    }

    /// Adopts the known incarnations. False if this counter has already seen newer ones: a message
    /// that comes with older ones is late.
    pub(super) fn keeps_up(&mut self, incarnation: &Incarnation) -> bool {
        self.reconcile(incarnation);
        incarnation.incarnations_tag == self.incarnations_tag
            || Mutation::EndedSendersHeard.active()
    }

    /// Adopts a changed limit: each node adds or subtracts its share of the difference.
    fn set_tokens(&mut self, context: &Context<'_>, key: &KeyId, spec: &LimitSpec) {
        let map = context.view.map_at(self.start());
        if let (Some(map), Some(tokens)) = (map, small(spec.limit.tokens)) {
            self.lowered |= tokens < self.tokens;
            self.tokens = tokens;
            if Mutation::LimitChangeForgetsSpent.active() {
                self.spent = 0;
            }
            let salt = share_map::salt(key, spec.tag, self.window);
            let share = map.share(context.incarnation.me, self.tokens(), salt);
            let change = signed_difference(share, self.share());
            self.share = small(share).unwrap_or(tokens);
            self.exhausted = false;
            self.shown = u32::MAX;
            if let Some(exchange) = &mut self.exchange {
                let restored = exchange.restored.as_mut().filter(|restored| restored.follows);
                if let Some(restored) = restored {
                    restored.tokens = restored.tokens.saturating_add(change);
                }
                // Peers must report again under the new limit.
                if let Some(search) = &mut exchange.search {
                    search.tried.clear();
                }
            }
        }
    }

    /// Moves the totals with incarnations that have ended into the ended totals.
    pub(super) fn reconcile(&mut self, incarnation: &Incarnation) {
        // A delayed thread may have read older incarnations than those that this counter already
        // knows: totals that were moved to ended incarnations must not come back.
        if incarnation.incarnations_tag == self.incarnations_tag
            || incarnation.incarnations.progress() <= self.incarnations_at
        {
            return;
        }
        (self.incarnations_tag, self.incarnations_at) =
            (incarnation.incarnations_tag, incarnation.incarnations.progress());
        // Peers must report burned tokens again under the new incarnations.
        self.exhausted = false;
        let Some(exchange) = &mut self.exchange else { return };
        if let Some(search) = &mut exchange.search {
            search.tried.clear();
        }
        for account in &mut exchange.accounts {
            let Some(newest) = incarnation.incarnations.of(account.node) else {
                continue;
            };
            if account.boot.is_some_and(|boot| boot < newest) {
                exchange.given_to_ended += account.given;
                exchange.got_from_ended += account.got;
                account.spent_before += account.spent;
                (account.given, account.got, account.spent) = (0, 0, 0);
                account.left = None;
            }
            account.boot = Some(newest);
        }
    }

    /// What this node may still spend or give; negative after a limit was lowered.
    pub(super) fn balance(&self) -> i64 {
        let share = if self.usable { self.share() } else { 0 };
        let Some(exchange) = &self.exchange else { return signed_difference(share, self.spent) };
        let mut plus = share + exchange.got_from_ended;
        let mut minus = self.spent + exchange.given_to_ended;
        for account in &exchange.accounts {
            plus += account.got;
            minus += account.given;
        }
        signed_difference(plus, minus).saturating_add(self.restored())
    }

    fn restored(&self) -> i64 {
        let restored = self.exchange.as_ref().and_then(|exchange| exchange.restored);
        restored.map_or(0, |restored| restored.tokens)
    }

    /// What an orderly stop saves for the next incarnation.
    pub(super) fn carryover(&self, ends: ClusterMs) -> CarriedBalance {
        let restored = self.exchange.as_ref().and_then(|exchange| exchange.restored);
        let follows = self.usable || restored.is_some_and(|restored| restored.follows);
        CarriedBalance { tokens: self.balance(), limit: self.tokens(), follows, ends }
    }

    /// This node's own report.
    pub(super) fn report(&self) -> CounterReport {
        let unusable = if self.usable { 0 } else { self.share() };
        let (to_ended, from_ended) = self
            .exchange
            .as_ref()
            .map_or((0, 0), |exchange| (exchange.given_to_ended, exchange.got_from_ended));
        let from_ended = if Mutation::EndedIncarnationsForgotten.active() { 0 } else { from_ended };
        let lost = signed_difference(unusable + to_ended, from_ended);
        CounterReport {
            spent: self.spent,
            burned: if Mutation::BurnedCountedTwice.active() { 2 * lost } else { lost }
                .saturating_sub(self.restored()),
            limit: self.tokens(),
            incarnations: self.incarnations_tag,
            left: u64::try_from(self.balance()).unwrap_or(0),
        }
    }

    /// Takes the report of another node. True if it changed what this counter knows.
    pub(super) fn hear(
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
    pub(super) fn take_in(&mut self, incarnation: &Incarnation, noted: &Noted) {
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
    pub(super) fn hear_of(&mut self, incarnations: &Incarnations, node: NodeId, spent: u64) {
        let account = self.account(incarnations, node);
        account.heard = account.heard.max(spent.min(caps::LIMIT_TOKENS_MAX));
    }

    /// The sender has given this node `given` in total. Returns the new part of it.
    pub(super) fn receive(
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
    pub(super) fn give(
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
    pub(super) fn given_totals(&self) -> Vec<(NodeId, BootId, u64)> {
        let given = self.accounts().iter().filter(|t| t.given > 0);
        given.filter_map(|t| Some((t.node, t.boot?, t.given))).collect()
    }

    /// Takes back tokens that demonstrably never reached the receiver.
    pub(super) fn take_back(&mut self, to: &Sender, tokens: u64) {
        let known =
            |account: &&mut PeerAccount| account.node == to.node && account.boot == Some(to.boot);
        let accounts = self.exchange.iter_mut().flat_map(|exchange| &mut exchange.accounts);
        if let Some(account) = accounts.into_iter().find(known) {
            account.given = account.given.saturating_sub(tokens);
        }
    }

    /// The totals given to and received from an incarnation of another node.
    pub(super) fn totals(&self, with: &Sender) -> (u64, u64) {
        let of_it = |boot| boot == with.boot;
        let known = |t: &&PeerAccount| t.node == with.node && t.boot.is_none_or(of_it);
        self.accounts().iter().find(known).map_or((0, 0), |account| (account.given, account.got))
    }

    /// The total received from the current incarnation of `node`.
    pub(super) fn got_from(&self, node: NodeId) -> u64 {
        self.accounts().iter().find(|t| t.node == node).map_or(0, |t| t.got)
    }

    /// What this node knows of the other nodes' spending, except that of `but`.
    pub(super) fn known(&self, but: NodeId) -> Vec<(NodeId, u64)> {
        let others = self.accounts().iter().filter(|t| t.node != but && t.spent_in_all() > 0);
        others.map(|t| (t.node, t.spent_in_all())).collect()
    }

    /// Spending per node, this one's included.
    pub(super) fn spent_by(&self, me: NodeId) -> BTreeMap<NodeId, u64> {
        let mut by: BTreeMap<NodeId, u64> =
            self.accounts().iter().map(|t| (t.node, t.spent_in_all())).collect();
        by.insert(me, self.spent);
        by
    }

    /// The reply with this node's report and the total that it has given.
    pub(super) fn reply(&self, counter: CounterId, to: &Sender, given: u64) -> TransferReply {
        let given = if Mutation::TransfersAreLost.active() { 0 } else { given };
        TransferReply { counter, given, mine: Some(self.report()), known: self.known(to.node) }
    }

    pub(super) fn observe(&self) -> Observed {
        let totals = |account: &PeerAccount| TransferTotals {
            node: account.node,
            boot: account.boot,
            given: account.given,
            got: account.got,
        };
        Observed {
            share: self.share(),
            usable: self.usable,
            spent: self.spent,
            balance: self.balance(),
            map_from: self.map_from,
            transfers: self.accounts().iter().map(totals).collect(),
        }
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
