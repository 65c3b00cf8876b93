//! Injects the faults of a round and records them.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::arena::{NetworkTestbed, Way};
use crate::cluster::Cluster;
use crate::plan::{Kind, Planned, Round};
use crate::shim::RATE_PPB_MAX;
use fluxgate_record::history::{Event, Fault, Us};

/// Largest jump of a wall clock.
const WALL_MAX_NS: i64 = 4 * 3_600 * 1_000_000_000;
/// A low disk has less than the nodes keep free (1 to 16 MiB) but is not full.
pub(crate) const LOW_BYTES: u64 = 700 * 1_024;
/// How long a stuttering process runs and is then stopped, alternately.
const STUTTER_RUN: Duration = Duration::from_millis(80);
const STUTTER_HOLD: Duration = Duration::from_millis(250);
/// `EIO`, input/output error.
const EIO: i64 = 5;

/// A fault that is present.
struct Begun {
    planned: Planned,
    nodes: Vec<u64>,
    t0: Us,
    installed: Us,
}

impl Cluster {
    /// Injects a round's faults, lets them last, and records them. Healing is a separate step.
    pub(crate) async fn inject(&mut self, round: &Round) -> anyhow::Result<Vec<&'static str>> {
        let mut begun = Vec::new();
        let mut hold = Duration::ZERO;
        for planned in &round.faults {
            sleep(planned.delay).await;
            hold = hold.saturating_sub(planned.delay).max(planned.hold);
            let t0 = self.history.now();
            let node = self.target(planned).await;
            let nodes = self.begin(planned, node).await?;
            let installed = self.history.now();
            begun.push(Begun { planned: *planned, nodes, t0, installed });
        }
        let stutters = begun.iter().find(|one| one.planned.kind == Kind::Stutter);
        match stutters.and_then(|one| one.nodes.first().copied()) {
            Some(node) => self.stutter(node, hold).await,
            None => sleep(hold).await,
        }
        let t1 = self.history.now();
        let alone = begun.len() == 1;
        for one in &begun {
            let kind = one.planned.kind;
            self.history.write(&Event::Fault(Fault {
                kind: kind.as_str().to_owned(),
                nodes: if kind.affects_no_node() { Vec::new() } else { one.nodes.clone() },
                t0: one.t0,
                installed: one.installed,
                t1,
                quiet: kind.is_quiet(),
                // The other fault of the round may have killed and restarted the node.
                isolates: kind.isolates(),
                alone,
            }));
        }
        Ok(begun.iter().map(|one| one.planned.kind.as_str()).collect())
    }

    async fn target(&self, planned: &Planned) -> u64 {
        let led = if planned.kind.is_for_leader() { self.leader().await } else { None };
        let small = matches!(planned.kind, Kind::DiskLow | Kind::DiskFull);
        let any = self.nodes.iter().filter(|node| node.small || !small);
        let any: Vec<u64> = any.map(|node| node.id).collect();
        let at = usize::try_from(planned.node).unwrap_or(0) % any.len().max(1);
        led.or_else(|| any.get(at).copied()).unwrap_or(1)
    }

    fn others(&self, node: u64) -> Vec<u64> {
        self.ids().into_iter().filter(|other| *other != node).collect()
    }

    async fn begin(&mut self, planned: &Planned, node: u64) -> anyhow::Result<Vec<u64>> {
        let place = self.ids().iter().position(|id| *id == node).unwrap_or(0);
        match planned.kind {
            Kind::Kill | Kind::KillLeader => self.nodes[place].kill().await?,
            Kind::Stop | Kind::StopLeader => self.nodes[place].stop().await?,
            Kind::KillAll | Kind::StopAll => return self.end_all(planned.kind).await,
            Kind::PauseShort | Kind::PauseLong | Kind::PauseLeader => {
                self.nodes[place].signal(Signal::STOP);
            }
            // `stutter` does this while the round lasts.
            Kind::Stutter => {}
            Kind::Cut
            | Kind::CutLeader
            | Kind::CutIn
            | Kind::CutOut
            | Kind::Bridge
            | Kind::Split
            | Kind::Unplug
            | Kind::Loss
            | Kind::Resets
            | Kind::Narrow => return self.begin_on_links(planned, node),
            Kind::WallForward | Kind::WallBack => {
                let most = u64::try_from(WALL_MAX_NS).unwrap_or(1);
                let size = i64::try_from(planned.draw % most).unwrap_or(0);
                let sign = if planned.kind == Kind::WallForward { 1 } else { -1 };
                self.nodes[place].shim.wall(sign * size)?;
            }
            Kind::Drift => {
                for (at, node) in self.nodes.iter().enumerate() {
                    let faster = (planned.draw >> at) & 1 == 0;
                    node.shim.drift(if faster { RATE_PPB_MAX } else { -RATE_PPB_MAX })?;
                }
                return Ok(self.ids());
            }
            Kind::SlowSync | Kind::LeaderSyncSlow => {
                let delay_us = i64::try_from(20_000 + planned.draw % 500_000).unwrap_or(0);
                self.nodes[place].shim.sync(delay_us, 0)?;
            }
            Kind::SyncFails | Kind::LeaderSyncFails => {
                self.nodes[place].disk_fails = true;
                self.nodes[place].shim.sync(0, EIO)?;
            }
            Kind::DiskLow => self.nodes[place].fill(LOW_BYTES)?,
            Kind::DiskFull => {
                self.nodes[place].disk_fails = true;
                self.nodes[place].fill(0)?;
            }
            Kind::HandOver => {
                let to = self.others(node).get(usize::from(planned.draw & 1 == 1)).copied();
                let body = serde_json::json!({ "to": to }).to_string();
                // Taken or not: a hand-over must cost no request.
                self.admin(node, "POST", "/v1/cluster/leader", Some(body)).await.ok();
            }
        }
        Ok(vec![node])
    }

    async fn end_all(&mut self, kind: Kind) -> anyhow::Result<Vec<u64>> {
        let signal = if kind == Kind::KillAll { Signal::KILL } else { Signal::TERM };
        for node in &mut self.nodes {
            node.signal_end(signal)?;
        }
        for node in &mut self.nodes {
            node.wait_end().await?;
        }
        Ok(self.ids())
    }

    fn begin_on_links(&self, planned: &Planned, node: u64) -> anyhow::Result<Vec<u64>> {
        let others = self.others(node);
        let neighbour = others[usize::try_from(planned.draw).unwrap_or(0) % others.len()];
        let mut at = vec![node];
        match planned.kind {
            Kind::CutIn => {
                others.iter().try_for_each(|o| NetworkTestbed::cut(node, Way::In, *o))?
            }
            Kind::CutOut => {
                others.iter().try_for_each(|o| NetworkTestbed::cut(node, Way::Out, *o))?
            }
            Kind::Bridge => {
                let rest = others.iter().filter(|other| **other != neighbour);
                for other in rest {
                    NetworkTestbed::cut(node, Way::In, *other)?;
                    NetworkTestbed::cut(node, Way::Out, *other)?;
                }
            }
            Kind::Split => {
                // Separates the smaller half from the larger.
                let ids = self.ids();
                let from = ids.iter().cycle().skip_while(|id| **id != node);
                at = from.take(ids.len() / 2).copied().collect();
                for (inside, outside) in pairs(&ids, &at) {
                    NetworkTestbed::cut(inside, Way::In, outside)?;
                    NetworkTestbed::cut(inside, Way::Out, outside)?;
                }
            }
            Kind::Unplug => NetworkTestbed::plug(node, false)?,
            Kind::Loss => {
                let percent = [5, 20, 40][usize::try_from(planned.draw % 3).unwrap_or(0)];
                others.iter().try_for_each(|other| NetworkTestbed::lose(node, *other, percent))?;
            }
            Kind::Resets => others.iter().try_for_each(|o| NetworkTestbed::reset(node, *o))?,
            Kind::Narrow => NetworkTestbed::narrow(node)?,
            Kind::Cut | Kind::CutLeader => {
                for (inside, outside) in pairs(&self.ids(), &at) {
                    NetworkTestbed::cut(inside, Way::In, outside)?;
                    NetworkTestbed::cut(inside, Way::Out, outside)?;
                }
            }
            Kind::Kill
            | Kind::KillLeader
            | Kind::KillAll
            | Kind::Stop
            | Kind::StopLeader
            | Kind::StopAll
            | Kind::PauseShort
            | Kind::PauseLong
            | Kind::PauseLeader
            | Kind::Stutter
            | Kind::WallForward
            | Kind::WallBack
            | Kind::Drift
            | Kind::SlowSync
            | Kind::SyncFails
            | Kind::LeaderSyncFails
            | Kind::LeaderSyncSlow
            | Kind::DiskLow
            | Kind::DiskFull
            | Kind::HandOver => anyhow::bail!("{planned:?} is not a link fault"),
        }
        Ok(at)
    }

    /// Stops and continues a process again and again, so that everything it does comes late.
    async fn stutter(&self, node: u64, hold: Duration) {
        let until = tokio::time::Instant::now() + hold;
        let Some(process) = self.nodes.iter().find(|process| process.id == node) else { return };
        while tokio::time::Instant::now() < until {
            process.signal(Signal::STOP);
            sleep(STUTTER_HOLD).await;
            process.signal(Signal::CONT);
            sleep(STUTTER_RUN).await;
        }
    }
}

/// Every node of a part with every node outside of it.
fn pairs(ids: &[u64], part: &[u64]) -> Vec<(u64, u64)> {
    let outside = || ids.iter().filter(|id| !part.contains(id));
    part.iter().flat_map(|inside| outside().map(|outside| (*inside, *outside))).collect()
}
