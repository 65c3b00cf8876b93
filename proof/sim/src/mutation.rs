//! Rules that the driver may leave out, as [`fluxgate_engine::fault`] has them for the engine.

use fluxgate_engine::fault::Mutation;

use fluxgate_plan::{FaultKind, Plan};

/// A rule of the driver around the engine that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriverMutation {
    /// A node acknowledges entries before they are synced.
    AckBeforeSync,
    /// One node does not apply every entry.
    ApplySkips,
    /// The file of an orderly stop is used again.
    FileUsedTwice,
    /// An incarnation starts its clock from the wall clock, and ignores the checkpoint of an earlier one.
    ClockFromWall,
    /// A step reads the view before the horizon, and is held up between the two.
    ViewBeforeHorizon,
}

impl DriverMutation {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeSync,
        Self::ApplySkips,
        Self::FileUsedTwice,
        Self::ClockFromWall,
        Self::ViewBeforeHorizon,
    ];
}

/// The invariant that judges a broken variant alone, where others would notice it sooner.
#[must_use]
pub fn judge(
    mutation: Option<Mutation>,
    driver_mutation: Option<DriverMutation>,
) -> Option<&'static str> {
    match (mutation, driver_mutation) {
        (Some(Mutation::ChargedTwice), _) => Some("loss_is_bounded"),
        (Some(Mutation::RemovedAreAsked | Mutation::EndedSendersHeard), _) => {
            Some("restart_is_free")
        }
        (Some(Mutation::LeaseFromAnswer), _) => Some("revoked_means_revoked"),
        (Some(Mutation::UnsetClockLeads | Mutation::ClockComparedOnce), _) => {
            Some("time_is_bounded")
        }
        (Some(Mutation::WaitersKeepLimits), _) => Some("limits_are_as_set"),
        (_, Some(DriverMutation::ViewBeforeHorizon)) => Some("one_map_per_window"),
        (_, Some(DriverMutation::ApplySkips)) => Some("replicas_agree"),
        (_, Some(DriverMutation::AckBeforeSync)) => Some("acked_is_durable"),
        (_, Some(DriverMutation::ClockFromWall)) => Some("no_second_life"),
        (
            Some(Mutation::StartsByNumber | Mutation::JoinsUnheard | Mutation::LostDirectoryJoins),
            _,
        ) => Some("old_directories_stay_out"),
        (Some(Mutation::StartNotSaved), _) => Some("old_directories_stay_out"),
        (Some(Mutation::AbsentForever | Mutation::CountsFromOne), _) => Some("cluster_heals"),
        _ => None,
    }
}

/// A plan that puts a rule to the test, where it takes some faults together or one alone.
#[must_use]
pub fn plan(
    mutation: Option<Mutation>,
    driver_mutation: Option<DriverMutation>,
    seed: u64,
) -> Plan {
    match (mutation, driver_mutation) {
        (Some(Mutation::LeaseFromAnswer), _) => {
            Plan::focused(seed, &[FaultKind::Lopsided, FaultKind::Cut])
        }
        // An acknowledged entry that is not synced is lost only if a majority crashes soon after.
        (_, Some(DriverMutation::AckBeforeSync)) => {
            Plan::focused(seed, &[FaultKind::CrashAll, FaultKind::SlowDisk])
        }
        (_, Some(DriverMutation::ViewBeforeHorizon)) => {
            Plan::focused(seed, &[FaultKind::Cut, FaultKind::Pause])
        }
        (Some(Mutation::TermsOfFile), _) => {
            let kinds = [FaultKind::HandOver, FaultKind::Cut, FaultKind::Crash];
            Plan::focused(seed, &kinds).with_terms(true)
        }
        (Some(Mutation::DeposedAcknowledges), _) => Plan::of_short_leaderships(seed),
        (Some(Mutation::FloorForgotten), _) => Plan::of_late_proofs(seed),
        (Some(Mutation::UnsetClockLeads), _) => Plan::of_wrong_clocks(seed),
        (Some(Mutation::ClockComparedOnce), _) => Plan::of_late_leaders(seed),
        (Some(Mutation::FullLeaderStays), _) => Plan::of_full_disks(seed),
        (Some(Mutation::ClockJumpIgnored), _) => Plan::of_stopped_clocks(seed),
        (Some(Mutation::WaitersKeepLimits), _) => Plan::of_changing_limits(seed),
        (Some(Mutation::StartsByNumber), _) => Plan::of_directories(seed, &[FaultKind::PutBack]),
        (Some(Mutation::JoinsUnheard), _) => {
            Plan::of_directories(seed, &[FaultKind::PutBack, FaultKind::Cut, FaultKind::CrashAll])
        }
        (Some(Mutation::LostDirectoryJoins), _) => {
            Plan::of_directories(seed, &[FaultKind::LostDisk])
        }
        (Some(Mutation::CountsFromOne), _) => Plan::of_directories(seed, &[FaultKind::Replace]),
        (Some(Mutation::StartNotSaved), _) => Plan::of_directories(seed, &[FaultKind::Crash]),
        (Some(Mutation::OverWindowsReturn), _) => Plan::of_stopped_machines(seed),
        (Some(Mutation::RemovedAreAsked), _) => Plan::of_restarts(seed, 0),
        (Some(Mutation::EndedSendersHeard), _) => {
            Plan { cost_max: 5, ..Plan::of_restarts(seed, 900) }
        }
        // A node repeats a request whose reply it could not use. Only where another node served the
        // request, and a third node needs the tokens, gossip alone shows where they are.
        (Some(Mutation::GossipWithoutTransfers), _) => {
            Plan { demand_percent: 110, cost_max: 10, keys: 8, ..Plan::of_restarts(seed, 900) }
        }
        _ => Plan::of(seed),
    }
}
