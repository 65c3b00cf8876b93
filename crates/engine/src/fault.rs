//! The engine broken on purpose, one rule at a time.
//!
//! A check that has never failed is not known to work. Each [`Mutation`] leaves out one rule of
//! `docs/protocol.md`, and the simulator must catch every one of them. Without the feature
//! `mutations`, every query here is the constant `false`.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A receiver adds the total of every message, not the new part of it.
    TransferAddsTotals,
    /// A restarted node spends its share as if it had not run before.
    RestartRuleForgotten,
    /// A restarted node spends shares of windows that begin within the clock error of its first
    /// lease. Needs a crash, a start and a grant within that error before a window: too rare for
    /// seeds, so not in [`Mutation::ALL`].
    ClockMarginForgotten,
    /// A node denies as proven whenever its own balance is too small.
    DenyWithoutProof,
    /// Tokens that were lost with an incarnation count twice in the proof.
    BurnedCountedTwice,
    /// The burned tokens in a report ignore what was received from an ended incarnation.
    EndedIncarnationsForgotten,
    /// No node requests tokens.
    NobodyAsks,
    /// A giver reports that it has given nothing.
    TransfersAreLost,
    /// After a crash a node never gets a share again.
    ShareNeverComesBack,
    /// A new leader assumes that no node holds a lease.
    LeaseTableEmpty,
    /// A grant is valid before its index is applied. The model finds it in 7 steps, seeds only
    /// after 872, so it is not in [`Mutation::ALL`].
    GrantWithoutIndex,
    /// A write is acknowledged without waiting for lease holders.
    NoBarrier,
    /// A share map applies at once.
    MapAtOnce,
    /// A node answers without a lease.
    SpendWithoutLease,
    /// The reported remainder ignores what other nodes have spent.
    RemainingForgetsOthers,
    /// A changed limit resets the count.
    LimitChangeForgetsSpent,
    /// Messages from and for other incarnations count. Needs reports of an incarnation to arrive
    /// after those of the next one: one seed in 1 340 had it, so not in [`Mutation::ALL`].
    IncarnationsIgnored,
    /// An admission takes one token more than its cost.
    ChargedTwice,
    /// The reported remainder is 0 on every admission.
    RemainingIsNothing,
    /// Burned tokens that other nodes report count under whatever limit they were computed from.
    /// Not in 3 000 seeds, so not in [`Mutation::ALL`]: `tests/exactness.rs` has it.
    BurnedOfAnotherLimit,
    /// Only transfer replies state what was given, so tokens in a lost reply are lost.
    GossipWithoutTransfers,
    /// After a lost lease has ended the requests of a key, later requests for it get no time-outs.
    /// The cluster simulator found it at seed 1166; `tests/waiting.rs` has the shortest sequence.
    QueueForgotten,
    /// A late step reopens a forgotten window: its share is spent twice.
    ForgottenWindowsReopen,
    /// A late message of an ended incarnation counts, and ties the counter to that incarnation.
    EndedSendersHeard,
    /// The proof waits for a node that will not report on this window: it was removed before.
    RemovedAreAsked,
    /// A lease counts from its answer, not from before its request.
    LeaseFromAnswer,
    /// A leader grants without proving to a quorum that it leads.
    GrantWithoutProof,
    /// Each node grants and waits by the terms of its own file.
    TermsOfFile,
    /// A peer that timed out is never asked again.
    UnreachableForever,
    /// A node that was left out of the share map never returns to it.
    AbsentForever,
    /// Nodes whose clocks differ form a cluster, and a leader whose clock no leader has set grants.
    UnsetClockLeads,
    /// A leader whose clock a leader has set does not compare it with others.
    ClockComparedOnce,
    /// A barrier is judged by an older leader term than its entry's, which does not know every
    /// grant. Too rare for the simulator: `crates/engine/tests/member/barrier.rs`.
    BarrierOfOlderTerm,
    /// A leader that was deposed before it could grant acknowledges at once.
    DeposedAcknowledges,
    /// A grant does not require what was committed after its proof began.
    FloorForgotten,
    /// A leader that cannot write keeps the leadership.
    FullLeaderStays,
    /// A request that waits is decided by its limits as they were when it arrived.
    WaitersKeepLimits,
    /// A lease stays valid when the clocks of its holder have jumped or stood still.
    ClockJumpIgnored,
    /// A directory is the newest if it has counted as many starts as the registered one.
    StartsByNumber,
    /// A directory with a log takes part although no majority of the voters has answered.
    JoinsUnheard,
    /// An empty directory takes part although another one is registered for its node.
    LostDirectoryJoins,
    /// The directory of a removed node begins to count its starts at 1.
    CountsFromOne,
    /// A start requests its registration before the directory remembers it.
    StartNotSaved,
    /// Nodes that wait for each other's tokens rank by subject: of two that wait for two subjects,
    /// each may give way to the other. The tests of requests over several subjects have it.
    RankPerSubject,
    /// A request that waits for one subject lays no claim to the others: two nodes that each have what
    /// the other lacks give it to each other. As above.
    ClaimsForgotten,
    /// After an orderly stop a node uses its share of a window that was over before the stop.
    OverWindowsReturn,
    /// Of a leader's messages only the first counts as a contact.
    FirstContactCounts,
    /// A node says when its last contact with a leader was although it may yet acknowledge it. Needs
    /// five nodes and a message that is on its way during an election: too rare for seeds, so not in
    /// [`Mutation::ALL`]. The tests of `lease/contacts.rs` have it.
    ContactWithoutVote,
}

