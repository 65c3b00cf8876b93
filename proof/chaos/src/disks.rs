//! Full disks, of leaders and of followers.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::inject::LOW_BYTES;
use crate::inject_scenario::{Injected, LOOK};
use crate::scenario::{Planned, Scenario};

/// Longest wait until a wanted node leads.
const LEADS_MAX: Duration = Duration::from_secs(8);

impl Cluster {
    pub(crate) async fn fill_disk(
        &mut self,
        planned: &Planned,
    ) -> anyhow::Result<Option<Injected>> {
        let small: Vec<u64> = self.nodes.iter().filter(|n| n.small).map(|n| n.id).collect();
        let at = usize::try_from(planned.draw).unwrap_or(0) % small.len().max(1);
        let Some(node) = small.get(at).copied() else { return Ok(None) };
        let large = self.without(&small);
        let leads = planned.kind != Scenario::FollowerDiskLow;
        let wanted = if leads { vec![node] } else { large };
        if !self.transfer_leadership_to(&wanted).await {
            return Ok(None);
        }
        let Some(place) = self.ids().iter().position(|id| *id == node) else { return Ok(None) };
        if planned.kind == Scenario::LeaderDiskFull {
            // The node may fail before it has noticed that the disk is full.
            self.nodes[place].disk_fails = true;
            self.nodes[place].fill(0)?;
        } else {
            self.nodes[place].fill(LOW_BYTES)?;
        }
        let installed = self.history.now();
        sleep(planned.hold).await;
        Ok(Some(Injected { nodes: vec![node], installed, quiet: false, isolates: false }))
    }

    /// Transfers the leadership until one of these nodes has it.
    pub(crate) async fn transfer_leadership_to(&self, wanted: &[u64]) -> bool {
        let until = Instant::now() + LEADS_MAX;
        while Instant::now() < until {
            match self.leader().await {
                Some(leader) if wanted.contains(&leader) => return true,
                Some(leader) => {
                    let body = json!({ "to": wanted.first() }).to_string();
                    // Tried again if the transfer fails.
                    self.admin(leader, "POST", "/v1/cluster/leader", Some(body)).await.ok();
                }
                None => {}
            }
            sleep(LOOK).await;
        }
        false
    }
}
