//! A few whole clusters in every check, those that ever failed among them, and that a seed means the
//! same each time.

#![expect(clippy::unwrap_used, reason = "a test: a failed unwrap is a failed test")]

use fluxgate_sim_cluster::book::Counts;
use fluxgate_sim_cluster::plan::Plan;
use fluxgate_sim_cluster::run;

/// Seeds of short runs, at the pace of the default configuration, from this one on.
fn short_seeds(from: u64) -> impl Iterator<Item = u64> {
    (from..).filter(|seed| !Plan::of(*seed).is_coarse())
}

fn all_hold(seeds: impl Iterator<Item = u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let outcome = run(seed, true).unwrap();
        let lines: Vec<String> = outcome.log.into_iter().collect();
        let violation = outcome.violation.map(|v| format!("{}: {}", v.invariant, v.what));
        let replay = format!("scripts/sim.sh --cluster --replay {seed}");
        assert_eq!(violation, None, "{}\n{replay}", lines.join("\n"));
        counts.add(&outcome.counts);
    }
    counts
}

#[test]
fn short_seeds_violate_nothing_and_something_happens_in_them() {
    let counts = all_hold(short_seeds(0).take(10));
    // Some twenty faults in all, and each seed leaves most kinds out.
    assert!(counts.faults.len() >= 7, "{:?}", counts.faults);
    for status in [200, 401, 429, 503] {
        assert!(counts.statuses.contains_key(&status), "{:?}", counts.statuses);
    }
    assert!(counts.windows.2 > 0 && counts.compared > 0, "{counts:?}");
}

#[test]
fn seeds_that_once_failed_hold() {
    // 50 and 139: a node that was just added said of a key that there is none. 1166: requests that
    // waited after a lost lease were not looked after. 2073, 2203, 2366: slips of the harness: a disk
    // that was to fail and was not written to, and gossip slower than a request's patience. 3085: two
    // pairs of three clocks agreed, each node chose a different pair, and no node formed the cluster.
    // 3087: a former leader with a full disk went on asking for leases that held up every write. 4257:
    // with a gossip of 3 s a leader with a full disk found nobody to hand over to.
    all_hold([50, 139, 1166, 2073, 2203, 2366, 3085, 3087, 4257].into_iter());
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let seeds: Vec<u64> = short_seeds(100).take(2).collect();
    let traces: Vec<u64> = seeds.iter().map(|seed| run(*seed, false).unwrap().trace).collect();
    // In the other order, and with lines kept: neither may matter.
    for (seed, trace) in seeds.iter().zip(&traces).rev() {
        assert_eq!(run(*seed, true).unwrap().trace, *trace, "seed {seed}");
    }
    assert_ne!(traces[0], traces[1]);
}
