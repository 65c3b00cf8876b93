//! The first start of all: one wall clock is three years off, as of a machine without a battery.
//! The cluster is either right nevertheless, or says within a minute what is wrong.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::history::{Event, FirstStart};
use crate::process::REFUSED_CODE;
use crate::report::say;
use crate::rng::Rng;
use crate::undergo::LOOK;

/// So far is the clock off, seconds.
const OFF_S: i64 = 3 * 365 * 24 * 3_600;
/// Within this the cluster is right or has said what is wrong.
const WITHIN: Duration = Duration::from_secs(60);
/// After so long a clock that was set right has been noticed.
const NOTICED: Duration = Duration::from_secs(3);
/// A node that is not ready yet may be about to be.
const HASTE: Duration = Duration::from_secs(8);

impl Cluster {
    /// Starts all nodes for the first time, and corrects the clock.
    pub(crate) async fn start_first(&mut self, seed: u64) -> anyhow::Result<()> {
        let mut rng = Rng::new(seed, 5);
        // The lowest id forms the cluster, and most likely leads it first.
        let place = if rng.percent(50) { 0 } else { rng.place(self.nodes.len()) };
        let off_s = if rng.percent(50) { OFF_S } else { -OFF_S };
        let n = self.nodes[place].id;
        self.nodes[place].shim.wall(off_s.saturating_mul(1_000_000_000))?;
        let t0 = self.history.now();
        for node in &mut self.nodes {
            node.may_be_refused = true;
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
                node.notice()?;
                ended |= node.last_code == Some(REFUSED_CODE);
            }
            line = self.says_of_clocks();
            if !line.is_empty() && (ended || begun.elapsed() > HASTE) {
                break;
            }
        }
        if line.is_empty() {
            line = self.says_of_clocks();
        }
        let t1 = self.history.now();
        say(&format!(
            "first start with the clock of node {n} {off_s} s off: ready {ready}, {line:?}"
        ));
        self.history.write(&Event::FirstStart(FirstStart { n, off_s, t0, t1, ready, line }));
        // The operator sets it right, and whoever ended is started again.
        self.nodes[place].shim.wall(0)?;
        for node in &mut self.nodes {
            node.notice()?;
            if !node.is_started() {
                node.start()?;
            }
        }
        // A node may drop its lease when it notices the jump, at one of its next renewals: that is
        // over before the first calm begins.
        sleep(NOTICED).await;
        self.heal().await?;
        for node in &mut self.nodes {
            node.may_be_refused = false;
        }
        Ok(())
    }

    /// A line of warning of any node that is about clocks.
    fn says_of_clocks(&self) -> String {
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
