//! One counter in one window: what this node holds of it, and what it knows of the others.
//!
//! Answers for the arithmetic: `holding = share + received - given - spent`, the proof of
//! exhaustion, and transfers as totals that are tied to the lives of both nodes.

mod proof;

use std::collections::BTreeMap;

use fluxgate_types::{BootId, ClusterMs, KeyId, LogIndex, NodeId, caps};

use super::heard::Noted;
use super::pursuit::Pursuit;
use super::tally::{Burned, Tally};
use super::{Context, CounterId, Figure, Held, Life, Lives, Observed, Reply, Sender};
use crate::cluster_time::signed_difference;
use crate::mutation::Mutation;
use crate::registry::record::LimitSpec;
use crate::share;

/// What the life before left of a counter.
#[derive(Clone, Copy, Debug)]
struct Restored {
    tokens: i64,
    // Whether this node's shares of later limit changes come on top. Not where the share itself was
    // out of use: a cut would have been nobody's, and a raise after it would be somebody's.
    follows: bool,
}

/// One counter in one window.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) window: u64,
    pub(super) tokens: u64,
    pub(super) spent: u64,
    pub(super) dirty: bool,
    /// Proven exhausted for a cost of 1: stays so until the window ends or the limit is raised.
    pub(super) exhausted: bool,
    /// The limit was lowered in this window: what is spent may be more than it, and a share that is
    /// left admits nothing then.
    pub(super) lowered: bool,
    pub(super) pursuit: Pursuit,
    start: ClusterMs,
    map_from: ClusterMs,
    salt: u64,
    // Ranks nodes for this key, the same for all its limits: two nodes that each wait for what the
    // other holds of another limit would else wait for ever.
    rank_salt: u64,
    share: u64,
    usable: bool,
    restored: Option<Restored>,
    // Of lives that have ended: tokens that went to them, tokens that came from them.
    given_to_ended: u64,
    got_from_ended: u64,
    tallies: Vec<Tally>,
    lives_tag: u64,
    // How far the lives had come that this counter was last looked at under.
    lives_at: u128,
    shown: u64,
}

impl Cell {
    /// Opens a window with this node's share; `None` when no share map is in force, or this life does
    /// not know yet what it is entitled to: what it said of a share then, it might take back.
    pub(super) fn open(
        context: &Context<'_>,
        key: &KeyId,
        created: LogIndex,
        spec: &LimitSpec,
        window: u64,
    ) -> Option<Self> {
        let start = ClusterMs(window * spec.limit.period_ms);
        let map = context.view.map_at(start)?;
        let life = context.life;
        life.untouched()?;
        let counter = CounterId { key: *key, limit: spec.tag, window };
        let salt = share::salt(key, spec.tag, window);
        let usable = life.may_use(created, start, &counter);
        let share_of = |tokens| map.share(life.me, tokens, salt);
        let share = share_of(spec.limit.tokens);
        let left_over = life.left_over.as_ref().and_then(|map| map.get(&counter));
        let restored = left_over.map(|held| {
            let since = signed_difference(share, share_of(held.limit));
            let tokens = held.tokens.saturating_add(if held.follows { since } else { 0 });
            Restored { tokens, follows: held.follows }
        });
        Some(Self {
            window,
            tokens: spec.limit.tokens,
            spent: 0,
            dirty: false,
            exhausted: false,
            lowered: false,
            pursuit: Pursuit::default(),
            start,
            map_from: map.from,
            salt,
            rank_salt: key.mix(),
            share,
            usable,
            restored,
            given_to_ended: 0,
            got_from_ended: 0,
            tallies: Vec::new(),
            lives_tag: life.lives_tag,
            lives_at: life.lives.progress(),
            shown: u64::MAX,
        })
    }

    /// Takes over what changed since this counter was last looked at: lives and the limit.
    pub(super) fn follow(&mut self, context: &Context<'_>, spec: &LimitSpec) {
        self.reconcile(context.life);
        if self.tokens != spec.limit.tokens {
            self.set_tokens(context, spec);
        }
    }

    /// Takes over what is known of lives by now. False where this counter was looked at under newer
    /// ones already: a message that comes with older ones is late.
    pub(super) fn keeps_up(&mut self, life: &Life) -> bool {
        self.reconcile(life);
        life.lives_tag == self.lives_tag || Mutation::EndedSendersHeard.active()
    }

