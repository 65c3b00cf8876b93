//! An orderly restart in a cluster that once had another node makes no denial unproven.

use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::NodeRecord;
use fluxgate_types::{ClusterMs, DirId, NodeId};

use super::{Net, START_MS};

/// Demand of three times the limit over a minute, with one orderly restart of node 2 after twenty seconds.
fn run(replaced: bool) -> (u64, u64, u64, u64) {
    let mut net = Net::new(7, 3, &[(90, 60_000)]);
    if replaced {
        // Node 4 was in the map before, was lost, and was replaced an hour ago; nothing changed since.
        let now = net.view.share_maps[0].nodes.clone();
        let nodes = vec![(NodeId(1), 1), (NodeId(2), 1), (NodeId(4), 1)];
        net.view.share_maps = vec![
            ShareMap { from: ClusterMs(0), nodes },
            ShareMap { from: ClusterMs(START_MS - 3_600_000), nodes: now },
        ];
        net.view.nodes.insert(NodeId(4), NodeRecord { dir_id: DirId(4), removed: true });
    }
    for n in 0..270u64 {
        net.run_until_us(n * 200_000);
        if n == 100 {
            let left = net.stop(NodeId(2));
            net.restart(NodeId(2), left);
        }
        net.request(NodeId(1 + n % 3), 1);
    }
    net.run_until_us(59_000_000);
    let tally = &net.tally;
    (tally.admitted, tally.limited, tally.degraded, tally.waited)
}

#[test]
fn denials_after_an_orderly_restart_are_proven_also_where_a_node_was_replaced_long_ago() {
    let (plain, replaced) = (run(false), run(true));
    assert_eq!(plain.2, 0);
    assert_eq!(
        replaced.2, 0,
        "denied without a proof; never replaced: {plain:?}, replaced: {replaced:?}"
    );
}
