//! The lease holder's side: when a node may answer from its own copy of the key table.

use fluxgate_types::{BootNs, ClusterMs, LogIndex};

use super::{Grant, LeaseTerms};
use crate::fault::Mutation;

/// The first lease of this incarnation: an earlier incarnation cannot have spent from windows that
/// begin, or from keys that are created, after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLease {
    /// The leader's cluster time when it granted.
    pub at: ClusterMs,
    /// The commit index that the grant carried.
    pub index: LogIndex,
}

/// A grant that counts once the entry at its index is applied.
#[derive(Clone, Copy, Debug)]
struct WaitingGrant {
    index: LogIndex,
    until: BootNs,
    horizon: ClusterMs,
}

/// A node's view of its own lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseHolder {
    until: BootNs,
    horizon: ClusterMs,
    // Grants that wait for their index to be applied, oldest first.
    waiting: Vec<WaitingGrant>,
    first: Option<FirstLease>,
}

/// How many grants may wait for their index; the oldest one is dropped for a new one.
const WAITING_GRANTS_MAX: usize = 16;

impl LeaseHolder {
    /// The lease is valid before this moment. Compare it with a clock read made for the spend.
    #[must_use]
    pub fn until(&self) -> BootNs {
        self.until
    }

    /// Windows that begin before this moment may be opened.
    #[must_use]
    pub fn horizon(&self) -> ClusterMs {
        self.horizon
    }

    /// The first grant of this incarnation, once there was one.
    #[must_use]
    pub fn first(&self) -> Option<FirstLease> {
        self.first
    }

    /// Takes the answer to a request that was sent at `sent`.
    pub fn handle_grant(&mut self, sent: BootNs, grant: &Grant, applied: LogIndex) {
        let at = ClusterMs(grant.cluster_ns / 1_000_000);
        self.first.get_or_insert(FirstLease { at, index: grant.index });
        if self.waiting.len() == WAITING_GRANTS_MAX {
            self.waiting.remove(0);
        }
        let index = if Mutation::GrantWithoutIndex.active() { LogIndex(0) } else { grant.index };
        let (until, horizon) = (sent.plus_ms(grant.holder_ms), grant.horizon);
        self.waiting.push(WaitingGrant { index, until, horizon });
        self.handle_applied(applied);
    }

    /// Entries up to `applied` are in this node's table: grants that waited for them become valid.
    pub fn handle_applied(&mut self, applied: LogIndex) {
        for grant in self.waiting.iter().filter(|grant| grant.index <= applied) {
            self.until = self.until.max(grant.until);
            self.horizon = self.horizon.max(grant.horizon);
        }
        self.waiting.retain(|grant| grant.index > applied);
    }

    /// After a clock jump the age of this node's leases is unknown: all grants are void.
    pub fn handle_clock_jump(&mut self) {
        if Mutation::ClockJumpIgnored.active() {
            return;
        }
        self.waiting.clear();
        self.until = BootNs(0);
    }

    /// This node leads from `now` on: the lease that an earlier leader granted it is cut to the
    /// short lease that the next leader will assume.
    pub fn handle_elected(&mut self, now: BootNs, terms: &LeaseTerms) {
        self.waiting.clear();
        self.until = self.until.min(now.plus_ms(terms.own_holder_ms()));
    }
}