impl Mutation {
    /// Every mutation that the simulator must catch.
    pub const ALL: [Self; 40] = [
        Self::TransferAddsTotals,
        Self::RestartRuleForgotten,
        Self::DenyWithoutProof,
        Self::BurnedCountedTwice,
        Self::EndedIncarnationsForgotten,
        Self::NobodyAsks,
        Self::TransfersAreLost,
        Self::ShareNeverComesBack,
        Self::LeaseTableEmpty,
        Self::NoBarrier,
        Self::MapAtOnce,
        Self::SpendWithoutLease,
        Self::RemainingForgetsOthers,
        Self::LimitChangeForgetsSpent,
        Self::GossipWithoutTransfers,
        Self::QueueForgotten,
        Self::ChargedTwice,
        Self::RemainingIsNothing,
        Self::ForgottenWindowsReopen,
        Self::EndedSendersHeard,
        Self::RemovedAreAsked,
        Self::LeaseFromAnswer,
        Self::GrantWithoutProof,
        Self::TermsOfFile,
        Self::UnreachableForever,
        Self::AbsentForever,
        Self::UnsetClockLeads,
        Self::ClockComparedOnce,
        Self::DeposedAcknowledges,
        Self::FloorForgotten,
        Self::FullLeaderStays,
        Self::WaitersKeepLimits,
        Self::ClockJumpIgnored,
        Self::StartsByNumber,
        Self::JoinsUnheard,
        Self::LostDirectoryJoins,
        Self::CountsFromOne,
        Self::StartNotSaved,
        Self::OverWindowsReturn,
        Self::FirstContactCounts,
    ];

    /// Whether this thread's engine leaves this rule out.
    #[must_use]
    #[inline]
    pub fn active(self) -> bool {
        #[cfg(feature = "mutations")]
        {
            ACTIVE.get() == Some(self)
        }
        #[cfg(not(feature = "mutations"))]
        {
            false
        }
    }

    /// Leaves this rule out, or none, in this thread from this call on.
    #[cfg(feature = "mutations")]
    pub fn set(mutation: Option<Self>) {
        ACTIVE.set(mutation);
    }
}

#[cfg(feature = "mutations")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}