    /// Takes a changed limit over: each node adds or subtracts its share of the difference.
    fn set_tokens(&mut self, context: &Context<'_>, spec: &LimitSpec) {
        if let Some(map) = context.view.map_at(self.start) {
            self.lowered |= spec.limit.tokens < self.tokens;
            self.tokens = spec.limit.tokens;
            if Mutation::LimitChangeForgetsSpent.active() {
                self.spent = 0;
            }
            let share = map.share(context.life.me, self.tokens, self.salt);
            if let Some(restored) = self.restored.as_mut().filter(|restored| restored.follows) {
                let change = signed_difference(share, self.share);
                restored.tokens = restored.tokens.saturating_add(change);
            }
            self.share = share;
            self.exhausted = false;
            // What was said by the other limit has to be said again.
            self.pursuit.tried.clear();
            self.shown = u64::MAX;
        }
    }

    /// Moves what passed between this node and lives that have ended to where it belongs.
    pub(super) fn reconcile(&mut self, life: &Life) {
        // A thread that was held up between looking at the lives and at this counter comes with older
        // ones than another has been here with: what was moved to ended lives must not come back.
        if life.lives_tag == self.lives_tag || life.lives.progress() <= self.lives_at {
            return;
        }
        (self.lives_tag, self.lives_at) = (life.lives_tag, life.lives.progress());
        for tally in &mut self.tallies {
            let Some(newest) = life.lives.of(tally.node) else {
                continue;
            };
            if tally.boot.is_some_and(|boot| boot < newest) {
                self.given_to_ended += tally.given;
                self.got_from_ended += tally.got;
                tally.spent_before += tally.spent;
                (tally.given, tally.got, tally.spent) = (0, 0, 0);
                tally.left = None;
            }
            tally.boot = Some(newest);
        }
        // What others said of the burned ones has to be said again under the new lives.
        self.exhausted = false;
        self.pursuit.tried.clear();
    }

    /// What this node may still spend or give; negative after a limit was lowered.
    pub(super) fn holding(&self) -> i64 {
        let share = if self.usable { self.share } else { 0 };
        let (mut plus, mut minus) = (share + self.got_from_ended, self.spent + self.given_to_ended);
        for tally in &self.tallies {
            plus += tally.got;
            minus += tally.given;
        }
        signed_difference(plus, minus).saturating_add(self.restored())
    }

    fn restored(&self) -> i64 {
        self.restored.map_or(0, |restored| restored.tokens)
    }

    /// What an orderly stop writes down for the next life.
    pub(super) fn left_over(&self, ends: ClusterMs) -> Held {
        let follows = self.usable || self.restored.is_some_and(|restored| restored.follows);
        Held { tokens: self.holding(), limit: self.tokens, follows, ends }
    }

    /// This node's own figures.
    pub(super) fn figure(&self) -> Figure {
        let unusable = if self.usable { 0 } else { self.share };
        let from_ended =
            if Mutation::EndedLivesForgotten.active() { 0 } else { self.got_from_ended };
        let lost = signed_difference(unusable + self.given_to_ended, from_ended);
        Figure {
            spent: self.spent,
            burned: if Mutation::BurnedCountedTwice.active() { 2 * lost } else { lost }
                .saturating_sub(self.restored()),
            limit: self.tokens,
            lives: self.lives_tag,
            left: u64::try_from(self.holding()).unwrap_or(0),
        }
    }

    /// Figures of another node arrived. True if they were news.
    pub(super) fn hear(&mut self, lives: &Lives, sender: &Sender, mine: &Figure) -> bool {
        // Spent under a limit that was higher: this window knew it, wherever it was opened since.
        self.lowered |= mine.limit > self.tokens;
        let tally = self.tally(lives, sender.node);
        // The driver notes lives before it hands messages on, so an older life is a late message.
        if tally.boot.is_some_and(|boot| boot != sender.boot) {
            return false;
        }
        tally.boot = Some(sender.boot);
        let burned = Some(Burned { lives: mine.lives, limit: mine.limit, tokens: mine.burned });
        let news =
            tally.spent < mine.spent || tally.burned != burned || tally.left != Some(mine.left);
        tally.spent = tally.spent.max(mine.spent.min(caps::LIMIT_TOKENS_MAX));
        tally.burned = burned;
        tally.left = Some(mine.left);
        news
    }

    /// What a node said before this counter was opened here.
    pub(super) fn take_in(&mut self, life: &Life, noted: &Noted) {
        if noted.node() == life.me {
            return;
        }
        self.lowered |= noted.limit() > self.tokens;
        let (spent, before, said) = noted.under(&life.lives);
        let tally = self.tally(&life.lives, noted.node());
        tally.boot = tally.boot.max(Some(noted.boot()));
        (tally.spent, tally.spent_before) = (spent, before);
        tally.burned = said.map(|(burned, _)| burned);
        tally.left = said.map(|(_, left)| left);
    }

    /// A third node's spending, heard from a second one.
    pub(super) fn hear_of(&mut self, lives: &Lives, node: NodeId, spent: u64) {
        let tally = self.tally(lives, node);
        tally.heard = tally.heard.max(spent.min(caps::LIMIT_TOKENS_MAX));
    }

