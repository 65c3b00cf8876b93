//! Scenarios: faults that need a whole round, caused by an operator, a disk or a long error, each
//! with its own promise.
//!
//! Every second round is a scenario, and no group comes again before all groups have come.

use std::time::Duration;

use crate::terms::Terms;
use fluxgate_plan::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A node is away for longer than it stays in the share map.
    LongKill,
    LongCut,
    LongPause,
    /// The operator restores the directory that a node had before its last incarnation.
    Restored,
    /// The same, copied while the node was running.
    RestoredRunning,
    /// The directory is restored before the node ran again: nothing is lost.
    Untouched,
    /// A copy of a node's directory is started beside the node, on another machine.
    Cloned,
    /// The operator adds a running node under a wrong address.
    AddWrong,
    /// The operator removes a healthy node while as many nodes are down as a majority can spare.
    RemoveWrong,
    LeaderDiskLow,
    LeaderDiskFull,
    FollowerDiskLow,
    /// A node's configuration file gets another lease.
    OtherTerms,
    /// The leadership moves from the node with the longest lease to one with a shorter lease, and a
    /// third node is cut off at once: its lease is still the long one.
    MovedAndCut,
}

impl Scenario {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let kinds = GROUPS.iter().flat_map(|group| group.kinds);
        kinds.copied().find(|kind| kind.as_str() == name)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LongKill => "long_kill",
            Self::LongCut => "long_cut",
            Self::LongPause => "long_pause",
            Self::Restored => "restored",
            Self::RestoredRunning => "restored_running",
            Self::Untouched => "untouched",
            Self::Cloned => "cloned",
            Self::AddWrong => "add_wrong",
            Self::RemoveWrong => "remove_wrong",
            Self::LeaderDiskLow => "leader_disk_low",
            Self::LeaderDiskFull => "leader_disk_full",
            Self::FollowerDiskLow => "follower_disk_low",
            Self::OtherTerms => "other_terms",
            Self::MovedAndCut => "moved_and_cut",
        }
    }
}

/// Kinds of which one comes in each turn.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [Scenario],
    /// `false` switches the group off, here and in the coverage that a run needs.
    pub(crate) on: bool,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "out of the share map",
        kinds: &[Scenario::LongKill, Scenario::LongCut, Scenario::LongPause],
        on: true,
    },
    Group {
        name: "restored directories",
        kinds: &[Scenario::Restored, Scenario::RestoredRunning],
        on: true,
    },
    Group { name: "untouched directories", kinds: &[Scenario::Untouched], on: true },
    Group { name: "clones", kinds: &[Scenario::Cloned], on: true },
    Group { name: "wrong additions", kinds: &[Scenario::AddWrong], on: true },
    Group { name: "wrong removals", kinds: &[Scenario::RemoveWrong], on: true },
    Group {
        name: "full disks of leaders",
        kinds: &[Scenario::LeaderDiskLow, Scenario::LeaderDiskFull],
        on: true,
    },
    Group { name: "full disks of followers", kinds: &[Scenario::FollowerDiskLow], on: true },
    Group {
        name: "changed leases",
        kinds: &[Scenario::MovedAndCut, Scenario::OtherTerms],
        on: true,
    },
];

/// The groups that a run with these leases goes through.
pub(crate) fn groups(terms: Terms) -> impl Iterator<Item = &'static Group> {
    let fits = move |group: &&Group| {
        group.on && (terms == Terms::Mixed || !group.kinds.contains(&Scenario::OtherTerms))
    };
    GROUPS.iter().filter(fits)
}

/// One scenario of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Scenario,
    /// Which node, counted from 0; ignored where the leader is the target.
    pub(crate) node: u64,
    pub(crate) hold: Duration,
    /// Random bits for what the kind leaves open.
    pub(crate) draw: u64,
}

/// The order in which scenarios come.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    terms: Terms,
    /// Only this kind, to look into it.
    only: Option<Scenario>,
    left: Vec<&'static [Scenario]>,
    /// Completed passes over all groups; selects the kind within a group.
    turns: usize,
}

impl Deck {
    pub(crate) fn new(terms: Terms, only: Option<Scenario>, rng: &mut Rng) -> Self {
        // The first kind of a group depends on the seed, so that several short runs see all kinds.
        Self { terms, only, left: Vec::new(), turns: rng.place(6) }
    }

    pub(crate) fn draw(&mut self, rng: &mut Rng) -> Option<Planned> {
        if self.left.is_empty() {
            self.left = groups(self.terms).map(|group| group.kinds).collect();
            rng.shuffle(&mut self.left);
            self.turns += 1;
        }
        let kinds = self.left.pop()?;
        let kind = self.only.or_else(|| kinds.get(self.turns % kinds.len()).copied())?;
        let hold_ms = match kind {
            // A node leaves the map about three leases after its last grant.
            Scenario::LongKill | Scenario::LongCut | Scenario::LongPause => {
                let least = self.terms.out_of_map_ms();
                rng.between(least, least + 8_000)
            }
            Scenario::LeaderDiskLow
            | Scenario::LeaderDiskFull
            | Scenario::FollowerDiskLow
            | Scenario::MovedAndCut => rng.between(9_000, 13_000),
            Scenario::Restored
            | Scenario::RestoredRunning
            | Scenario::Untouched
            | Scenario::Cloned => rng.between(2_000, 4_000),
            Scenario::AddWrong | Scenario::RemoveWrong | Scenario::OtherTerms => {
                rng.between(1_500, 3_000)
            }
        };
        let hold = Duration::from_millis(hold_ms);
        Some(Planned { kind, node: rng.draw(), hold, draw: rng.draw() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_comes_before_any_repeats_and_every_kind_comes() {
        let mut rng = Rng::stream(7, 3);
        let mut deck = Deck::new(Terms::Mixed, None, &mut rng);
        let count = groups(Terms::Mixed).count();
        let mut drawn = Vec::new();
        for _ in 0..6 {
            let kinds: Vec<Scenario> =
                (0..count).filter_map(|_| deck.draw(&mut rng)).map(|one| one.kind).collect();
            for group in groups(Terms::Mixed) {
                let seen = kinds.iter().filter(|kind| group.kinds.contains(kind)).count();
                assert_eq!(seen, 1, "{}", group.name);
            }
            drawn.extend(kinds);
        }
        for kind in groups(Terms::Mixed).flat_map(|group| group.kinds) {
            assert!(drawn.contains(kind), "{kind:?}");
        }
        assert!(groups(Terms::Plain).all(|group| !group.kinds.contains(&Scenario::OtherTerms)));
    }
}
