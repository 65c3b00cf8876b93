//! The first start of a cluster: one wall clock is three years off, as on a machine without a
//! battery. The cluster must tell the right time, or log within a minute what is wrong.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::inject_scenario::LOOK;
use crate::report::say;
use fluxgate_plan::Rng;
use fluxgate_record::history::REJECTED_CODE;
use fluxgate_record::history::{Event, FirstStart};

/// How far the clock is off, seconds.
const OFF_S: i64 = 3 * 365 * 24 * 3_600;
/// The deadline for the cluster.
const WITHIN: Duration = Duration::from_secs(60);
/// After this time the node has noticed that its clock was corrected.
const NOTICED: Duration = Duration::from_secs(3);
/// How long to wait for a node that is not ready yet, when a warning is already there.
const HASTE: Duration = Duration::from_secs(8);

impl Cluster {
    /// Starts all nodes for the first time, and corrects the clock.
    pub(crate) async fn start_first(&mut self, seed: u64) -> anyhow::Result<()> {
        let mut rng = Rng::stream(seed, 5);
        // The lowest id forms the cluster, and most likely leads it first.
        let place = if rng.percent(50) { 0 } else { rng.place(self.nodes.len()) };
        let off_s = if rng.percent(50) { OFF_S } else { -OFF_S };
        let n = self.nodes[place].id;
        self.nodes[place].shim.wall(off_s.saturating_mul(1_000_000_000))?;
        let t0 = self.history.now();
        for node in &mut self.nodes {
            node.may_be_rejected = true;
            node.start()?;
        }
        let begun = Instant::now();
        let (mut ready, mut line) = (false, String::new());
        while begun.elapsed() < WITHIN && !ready {
            sleep(LOOK).await;
            ready = true;
            for id in self.ids() {
                ready &= self.is_ready(id).await;
            }
            if ready {
                break;
            }
            let mut ended = false;
            for node in &mut self.nodes {
                node.poll_exit()?;
                ended |= node.last_code == Some(REJECTED_CODE);
            }
            line = self.clock_warning();
            if !line.is_empty() && (ended || begun.elapsed() > HASTE) {
                break;
            }
        }
        if line.is_empty() {
            line = self.clock_warning();
        }
        let t1 = self.history.now();
        say(&format!(
            "first start with the clock of node {n} {off_s} s off: ready {ready}, {line:?}"
        ));
        self.history.write(&Event::FirstStart(FirstStart { n, off_s, t0, t1, ready, line }));
        // The operator corrects the clock and restarts every node that has exited.
        self.nodes[place].shim.wall(0)?;
        for node in &mut self.nodes {
            node.poll_exit()?;
            if !node.is_started() {
                node.start()?;
            }
        }
        // A node may drop its lease when it notices the jump, at one of its next renewals. That
        // must be over before the first calm phase.
        sleep(NOTICED).await;
        self.heal().await?;
        for node in &mut self.nodes {
            node.may_be_rejected = false;
        }
        Ok(())
    }

    /// A warning of any node about clocks.
    fn clock_warning(&self) -> String {
        let of = |log: &std::path::Path| {
            let text = std::fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let warns = |line: &&str| line.contains("WARN") || line.contains("ERROR");
            let clocks = |line: &&str| line.contains("clock");
            text.lines().filter(warns).find(clocks).map(ToOwned::to_owned)
        };
        self.nodes.iter().find_map(|node| of(&node.log)).unwrap_or_default()
    }
}
