//! Does what has a round for itself, and notes it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::arena::{NetworkTestbed, Way};
use crate::cluster::Cluster;
use crate::deep::{Deep, Planned};
use crate::history::{Event, Fault, Us};
use crate::process::{Settings, configuration};
use crate::terms::Terms;

/// How often it is looked whether something came about.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// After so long every node has been granted a lease.
const GRANTED: Duration = Duration::from_secs(1);
/// Longest wait for a node to be ready again after a start.
pub(crate) const READY_MAX: Duration = Duration::from_secs(20);

/// What a fault did.
#[derive(Debug)]
pub(crate) struct Done {
    /// The nodes that may notice it.
    pub(crate) nodes: Vec<u64>,
    /// From when on it was there.
    pub(crate) installed: Us,
    /// It is promised that whoever is not named notices nothing.
    pub(crate) quiet: bool,
    pub(crate) isolates: bool,
}

impl Cluster {
    /// Does it, lets it stay, and notes it. Healing is another step.
    pub(crate) async fn undergo(&mut self, planned: &Planned) -> anyhow::Result<Vec<&'static str>> {
        let t0 = self.history.now();
        let kind = planned.kind;
        let done = match kind {
            Deep::LongKill | Deep::LongCut | Deep::LongPause => self.silence(planned).await?,
            Deep::Restored | Deep::RestoredRunning | Deep::Untouched => {
                self.put_back(planned).await?
            }
            Deep::Cloned => self.start_clone(planned).await?,
            Deep::AddWrong => self.add_wrong(planned).await?,
            Deep::RemoveWrong => self.remove_wrong(planned).await?,
            Deep::LeaderDiskLow | Deep::LeaderDiskFull | Deep::FollowerDiskLow => {
                self.fill_up(planned).await?
            }
            Deep::OtherTerms => self.change_terms(planned).await?,
            Deep::MovedAndCut => self.move_and_cut(planned).await?,
        };
        let Some(Done { nodes, installed, quiet, isolates }) = done else { return Ok(Vec::new()) };
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

    /// The place in `nodes` of the node that a draw means.
    pub(crate) fn place(&self, planned: &Planned) -> usize {
        usize::try_from(planned.node).unwrap_or(0) % self.nodes.len().max(1)
    }

    /// The ids of all nodes but some.
    pub(crate) fn without(&self, some: &[u64]) -> Vec<u64> {
        self.ids().into_iter().filter(|id| !some.contains(id)).collect()
    }

    async fn silence(&mut self, planned: &Planned) -> anyhow::Result<Option<Done>> {
        let place = self.place(planned);
        let node = self.nodes[place].id;
        if planned.kind == Deep::LongCut {
            self.cut_off(node)?;
        } else if planned.kind == Deep::LongPause {
            self.nodes[place].signal(Signal::STOP);
        } else {
            self.nodes[place].kill().await?;
        }
        let installed = self.history.now();
        sleep(planned.hold).await;
        let (quiet, isolates) = (planned.kind == Deep::LongKill, planned.kind == Deep::LongCut);
        Ok(Some(Done { nodes: vec![node], installed, quiet, isolates }))
    }

    fn cut_off(&self, node: u64) -> anyhow::Result<()> {
        for other in self.without(&[node]) {
            NetworkTestbed::cut(node, Way::In, other)?;
            NetworkTestbed::cut(node, Way::Out, other)?;
        }
        Ok(())
    }

    /// Lets another node lead, whose lease is shorter, and cuts a third one off.
    async fn move_and_cut(&mut self, planned: &Planned) -> anyhow::Result<Option<Done>> {
        let longest = self.nodes.iter().max_by_key(|node| node.lease_ms).map(|node| node.id);
        let Some(longest) = longest else { return Ok(None) };
        if !self.make_lead(&[longest]).await {
            return Ok(None);
        }
        // Every node has a lease of this leader's.
        sleep(GRANTED).await;
        let mut others = self.without(&[longest]);
        others.sort_by_key(|id| planned.draw.rotate_left(u32::try_from(*id).unwrap_or(0)));
        let (Some(heir), Some(alone)) = (others.first().copied(), others.last().copied()) else {
            return Ok(None);
        };
        let body = serde_json::json!({ "to": heir }).to_string();
        // Where it was not taken the cut is one like any other.
        self.admin(longest, "POST", "/v1/cluster/leader", Some(body)).await.ok();
        self.cut_off(alone)?;
        let installed = self.history.now();
        sleep(planned.hold).await;
        Ok(Some(Done { nodes: vec![alone], installed, quiet: false, isolates: true }))
    }

    /// Gives a node's file another lease and starts it anew.
    async fn change_terms(&mut self, planned: &Planned) -> anyhow::Result<Option<Done>> {
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
        Ok(Some(Done { nodes: vec![id], installed, quiet: true, isolates: false }))
    }

    /// Waits until a node says that it is ready, or has ended by itself. Returns whether it is.
    pub(crate) async fn wait_ready(&mut self, place: usize, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        while Instant::now() < until {
            if self.nodes[place].notice().is_err() || !self.nodes[place].is_started() {
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
