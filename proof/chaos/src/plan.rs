//! The plan of a seed: which faults come, alone and in pairs, at which nodes, for how long.
//!
//! Every kind comes once before any kind comes again, so a long run sees them all. A run of a few
//! minutes sees about twenty, so the kinds without which a promise has nothing to judge come early.

use std::time::Duration;

use crate::scenario::{self, Deck, Scenario};
use crate::terms::Terms;
use fluxgate_plan::Rng;

/// Among the first `EARLY` faults there is one of each of [`NEEDED`].
const EARLY: usize = 8;

/// Kinds without which a promise has nothing to judge: one node cut off from the majority for
/// longer than its lease (`isolated_falls_silent`), and one fault that other nodes must not notice
/// (`survivors_serve`).
const NEEDED: [fn(Kind) -> bool; 2] = [Kind::isolates, Kind::is_quiet];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Kill,
    KillLeader,
    KillAll,
    Stop,
    StopLeader,
    StopAll,
    PauseShort,
    PauseLong,
    PauseLeader,
    Stutter,
    Cut,
    CutLeader,
    CutIn,
    CutOut,
    Bridge,
    Split,
    Unplug,
    Loss,
    Resets,
    Narrow,
    WallForward,
    WallBack,
    Drift,
    SlowSync,
    SyncFails,
    LeaderSyncFails,
    LeaderSyncSlow,
    DiskLow,
    DiskFull,
    HandOver,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Kill,
        Self::KillLeader,
        Self::KillAll,
        Self::Stop,
        Self::StopLeader,
        Self::StopAll,
        Self::PauseShort,
        Self::PauseLong,
        Self::PauseLeader,
        Self::Stutter,
        Self::Cut,
        Self::CutLeader,
        Self::CutIn,
        Self::CutOut,
        Self::Bridge,
        Self::Split,
        Self::Unplug,
        Self::Loss,
        Self::Resets,
        Self::Narrow,
        Self::WallForward,
        Self::WallBack,
        Self::Drift,
        Self::SlowSync,
        Self::SyncFails,
        Self::LeaderSyncFails,
        Self::LeaderSyncSlow,
        Self::DiskLow,
        Self::DiskFull,
        Self::HandOver,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillLeader => "kill_leader",
            Self::KillAll => "kill_all",
            Self::Stop => "stop",
            Self::StopLeader => "stop_leader",
            Self::StopAll => "stop_all",
            Self::PauseShort => "pause_short",
            Self::PauseLong => "pause_long",
            Self::PauseLeader => "pause_leader",
            Self::Stutter => "stutter",
            Self::Cut => "cut",
            Self::CutLeader => "cut_leader",
            Self::CutIn => "cut_in",
            Self::CutOut => "cut_out",
            Self::Bridge => "bridge",
            Self::Split => "split",
            Self::Unplug => "unplug",
            Self::Loss => "loss",
            Self::Resets => "resets",
            Self::Narrow => "narrow",
            Self::WallForward => "wall_forward",
            Self::WallBack => "wall_back",
            Self::Drift => "drift",
            Self::SlowSync => "slow_sync",
            Self::SyncFails => "sync_fails",
            Self::LeaderSyncFails => "leader_sync_fails",
            Self::LeaderSyncSlow => "leader_sync_slow",
            Self::DiskLow => "disk_low",
            Self::DiskFull => "disk_full",
            Self::HandOver => "hand_over",
        }
    }

    /// Whether the current leader is its target.
    pub(crate) const fn is_for_leader(self) -> bool {
        matches!(
            self,
            Self::KillLeader
                | Self::StopLeader
                | Self::PauseLeader
                | Self::CutLeader
                | Self::LeaderSyncFails
                | Self::LeaderSyncSlow
                | Self::HandOver
        )
    }

    /// Whether the other nodes must not notice it.
    pub(crate) const fn is_quiet(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::KillLeader
                | Self::Stop
                | Self::StopLeader
                | Self::WallForward
                | Self::WallBack
                | Self::HandOver
        )
    }

    /// Whether even its target keeps serving.
    pub(crate) const fn affects_no_node(self) -> bool {
        matches!(self, Self::HandOver)
    }

    /// Whether its targets hear nothing from a majority.
    pub(crate) const fn isolates(self) -> bool {
        matches!(self, Self::Cut | Self::CutLeader | Self::CutIn | Self::CutOut | Self::Split)
    }

    /// How long it lasts: sometimes less than a lease, sometimes more.
    fn hold_ms(self, rng: &mut Rng) -> u64 {
        match self {
            Self::PauseShort => rng.between(100, 900),
            Self::PauseLong | Self::PauseLeader => rng.between(3_500, 5_500),
            Self::Cut | Self::CutLeader | Self::CutIn | Self::CutOut | Self::Split => {
                if rng.percent(25) { rng.between(300, 2_000) } else { rng.between(3_500, 6_000) }
            }
            Self::HandOver | Self::WallForward | Self::WallBack => rng.between(1_500, 2_500),
            Self::KillAll | Self::StopAll => rng.between(100, 1_500),
            Self::Kill
            | Self::KillLeader
            | Self::Stop
            | Self::StopLeader
            | Self::Stutter
            | Self::Bridge
            | Self::Unplug
            | Self::Loss
            | Self::Resets
            | Self::Narrow
            | Self::Drift
            | Self::SlowSync
            | Self::SyncFails
            | Self::LeaderSyncFails
            | Self::LeaderSyncSlow
            | Self::DiskLow
            | Self::DiskFull => rng.between(1_000, 4_500),
        }
    }
}

