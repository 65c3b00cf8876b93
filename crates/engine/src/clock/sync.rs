//! The choice of a time when nodes disagree.
//!
//! Answers for: the time from which a leader starts if no leader has set its clock, whether clocks
//! agree well enough to form a cluster, and the target to which a leader slews. One wrong clock
//! must not become cluster time: if no node has a synchronized clock, the median counts.
//!
//! Nothing here prevents a window from being spent twice: each node protects what it may have spent
//! by its own checkpoint ([`crate::quota::Incarnation::reached`]), whatever cluster time is.

use fluxgate_types::NodeId;

/// One node's clocks, all as of one moment, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnswer {
    /// The node.
    pub node: NodeId,
    /// Cluster time, if a leader has set it in this incarnation of the node.
    pub synced_ns: Option<u64>,
    /// The newest stamp of the log that it has applied: cluster time has reached this.
    pub stamp_ns: u64,
    /// Its own checkpoint of cluster time, carried on by its clocks.
    pub carried_ns: Option<u64>,
    /// Its wall clock.
    pub wall_ns: u64,
    /// Whether its wall clock is plausible.
    pub plausible: bool,
}

impl ClockAnswer {
    /// The same clocks `after_ns` later: the answer was that long on its way, or waited for others.
    #[must_use]
    pub fn carried_to(self, after_ns: u64) -> Self {
        let later = |ns: u64| ns.saturating_add(after_ns);
        Self {
            synced_ns: self.synced_ns.map(later),
            carried_ns: self.carried_ns.map(later),
            wall_ns: later(self.wall_ns),
            ..self
        }
    }
}

/// The wall clocks of a new cluster differ, and no majority agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClocksDiffer {
    /// Every clock that was read.
    pub clocks: Vec<WallClock>,
}

/// A wall clock as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// The node whose clock it is.
    pub node: NodeId,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Whether the clock can be right.
    pub plausible: bool,
}

/// The largest set of nodes whose wall clocks are plausible and differ by no more than `bound_ns`,
/// in order. Of sets of equal size, the one with the lowest ids: every node must choose the same
/// set, in whatever order the answers arrived, or each would wait for another to form the cluster.
#[must_use]
pub fn agreeing(answers: &[ClockAnswer], bound_ns: u64) -> Vec<NodeId> {
    let can_be: Vec<&ClockAnswer> = answers.iter().filter(|answer| answer.plausible).collect();
    let near = |earliest: u64| {
        let within = |answer: &&&ClockAnswer| {
            answer.wall_ns >= earliest && answer.wall_ns - earliest <= bound_ns
        };
        let mut set: Vec<NodeId> = can_be.iter().filter(within).map(|answer| answer.node).collect();
        set.sort_unstable();
        set
    };
    let sets = can_be.iter().map(|answer| near(answer.wall_ns));
    sets.max_by(|a, b| a.len().cmp(&b.len()).then_with(|| b.cmp(a))).unwrap_or_default()
}

/// The nodes whose clocks agree, if they are a majority of `members`.
///
/// # Errors
/// When no majority of the clocks agrees: the new cluster might start in a wrong year.
pub fn fit_to_form(
    answers: &[ClockAnswer],
    members: usize,
    bound_ns: u64,
) -> Result<Vec<NodeId>, ClocksDiffer> {
    let agree = agreeing(answers, bound_ns);
    if agree.len() * 2 > members {
        return Ok(agree);
    }
    let clock = |answer: &ClockAnswer| WallClock {
        node: answer.node,
        wall_ns: answer.wall_ns,
        plausible: answer.plausible,
    };
    Err(ClocksDiffer { clocks: answers.iter().map(clock).collect() })
}

/// The time from which a leader starts if no leader has set its clock, nanoseconds.
///
/// The latest clock that a leader has set comes first. Otherwise it is the median of the carried
/// checkpoints; in a new cluster, the median of the wall clocks that agree. Never before a stamp of
/// the log.
///
/// # Errors
/// In a new cluster, as for [`fit_to_form`].
pub fn start_ns(
    answers: &[ClockAnswer],
    members: usize,
    bound_ns: u64,
) -> Result<u64, ClocksDiffer> {
    let stamp_ns = answers.iter().map(|answer| answer.stamp_ns).max().unwrap_or(0);
    if let Some(synced_ns) = answers.iter().filter_map(|answer| answer.synced_ns).max() {
        return Ok(synced_ns.max(stamp_ns));
    }
    let carried = |plausible: bool| {
        let fit = answers.iter().filter(|answer| answer.plausible || !plausible);
        middle(fit.filter_map(|answer| answer.carried_ns).collect())
    };
    if let Some(carried_ns) = carried(true).or_else(|| carried(false)) {
        return Ok(carried_ns.max(stamp_ns));
    }
    let walls = |nodes: &[NodeId]| {
        let of = answers.iter().filter(|answer| nodes.contains(&answer.node));
        middle(of.map(|answer| answer.wall_ns).collect()).unwrap_or(stamp_ns)
    };
    match fit_to_form(answers, members, bound_ns) {
        Ok(agree) => Ok(walls(&agree).max(stamp_ns)),
        // The cluster is not new: the log gives a lower bound, and no better clocks exist.
        Err(_) if stamp_ns > 0 => Ok(walls(&agreeing(answers, bound_ns)).max(stamp_ns)),
        Err(differ) => Err(differ),
    }
}

