//! Faults that take a round for themselves: what an operator, a disk or a long silence does to a
//! cluster, each with a promise of its own.
//!
//! Every second round is one of these, and no group comes again before all have come.

use std::time::Duration;

use crate::rng::Rng;
use crate::terms::Terms;

/// A kind of such a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deep {
    /// A node is gone for longer than it stays in the share map.
    LongKill,
    LongCut,
    LongPause,
    /// The directory that a node had before its last life is put back.
    Restored,
    /// The same, taken while the node ran.
    RestoredRunning,
    /// The directory is put back before another life was: nothing is lost.
    Untouched,
    /// A copy of a node's directory is started next to it, on another machine.
    Cloned,
    /// A live node is added under a wrong address.
    AddWrong,
    /// A healthy node is removed while as many are down as may be.
    RemoveWrong,
    LeaderDiskLow,
    LeaderDiskFull,
    FollowerDiskLow,
    /// A node's file gets another lease.
    OtherTerms,
    /// The leadership moves from the node with the longest lease to one with a shorter, and at once
    /// a third one is cut off: its lease is still the long one.
    MovedAndCut,
}

impl Deep {
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
    pub(crate) kinds: &'static [Deep],
    /// Switches the group off, here and in what a run must have seen.
    pub(crate) on: bool,
}

/// Every group.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "out of the share map",
        kinds: &[Deep::LongKill, Deep::LongCut, Deep::LongPause],
        on: true,
    },
    Group {
        name: "restored directories",
        kinds: &[Deep::Restored, Deep::RestoredRunning],
        on: true,
    },
    Group { name: "untouched directories", kinds: &[Deep::Untouched], on: true },
    Group { name: "clones", kinds: &[Deep::Cloned], on: true },
    Group { name: "wrong additions", kinds: &[Deep::AddWrong], on: true },
    Group { name: "wrong removals", kinds: &[Deep::RemoveWrong], on: true },
    Group {
        name: "full disks of leaders",
        kinds: &[Deep::LeaderDiskLow, Deep::LeaderDiskFull],
        on: true,
    },
    Group { name: "full disks of followers", kinds: &[Deep::FollowerDiskLow], on: true },
    Group { name: "changed leases", kinds: &[Deep::MovedAndCut, Deep::OtherTerms], on: true },
];

/// The groups that a run under these terms goes through.
pub(crate) fn groups(terms: Terms) -> impl Iterator<Item = &'static Group> {
    let fits = move |group: &&Group| {
        group.on && (terms == Terms::Mixed || !group.kinds.contains(&Deep::OtherTerms))
    };
    GROUPS.iter().filter(fits)
}

/// One of them to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Deep,
    /// Which node, counted from 0; where it goes to the leader this counts for nothing.
    pub(crate) node: u64,
    pub(crate) hold: Duration,
    /// Draws for what the kind leaves open.
    pub(crate) draw: u64,
}

/// The order in which they come.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    terms: Terms,
    /// This kind and no other, for whoever looks into one.
    only: Option<Deep>,
    left: Vec<&'static [Deep]>,
    /// Turns that were gone through: each kind of a group comes in its turn.
    turns: usize,
}

impl Deck {
    pub(crate) fn new(terms: Terms, only: Option<Deep>, rng: &mut Rng) -> Self {
        // Where a group begins depends on the seed, so that short runs see all of it together.
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
            // A node leaves the map some three leases after its last grant.
            Deep::LongKill | Deep::LongCut | Deep::LongPause => {
                let least = self.terms.out_of_map_ms();
                rng.between(least, least + 8_000)
            }
            Deep::LeaderDiskLow
            | Deep::LeaderDiskFull
            | Deep::FollowerDiskLow
            | Deep::MovedAndCut => rng.between(9_000, 13_000),
            Deep::Restored | Deep::RestoredRunning | Deep::Untouched | Deep::Cloned => {
                rng.between(2_000, 4_000)
            }
            Deep::AddWrong | Deep::RemoveWrong | Deep::OtherTerms => rng.between(1_500, 3_000),
        };
        let hold = Duration::from_millis(hold_ms);
        Some(Planned { kind, node: rng.next(), hold, draw: rng.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_comes_again_before_all_have_come_and_each_kind_comes() {
        let mut rng = Rng::new(7, 3);
        let mut deck = Deck::new(Terms::Mixed, None, &mut rng);
        let count = groups(Terms::Mixed).count();
        let mut drawn = Vec::new();
        for _ in 0..6 {
            let kinds: Vec<Deep> =
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
        assert!(groups(Terms::Plain).all(|group| !group.kinds.contains(&Deep::OtherTerms)));
    }
}
