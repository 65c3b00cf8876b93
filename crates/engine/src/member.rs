//! What this node does as a member of the cluster.
//!
//! One machine without I/O: `handle_*` takes what happened, [`Member::poll_timeout`] says when to
//! call [`Member::handle_timeout`] at the latest, and each step lists what it asks for as
//! [`Effect`]s. Its drivers (`crates/node/src/member.rs`, and the simulator's node) carry those out
//! and decide nothing.
//!
//! Answers for: when this node may answer from its own copy of the keys, and by which clock
//! ([`renewal`], [`clocks`]); what a leader grants ([`granting`]) and owes the cluster
//! ([`leadership`]); where a write goes ([`routing`]), and when it may be acknowledged ([`barrier`]).
//!
//! A driver holds one lock around each step, reads the surroundings inside it, publishes what other
//! threads read (the lease, the clock, the incarnation) before it releases the lock, and carries
//! the effects out afterwards. Requests are decided without this lock.

mod barrier;
mod clocks;
mod effect;
mod granting;
mod leadership;
mod peers;
mod renewal;
mod routing;
mod step;

use std::sync::Arc;

use fluxgate_types::{BootNs, DirId, Limit, NodeId, SubjectSeed};

use crate::clock::ClusterClock;
use crate::fault::Mutation;
use crate::lease::{LeaseHolder, LeaseTerms, TermsWatch};
use crate::quota::Incarnation;
use crate::state::cluster_state::StartId;

pub use effect::{
    APPLIED_WAIT_MS, CallId, ClockJump, ClocksHeard, Effect, LEASE_TIMEOUT_MS, LeaseAnswer,
    LeaseRequest, NotRenewed, SeenLeadership, SubmitError, Submitted, Written,
};
pub use step::{ClusterMember, OwnHealth, PeerReport, Step, Surroundings};

/// What a node's configuration and its data directory say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lease terms of its configuration: what it proposes as a leader.
    pub terms: LeaseTerms,
    /// The default limits of its configuration: what it proposes as a leader.
    pub default_limits: Vec<Limit>,
    /// Drawn at random: the seed that it proposes as the leader of a cluster without one.
    pub seed: Option<SubjectSeed>,
    /// How often a leader looks after its duties, milliseconds.
    pub look_ms: u64,
    /// An earlier start saved cluster time, and the clock was carried on from there.
    pub clock_carried: bool,
}

/// The terms by which this node grants and renews, and the longest under which a promise may still
/// run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermsNow {
    /// The terms in force.
    pub in_force: LeaseTerms,
    /// The longest ones whose promises may not have ended.
    pub cautious: LeaseTerms,
}

/// This node as a member of the cluster.
#[derive(Debug)]
pub struct Member {
    me: NodeId,
    start: StartId,
    dir_id: DirId,
    settings: Settings,
    terms: TermsWatch,
    clock: ClusterClock,
    holder: LeaseHolder,
    incarnation: Arc<Incarnation>,
    silences: peers::Silences,
    renewal: renewal::Renewal,
    granting: granting::Granting,
    leadership: leadership::Leadership,
    barriers: barrier::Barriers,
    writes: routing::Writes,
    last_call: CallId,
}

impl Member {
    /// A node at its start. `clock` is its first idea of cluster time, `incarnation` what its data
    /// directory entitles it to.
    #[must_use]
    pub fn new(
        start: StartId,
        dir_id: DirId,
        settings: Settings,
        clock: ClusterClock,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            me: incarnation.me,
            start,
            dir_id,
            terms: TermsWatch::new(settings.terms),
            settings,
            clock,
            holder: LeaseHolder::default(),
            incarnation: Arc::new(incarnation),
            silences: peers::Silences::default(),
            renewal: renewal::Renewal::default(),
            granting: granting::Granting::default(),
            leadership: leadership::Leadership::default(),
            barriers: barrier::Barriers::default(),
            writes: routing::Writes::default(),
            last_call: 0,
        }
    }

    /// A number for a call of a driver, such as [`Member::handle_write`].
    pub fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        self.last_call
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Which start of the node this is.
    #[must_use]
    pub fn start(&self) -> StartId {
        self.start
    }

    /// Cluster time as this node knows it.
    #[must_use]
    pub fn clock(&self) -> &ClusterClock {
        &self.clock
    }

    /// This node's lease.
    #[must_use]
    pub fn holder(&self) -> &LeaseHolder {
        &self.holder
    }

    /// The terms by which this node grants and renews now. Adopts those of the replicated state
    /// first.
    pub fn lease_terms(&mut self, step: &Step<'_>) -> TermsNow {
        let now = step.now();
        self.terms.observe(now, &step.around.shared().cluster().terms);
        if Mutation::TermsOfFile.active() {
            let terms = self.settings.terms;
            return TermsNow { in_force: terms, cautious: terms };
        }
        TermsNow { in_force: self.terms.in_force(), cautious: self.terms.cautious(now) }
    }

    /// When [`Member::handle_timeout`] is due, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> BootNs {
        self.renewal
            .poll_timeout()
            .min(self.leadership.poll_timeout())
            .min(self.barriers.poll_timeout())
            .min(self.writes.poll_timeout())
    }

    /// Does what is due. Call it when [`Member::poll_timeout`] has come, and whenever consensus has
    /// another leader, term or list of members, or has applied an entry; an early call does no
    /// harm.
    pub fn handle_timeout(&mut self, step: &mut Step<'_>) {
        self.holder.handle_applied(step.around.applied());
        let error_ms = self.lease_terms(step).cautious.clock_error_ms_max;
        if self.incarnation.clock_error_ms_max != error_ms {
            self.change_incarnation(|incarnation| incarnation.clock_error_ms_max = error_ms);
        }
        self.grant_applied(step);
        self.renew(step);
        self.look_after_cluster(step);
        self.look_at_writes(step);
        self.look_at_barriers(step);
    }

    /// The operator has set cluster time forward, and the entry that says so is committed.
    pub fn handle_time_set(&mut self, to_ns: u64, step: &mut Step<'_>) {
        self.clock.catch_up(step.now(), to_ns);
        self.renew_now(step);
    }
}