/// How far the wall clocks of the members are ahead of cluster time: their median, nanoseconds.
/// `own` is the leader's offset, `others` are those that were reported recently; `members` counts
/// all. Without a majority the leader's own offset counts only within the bound; otherwise cluster
/// time is not corrected.
#[must_use]
pub fn wall_offset_ns(own: i64, others: &[i64], members: usize, bound_ns: u64) -> i64 {
    let mut offsets = others.to_vec();
    offsets.push(own);
    if offsets.len() * 2 <= members {
        return if own.unsigned_abs() <= bound_ns { own } else { 0 };
    }
    offsets.sort_unstable();
    let (low, high) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
    if low.unsigned_abs() <= high.unsigned_abs() { low } else { high }
}

/// The median; of an even number of values, the lower one of the middle two.
fn middle(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let at = values.len().checked_sub(1)? / 2;
    values.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    const NOW: u64 = 20_000 * DAY;

    fn wall(node: u64, wall_ns: u64) -> ClockAnswer {
        ClockAnswer {
            node: NodeId(node),
            synced_ns: None,
            stamp_ns: 0,
            carried_ns: None,
            wall_ns,
            plausible: true,
        }
    }

    fn carried(node: u64, carried_ns: u64) -> ClockAnswer {
        ClockAnswer { carried_ns: Some(carried_ns), ..wall(node, carried_ns) }
    }

    #[test]
    fn one_wrong_clock_of_three_forms_nothing_and_is_outvoted() {
        let past = wall(1, NOW - 2_500 * DAY);
        let answers = [past, wall(2, NOW), wall(3, NOW + SECOND / 2)];
        let fit = fit_to_form(&answers, 3, SECOND).unwrap();
        assert_eq!(fit, [NodeId(2), NodeId(3)]);
        assert_eq!(start_ns(&answers, 3, SECOND), Ok(NOW));
        let ahead = [wall(1, NOW + 700 * DAY), wall(2, NOW), wall(3, NOW)];
        assert_eq!(start_ns(&ahead, 3, SECOND), Ok(NOW));
    }

    #[test]
    fn of_two_majorities_every_node_chooses_the_same() {
        // 1 and 3 agree, 3 and 2 agree, 1 and 2 do not.
        let (one, two, three) =
            (wall(1, NOW), wall(2, NOW + 3 * SECOND / 2), wall(3, NOW + SECOND));
        for answers in [[one, two, three], [two, three, one], [three, one, two], [two, one, three]]
        {
            assert_eq!(fit_to_form(&answers, 3, SECOND).unwrap(), [NodeId(1), NodeId(3)]);
        }
    }

    #[test]
    fn two_clocks_that_differ_are_no_majority() {
        let answers = [wall(1, NOW - DAY), wall(2, NOW)];
        let differ = start_ns(&answers, 3, SECOND).unwrap_err();
        assert_eq!(differ.clocks.len(), 2);
        // An implausible clock does not count, and the other alone is no majority.
        let old = ClockAnswer { plausible: false, ..wall(1, NOW - 3_000 * DAY) };
        assert!(fit_to_form(&[old, wall(2, NOW)], 3, SECOND).is_err());
        assert!(fit_to_form(&[old], 1, SECOND).is_err());
    }

    #[test]
    fn after_a_stop_of_all_the_wildest_note_does_not_win() {
        for answers in [
            vec![carried(1, NOW), carried(2, NOW + 3_650 * DAY)],
            vec![carried(1, NOW + 3_650 * DAY), carried(2, NOW), carried(3, NOW + SECOND)],
        ] {
            assert!(start_ns(&answers, 3, SECOND).unwrap() <= NOW + SECOND);
        }
        // A clock that stood still does not win against a stamp of the log either.
        let mut behind = carried(1, NOW - DAY);
        behind.stamp_ns = NOW - 60 * SECOND;
        assert_eq!(start_ns(&[behind, carried(2, NOW)], 3, SECOND), Ok(NOW - 60 * SECOND));
    }

    #[test]
    fn a_time_from_a_leader_has_priority() {
        let gossip = ClockAnswer { synced_ns: Some(NOW), ..wall(2, 5) };
        assert_eq!(start_ns(&[carried(1, NOW + DAY), gossip], 3, SECOND), Ok(NOW));
    }

    #[test]
    fn a_leader_with_a_wrong_clock_steers_by_the_others() {
        let years = -2_500 * i64::try_from(DAY).unwrap();
        assert_eq!(wall_offset_ns(years, &[5, 7], 3, SECOND), 5);
        assert_eq!(wall_offset_ns(years, &[7], 3, SECOND), 7);
        // Alone among three, the leader corrects nothing unless its own clock is near.
        assert_eq!(wall_offset_ns(years, &[], 3, SECOND), 0);
        assert_eq!(wall_offset_ns(9, &[], 3, SECOND), 9);
        assert_eq!(wall_offset_ns(years, &[], 1, SECOND), years);
    }
}
