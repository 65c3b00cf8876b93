//! One counter in one window: this node's balance, and what it knows about the other nodes.
//!
//! Answers for the arithmetic: `balance = share + received - given - spent`, the proof of
//! exhaustion, and transfers as totals that are tied to the incarnations of both nodes.

mod accounts;
mod proof;

use fluxgate_types::{ClusterMs, LogIndex, NodeId, Subject, Window, caps};
use smallvec::SmallVec;

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

/// One counter in one window.
#[derive(Clone, Debug)]
pub(super) struct WindowCounter {
    // A window of one second has a number of 32 bits until the year 2106.
    window: u32,
    spent: u32,
    // Most counters of a node that serves a subject alone need none.
    exchange: Option<Box<Exchange>>,
    incarnations_tag: u64,
    // `Incarnations::progress` when this counter was last reconciled.
    incarnations_at: u64,
    // Of the limit, which allows no more than 32 bits of either.
    tokens: u32,
    period_ms: u32,
    share: u32,
    shown: u32,
    // How long before this window the share map began, in milliseconds, without the bits above 32:
    // for observers.
    map_age: u32,
    pub(super) dirty: bool,
    /// Proven exhausted for a cost of 1: stays so until the window ends or the limit is raised.
    pub(super) exhausted: bool,
    /// The limit was lowered in this window: more than the limit may be spent already, and then a
    /// remaining share admits nothing.
    pub(super) lowered: bool,
    usable: bool,
}

const _: () = assert!(size_of::<WindowCounter>() == 56, "a node has a million of them");
const _: () = assert!(caps::LIMIT_PERIOD_MS_MAX <= u32::MAX as u64, "a period fits");
const _: () = assert!(caps::LIMIT_TOKENS_MAX < u32::MAX as u64, "tokens fit");

/// A limit's tokens or period, within the bounds of limits, or a window's number.
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
    // In a cluster of three there are two, and a denial reads them: in one piece with the rest.
    accounts: SmallVec<[PeerAccount; 2]>,
    search: Option<Box<TokenSearch>>,
}

impl Exchange {
    fn restored_tokens(&self) -> i64 {
        self.restored.map_or(0, |restored| restored.tokens)
    }
}

impl WindowCounter {
    /// Opens a window with this node's share. `None` when no share map is in force, or when this
    /// incarnation does not know its entitlement yet: it might have to revise what it reports.
    pub(super) fn open(
        context: &Context<'_>,
        subject: &Subject,
        created: LogIndex,
        spec: &LimitSpec,
        window: u64,
    ) -> Option<Self> {
        let whole = spec.limit.window(window);
        let (tokens, period_ms) = (small(spec.limit.tokens)?, small(whole.period_ms)?);
        let map = context.view.map_at(whole.start())?;
        let incarnation = context.incarnation;
        incarnation.entitlement()?;
        let counter = CounterId { subject: *subject, limit: spec.tag, window };
        let salt = share_map::salt(subject, spec.tag, window);
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
            window: small(window)?,
            spent: 0,
            incarnations_tag: incarnation.incarnations_tag,
            incarnations_at: incarnation.incarnations.progress(),
            tokens,
            period_ms,
            // Not more than the tokens.
            share: small(share)?,
            shown: u32::MAX,
            map_age: u32::try_from((whole.start() - map.from) % (1 << 32)).unwrap_or(0),
            dirty: false,
            exhausted: false,
            lowered: false,
            usable,
            exchange: restored.map(|restored| {
                Box::new(Exchange { restored: Some(restored), ..Exchange::default() })
            }),
        })
    }

    /// The number of the window.
    pub(super) fn window(&self) -> u64 {
        u64::from(self.window)
    }

    /// Tokens that this node's requests have spent.
    pub(super) fn spent(&self) -> u64 {
        u64::from(self.spent)
    }

    /// Spends tokens. A balance beyond 32 bits would be the work of peers that lie.
    pub(super) fn spend(&mut self, tokens: u64) {
        self.spent = small(self.spent() + tokens).unwrap_or(u32::MAX);
    }

    /// The limit by which this counter counts.
    pub(super) fn tokens(&self) -> u64 {
        u64::from(self.tokens)
    }

    fn share(&self) -> u64 {
        u64::from(self.share)
    }

    fn start(&self) -> ClusterMs {
        Window { number: self.window(), period_ms: u64::from(self.period_ms) }.start()
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
    pub(super) fn follow(&mut self, context: &Context<'_>, subject: &Subject, spec: &LimitSpec) {
        self.reconcile(context.incarnation);
        if self.tokens() != spec.limit.tokens {
            self.set_tokens(context, subject, spec);
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
    fn set_tokens(&mut self, context: &Context<'_>, subject: &Subject, spec: &LimitSpec) {
        let map = context.view.map_at(self.start());
        if let (Some(map), Some(tokens)) = (map, small(spec.limit.tokens)) {
            self.lowered |= tokens < self.tokens;
            self.tokens = tokens;
            if Mutation::LimitChangeForgetsSpent.active() {
                self.spent = 0;
            }
            let salt = share_map::salt(subject, spec.tag, self.window());
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
        let Some(exchange) = &self.exchange else { return signed_difference(share, self.spent()) };
        let mut plus = share + exchange.got_from_ended;
        let mut minus = self.spent() + exchange.given_to_ended;
        for account in &exchange.accounts {
            plus += account.got;
            minus += account.given;
        }
        signed_difference(plus, minus).saturating_add(exchange.restored_tokens())
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
        let exchange = self.exchange.as_deref();
        let to_ended = exchange.map_or(0, |exchange| exchange.given_to_ended);
        let from_ended = exchange
            .filter(|_| !Mutation::EndedIncarnationsForgotten.active())
            .map_or(0, |exchange| exchange.got_from_ended);
        let lost = signed_difference(unusable + to_ended, from_ended);
        CounterReport {
            spent: self.spent(),
            burned: if Mutation::BurnedCountedTwice.active() { 2 * lost } else { lost }
                .saturating_sub(exchange.map_or(0, Exchange::restored_tokens)),
            limit: self.tokens(),
            incarnations: self.incarnations_tag,
            left: u64::try_from(self.balance()).unwrap_or(0),
        }
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
            spent: self.spent(),
            balance: self.balance(),
            map_from: ClusterMs(self.start().0.saturating_sub(u64::from(self.map_age))),
            transfers: self.accounts().iter().map(totals).collect(),
        }
    }
}