/// One fault of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    /// Which node, counted from 0; ignored where the leader is the target.
    pub(crate) node: u64,
    pub(crate) hold: Duration,
    /// How long after the start of the round.
    pub(crate) delay: Duration,
    /// Random bits for what the kind leaves open.
    pub(crate) draw: u64,
}

/// Faults that are present at the same time, and the calm phase after them.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) faults: Vec<Planned>,
    /// A scenario has the round to itself.
    pub(crate) scenario: Option<scenario::Planned>,
    pub(crate) calm: Duration,
}

/// All rounds of a seed, one after another, without end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    rng: Rng,
    nodes: u64,
    deck: Vec<Kind>,
    scenario: Deck,
    only: bool,
    made: u64,
    has_isolated: bool,
    longest_lease_ms: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, nodes: u64, terms: Terms, only: Option<Scenario>) -> Self {
        let mut rng = Rng::stream(seed, 1);
        let scenario = Deck::new(terms, only, &mut rng);
        Self {
            rng,
            nodes,
            deck: Vec::new(),
            scenario,
            only: only.is_some(),
            made: 0,
            has_isolated: false,
            longest_lease_ms: terms.longest_ms(),
        }
    }

    fn draw(&mut self) -> Planned {
        if self.deck.is_empty() {
            self.deck = Kind::ALL.to_vec();
            self.rng.shuffle(&mut self.deck);
            self.bring_needed_forward();
        }
        let kind = self.deck.pop().unwrap_or(Kind::Kill);
        let mut hold_ms = kind.hold_ms(&mut self.rng);
        if kind.isolates() && !self.has_isolated {
            // The first one outlasts every lease: a shorter one cannot be judged.
            self.has_isolated = true;
            hold_ms = self.longest_lease_ms + self.rng.between(1_000, 3_000);
        }
        Planned {
            kind,
            node: self.rng.draw() % self.nodes,
            hold: Duration::from_millis(hold_ms),
            delay: Duration::ZERO,
            draw: self.rng.draw(),
        }
    }

    /// `draw` pops from the end of the deck.
    fn bring_needed_forward(&mut self) {
        let early = self.deck.len().saturating_sub(EARLY);
        for is_needed in NEEDED {
            let is_free = |kind: &Kind| !NEEDED.iter().any(|needed| needed(*kind));
            let places = early..self.deck.len();
            let free: Vec<usize> =
                places.filter(|place| self.deck.get(*place).is_some_and(is_free)).collect();
            let found = self.deck.iter().rposition(|kind| is_needed(*kind));
            let place = free.get(self.rng.place(free.len()));
            if let (Some(found), Some(place)) = (found.filter(|found| *found < early), place) {
                self.deck.swap(found, *place);
            }
        }
    }

    pub(crate) fn next_round(&mut self) -> Round {
        self.made += 1;
        let turn = self.only || self.made % 2 == 1;
        let scenario = if turn { self.scenario.draw(&mut self.rng) } else { None };
        let mut faults = Vec::new();
        if scenario.is_none() {
            faults.push(self.draw());
        }
        if scenario.is_none() && self.rng.percent(45) {
            let mut second = self.draw();
            second.delay = Duration::from_millis(self.rng.between(0, 1_500));
            faults.push(second);
        }
        // Every fourth calm phase is long enough for whole windows without any fault.
        let calm = if self.made.is_multiple_of(4) {
            self.rng.between(7_000, 9_000)
        } else {
            self.rng.between(2_000, 3_000)
        };
        Round { faults, scenario, calm: Duration::from_millis(calm) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_plan_and_every_kind_comes_before_any_repeats() {
        let rounds = |seed| {
            let mut plan = Plan::new(seed, 3, Terms::Plain, None);
            let rounds: Vec<Round> = (0..2 * Kind::ALL.len()).map(|_| plan.next_round()).collect();
            rounds
        };
        assert_eq!(format!("{:?}", rounds(7)), format!("{:?}", rounds(7)));
        assert_ne!(format!("{:?}", rounds(7)), format!("{:?}", rounds(8)));
        let kinds = rounds(7).into_iter().flat_map(|round| round.faults);
        let mut first: Vec<Kind> = kinds.map(|fault| fault.kind).take(Kind::ALL.len()).collect();
        first.sort();
        first.dedup();
        assert_eq!(first.len(), Kind::ALL.len());
    }

    #[test]
    fn the_first_faults_of_any_seed_give_every_promise_something_to_judge() {
        for (seed, terms) in (0..2_000).map(|seed| (seed, Terms::of_seed(seed))) {
            // With the drift that the judge allows.
            let past_the_lease = Duration::from_millis(terms.longest_ms() * 105 / 100);
            let mut plan = Plan::new(seed, 3, terms, None);
            let faults: Vec<Planned> = (0..EARLY).map(|_| plan.draw()).collect();
            assert!(faults.iter().any(|fault| fault.kind.is_quiet()), "seed {seed}");
            let isolated = faults.iter().find(|fault| fault.kind.isolates());
            assert!(isolated.is_some_and(|fault| fault.hold > past_the_lease), "seed {seed}");
        }
    }
}
