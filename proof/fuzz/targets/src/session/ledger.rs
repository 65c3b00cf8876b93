//! The ledger of a session: what the node must have, and the check that it has it.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CounterId, Decision, Sender, Verdict};
use fluxgate_engine::share_map;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, ClusterMs, NodeId, Subject, caps};

use super::{ME, Session};

/// The tokens of one counter that this node must have.
#[derive(Default)]
pub(super) struct Account {
    pub(super) spent: u64,
    /// Tokens given to and received from each incarnation.
    pub(super) given: BTreeMap<(NodeId, BootId), u64>,
    pub(super) got: BTreeMap<(NodeId, BootId), u64>,
    /// The last remaining that a decision showed, and the limit at that time.
    pub(super) shown: Option<(u64, u64)>,
}

impl Session {
    /// Records a decision, with the limits on which it was based.
    pub(super) fn decided(
        &mut self,
        key: &Subject,
        cost: u64,
        decision: &Decision,
        specs: &[LimitSpec],
    ) {
        if decision.verdict == Verdict::Unavailable {
            return;
        }
        assert!(self.leased && !self.draining, "decided without a lease");
        let spec = &specs[decision.limit_at];
        assert_eq!(decision.tokens, spec.limit.tokens);
        assert!(decision.remaining <= decision.tokens);
        let counter = self.counter_of(key, spec);
        let account = self.accounts.entry(counter).or_default();
        if let Some((tokens, shown)) = account.shown.replace((decision.tokens, decision.remaining))
        {
            let risen = tokens == decision.tokens && decision.remaining > shown;
            assert!(!risen, "remaining rose from {shown} to {}", decision.remaining);
        }
        if decision.verdict != Verdict::Admitted || cost == 0 {
            return;
        }
        for spec in specs {
            let counter = self.counter_of(key, spec);
            self.accounts.entry(counter).or_default().spent += cost;
            self.touched.push((counter, "spent"));
        }
    }

    pub(super) fn got(&mut self, counter: &CounterId, sender: &Sender, given: u64) {
        let account = self.accounts.entry(*counter).or_default();
        let got = account.got.entry((sender.node, sender.boot)).or_default();
        *got = (*got).max(given.min(caps::LIMIT_TOKENS_MAX));
        self.handle_effects();
        self.check_ledger(counter, "got");
    }

    /// The balance of a counter, by the ledger and the share that the shard uses.
    pub(super) fn balance(&self, counter: &CounterId) -> i128 {
        let Some(observed) = self.shard.observe(counter) else { return 0 };
        let share = if observed.usable { observed.share } else { 0 };
        let sum = |of: &BTreeMap<_, u64>| of.values().map(|n| i128::from(*n)).sum::<i128>();
        let plain = i128::from(share);
        self.accounts.get(counter).map_or(plain, |account| {
            plain + sum(&account.got) - sum(&account.given) - i128::from(account.spent)
        })
    }

    /// The shard's own balance is the ledger's, and its share is that of the map.
    pub(super) fn check_ledger(&self, counter: &CounterId, when: &str) {
        let Some(observed) = self.shard.observe(counter) else { return };
        let ledger = self.balance(counter);
        assert_eq!(i128::from(observed.balance), ledger, "{when}: {counter:?} {observed:?}");
        let limits = &self.key_limits[&counter.subject].specs;
        let Some(spec) = limits.iter().find(|spec| spec.tag == counter.limit) else { return };
        let start = ClusterMs(counter.window * spec.limit.period_ms);
        let map = self.view.map_at(start).expect("the first map applies from the beginning");
        let salt = share_map::salt(&counter.subject, counter.limit, counter.window);
        // A step with a lease and no drain has adopted the limit.
        if self.leased && !self.draining && matches!(when, "spent" | "given" | "asked") {
            assert_eq!(observed.share, map.share(ME, spec.limit.tokens, salt), "{when}");
        }
    }

    pub(super) fn given_to(&self, counter: &CounterId, to: &Sender) -> u64 {
        let account = self.accounts.get(counter);
        account.and_then(|a| a.given.get(&(to.node, to.boot))).copied().unwrap_or(0)
    }
}
