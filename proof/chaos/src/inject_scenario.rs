//! Injects the scenario of a round and records it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::arena::{NetworkTestbed, Way};
use crate::cluster::Cluster;
use crate::process::{Settings, configuration};
use crate::scenario::{Planned, Scenario};
use crate::terms::Terms;
use fluxgate_record::history::{Event, Fault, Us};

/// How often to check for a state that the harness waits for.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// After this time every node has been granted a lease.
const GRANTED: Duration = Duration::from_secs(1);
/// Longest wait until a started node is ready.
pub(crate) const READY_MAX: Duration = Duration::from_secs(20);

/// An injected scenario.
#[derive(Debug)]
pub(crate) struct Injected {
    /// The nodes that may notice it.
    pub(crate) nodes: Vec<u64>,
    /// When it was complete.
    pub(crate) installed: Us,
    /// No other node may notice it.
    pub(crate) quiet: bool,
    pub(crate) isolates: bool,
}

impl Cluster {
    /// Injects a scenario, lets it last, and records it. Healing is a separate step.
    pub(crate) async fn inject_scenario(
        &mut self,
        planned: &Planned,
    ) -> anyhow::Result<Vec<&'static str>> {
        let t0 = self.history.now();
        let kind = planned.kind;
        let done = match kind {
            Scenario::LongKill | Scenario::LongCut | Scenario::LongPause => {
                self.error(planned).await?
            }
            Scenario::Restored | Scenario::RestoredRunning | Scenario::Untouched => {
                self.restore_directory(planned).await?
            }
            Scenario::Cloned => self.start_clone(planned).await?,
            Scenario::AddWrong => self.add_wrong(planned).await?,
            Scenario::RemoveWrong => self.remove_wrong(planned).await?,
            Scenario::LeaderDiskLow | Scenario::LeaderDiskFull | Scenario::FollowerDiskLow => {
                self.fill_disk(planned).await?
            }
            Scenario::OtherTerms => self.change_terms(planned).await?,
            Scenario::MovedAndCut => self.move_and_cut(planned).await?,
        };
        let Some(Injected { nodes, installed, quiet, isolates }) = done else {
            return Ok(Vec::new());
        };
        self.history.write(&Event::Fault(Fault {
            kind: kind.as_str().to_owned(),
            nodes,
            t0,
            installed,
            t1: self.history.now(),
            quiet,
            isolates,
            alone: true,
        }));
        Ok(vec![kind.as_str()])
    }

    /// The index in `nodes` of the planned node.
    pub(crate) fn place(&self, planned: &Planned) -> usize {
        usize::try_from(planned.node).unwrap_or(0) % self.nodes.len().max(1)
    }

    pub(crate) fn without(&self, some: &[u64]) -> Vec<u64> {
        self.ids().into_iter().filter(|id| !some.contains(id)).collect()
    }

    async fn error(&mut self, planned: &Planned) -> anyhow::Result<Option<Injected>> {
        let place = self.place(planned);
        let node = self.nodes[place].id;
        if planned.kind == Scenario::LongCut {
            self.cut_off(node)?;
        } else if planned.kind == Scenario::LongPause {
            self.nodes[place].signal(Signal::STOP);
        } else {
            self.nodes[place].kill().await?;
        }
        let installed = self.history.now();
        sleep(planned.hold).await;
        let (quiet, isolates) =
            (planned.kind == Scenario::LongKill, planned.kind == Scenario::LongCut);
        Ok(Some(Injected { nodes: vec![node], installed, quiet, isolates }))
    }

    fn cut_off(&self, node: u64) -> anyhow::Result<()> {
        for other in self.without(&[node]) {
            NetworkTestbed::cut(node, Way::In, other)?;
            NetworkTestbed::cut(node, Way::Out, other)?;
        }
        Ok(())
    }

    /// Transfers the leadership to a node with a shorter lease and cuts off a third node.
    async fn move_and_cut(&mut self, planned: &Planned) -> anyhow::Result<Option<Injected>> {
        let longest = self.nodes.iter().max_by_key(|node| node.lease_ms).map(|node| node.id);
        let Some(longest) = longest else { return Ok(None) };
        if !self.transfer_leadership_to(&[longest]).await {
            return Ok(None);
        }
        // Wait until every node has a lease from this leader.
        sleep(GRANTED).await;
        let mut others = self.without(&[longest]);
        others.sort_by_key(|id| planned.draw.rotate_left(u32::try_from(*id).unwrap_or(0)));
        let (Some(heir), Some(alone)) = (others.first().copied(), others.last().copied()) else {
            return Ok(None);
        };
        let body = serde_json::json!({ "to": heir }).to_string();
        // If the transfer fails, the cut is one like any other.
        self.admin(longest, "POST", "/v1/cluster/leader", Some(body)).await.ok();
        self.cut_off(alone)?;
        let installed = self.history.now();
        sleep(planned.hold).await;
        Ok(Some(Injected { nodes: vec![alone], installed, quiet: false, isolates: true }))
    }

    /// Changes the lease in a node's configuration file and restarts the node.
    async fn change_terms(&mut self, planned: &Planned) -> anyhow::Result<Option<Injected>> {
        let place = self.place(planned);
        let (nodes, terms) = (self.nodes.len() as u64, self.terms);
        let out = self.files.out.clone();
        let node = &mut self.nodes[place];
        let lease_ms = Terms::other_ms(planned.draw);
        let settings = Settings { node: node.id, nodes, lease_ms, terms };
        std::fs::write(&node.config, configuration(&out, &node.dir, node.id, &settings)?)?;
        node.lease_ms = lease_ms;
        let id = node.id;
        if planned.draw & 8 == 0 {
            node.stop().await?
        } else {
            node.kill().await?
        }
        let installed = self.history.now();
        self.nodes[place].start()?;
        sleep(planned.hold).await;
        Ok(Some(Injected { nodes: vec![id], installed, quiet: true, isolates: false }))
    }

    /// Waits until a node is ready or has exited. Returns whether it is ready.
    pub(crate) async fn wait_ready(&mut self, place: usize, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        while Instant::now() < until {
            if self.nodes[place].poll_exit().is_err() || !self.nodes[place].is_started() {
                return false;
            }
            let id = self.nodes[place].id;
            if self.is_ready(id).await {
                return true;
            }
            sleep(LOOK).await;
        }
        false
    }
}