    /// The sender has given this node `given` in all. Returns what of it is new.
    pub(super) fn receive(&mut self, lives: &Lives, sender: &Sender, given: u64) -> u64 {
        let tally = self.tally(lives, sender.node);
        if tally.boot.is_some_and(|boot| boot != sender.boot) && !Mutation::LivesIgnored.active() {
            return 0;
        }
        tally.boot = Some(sender.boot);
        let seen = if Mutation::TransferAddsTotals.active() { 0 } else { tally.got };
        let new = given.min(caps::LIMIT_TOKENS_MAX).saturating_sub(seen);
        tally.got += new;
        new
    }

    /// Gives tokens to a life of another node; returns the total given to it. `None`, and nothing
    /// given, where this counter knows another life of it: a total is one life's.
    pub(super) fn give(&mut self, lives: &Lives, to: &Sender, tokens: u64) -> Option<u64> {
        let tally = self.tally(lives, to.node);
        if tally.boot.is_some_and(|boot| boot != to.boot) {
            return None;
        }
        tally.boot = Some(to.boot);
        tally.given += tokens;
        let total = tally.given;
        assert!(self.holding() >= 0 || tokens == 0, "a node gave what it did not hold");
        Some(total)
    }

    /// All given to each life of another node that is known as its present one.
    pub(super) fn given_totals(&self) -> Vec<(NodeId, BootId, u64)> {
        let given = self.tallies.iter().filter(|t| t.given > 0);
        given.filter_map(|t| Some((t.node, t.boot?, t.given))).collect()
    }

    /// Takes back what demonstrably never reached its new owner.
    pub(super) fn take_back(&mut self, to: &Sender, tokens: u64) {
        let known = |tally: &&mut Tally| tally.node == to.node && tally.boot == Some(to.boot);
        if let Some(tally) = self.tallies.iter_mut().find(known) {
            tally.given = tally.given.saturating_sub(tokens);
        }
    }

    /// All given to and got from a life of another node.
    pub(super) fn totals(&self, with: &Sender) -> (u64, u64) {
        let of_it = |boot| boot == with.boot;
        let known = |t: &&Tally| t.node == with.node && t.boot.is_none_or(of_it);
        self.tallies.iter().find(known).map_or((0, 0), |tally| (tally.given, tally.got))
    }

    /// What this node got from `node` in its present life.
    pub(super) fn got_from(&self, node: NodeId) -> u64 {
        self.tallies.iter().find(|t| t.node == node).map_or(0, |t| t.got)
    }

    /// What this node has heard of the others' spending, except of `but`.
    pub(super) fn known(&self, but: NodeId) -> Vec<(NodeId, u64)> {
        let others = self.tallies.iter().filter(|t| t.node != but && t.spent_in_all() > 0);
        others.map(|t| (t.node, t.spent_in_all())).collect()
    }

    /// Spending per node, this one's included.
    pub(super) fn spent_by(&self, me: NodeId) -> BTreeMap<NodeId, u64> {
        let mut by: BTreeMap<NodeId, u64> =
            self.tallies.iter().map(|t| (t.node, t.spent_in_all())).collect();
        by.insert(me, self.spent);
        by
    }

    /// The reply that states this node's figures and what it has given in all.
    pub(super) fn reply(&self, counter: CounterId, to: &Sender, given: u64) -> Reply {
        let given = if Mutation::GiftsAreLost.active() { 0 } else { given };
        Reply { counter, given, mine: Some(self.figure()), known: self.known(to.node) }
    }

    /// Which of two nodes gives way when both wait for more than half of what is left.
    pub(super) fn outranks(&self, a: NodeId, b: NodeId) -> bool {
        share::outranks(self.rank_salt, a, b)
    }

    pub(super) fn observe(&self) -> Observed {
        let transfers = self.tallies.iter().map(|t| (t.node, t.boot, t.given, t.got));
        Observed {
            share: self.share,
            usable: self.usable,
            spent: self.spent,
            holding: self.holding(),
            map_from: self.map_from,
            transfers: transfers.collect(),
        }
    }

    /// What is known of a node; a new tally is tied to its newest incarnation, so that a late message
    /// of an ended one cannot tie it to that.
    fn tally(&mut self, lives: &Lives, node: NodeId) -> &mut Tally {
        let at = self.tallies.iter().position(|t| t.node == node).unwrap_or_else(|| {
            let newest = lives.of(node).filter(|_| !Mutation::EndedSendersHeard.active());
            self.tallies.push(Tally { boot: newest, ..Tally::new(node) });
            self.tallies.len() - 1
        });
        &mut self.tallies[at]
    }
}
