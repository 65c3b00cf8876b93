//! Commands that an operator gives by mistake: the cluster must reject them and change nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::arena::address;
use crate::cluster::Cluster;
use crate::http::Call;
use crate::inject_scenario::Injected;
use crate::process::{ADMIN, OPERATOR, PEER};
use crate::scenario::Planned;
use fluxgate_record::history::{Event, Members, Mistake};

/// Timeout of the command.
const PATIENCE: Duration = Duration::from_secs(12);
/// After this time the cluster knows that a killed node is down.
const KNOWN_DOWN: Duration = Duration::from_secs(4);
/// A host number that no node has.
const UNUSED_HOST: u64 = 250;
/// A port that no process listens on.
const NO_PORT: u16 = 9_999;

impl Cluster {
    /// The members as each of these nodes shows them.
    async fn members(&self, of: &[u64]) -> Members {
        let mut all = Vec::new();
        for node in of {
            let answer = self.admin(*node, "GET", "/v1/cluster", None).await.ok();
            let view: Option<Value> = answer.and_then(|a| serde_json::from_str(&a.body).ok());
            let nodes = view.as_ref().and_then(|view| view["nodes"].as_array());
            let member = |node: &Value| {
                let (id, peer) = (node["id"].as_u64()?, node["peer"].as_str()?);
                Some((id, peer.to_owned()))
            };
            all.push((*node, nodes.into_iter().flatten().filter_map(member).collect()));
        }
        all
    }

    async fn mistake(
        &self,
        what: &str,
        (asked, healthy): (u64, &[u64]),
        (method, path, body): (&str, &str, Option<String>),
        named: Vec<u64>,
        hold: Duration,
    ) -> bool {
        let before = self.members(healthy).await;
        let t0 = self.history.now();
        let (node, port, bearer, within) = (asked, ADMIN, OPERATOR, PATIENCE);
        let answer =
            self.caller.call(Call { node, port, method, path, bearer, body, within }).await;
        let t1 = self.history.now();
        sleep(hold).await;
        let after = self.members(healthy).await;
        let (s, body) = match answer {
            Ok(answer) => (answer.status, answer.body),
            Err(error) => (0, error.as_str().to_owned()),
        };
        let what = what.to_owned();
        let changed = before != after;
        let mistake = Mistake { what, t0, t1, s, body, named, before, after };
        self.history.write(&Event::Mistake(mistake));
        changed
    }

    /// Adds a node that is already a member, under a wrong address.
    pub(crate) async fn add_wrong(&self, planned: &Planned) -> anyhow::Result<Option<Injected>> {
        let ids = self.ids();
        let node = self.nodes[self.place(planned)].id;
        let draw = usize::try_from(planned.draw % 3).unwrap_or(0);
        let peer = [
            format!("{}:{PEER}", address(UNUSED_HOST)),
            format!("{}:{NO_PORT}", address(node)),
            // The admin listener answers there instead of the peer listener.
            format!("{}:{ADMIN}", address(node)),
        ];
        let body = json!({ "id": node, "peer": peer[draw] }).to_string();
        let asked = ids[usize::try_from(planned.draw >> 8).unwrap_or(0) % ids.len()];
        let call = ("POST", "/v1/cluster/nodes", Some(body));
        let installed = self.history.now();
        if self.mistake("add_wrong", (asked, &ids), call, Vec::new(), planned.hold).await {
            // The violation is recorded. Undo the mistake, so that the rest of the run can find
            // other faults.
            let peer = format!("{}:{PEER}", address(node));
            let body = json!({ "id": node, "peer": peer }).to_string();
            self.retry_until(0, "POST", "/v1/cluster/nodes", Some(body), &[200]).await;
        }
        Ok(Some(Injected { nodes: Vec::new(), installed, quiet: true, isolates: false }))
    }

    /// Removes a healthy node while as many others are down as a majority can spare.
    pub(crate) async fn remove_wrong(
        &mut self,
        planned: &Planned,
    ) -> anyhow::Result<Option<Injected>> {
        let (first, count) = (self.place(planned), self.nodes.len());
        let places: Vec<usize> = (0..count / 2).map(|at| (first + at) % count).collect();
        let mut down: Vec<u64> = places.iter().map(|place| self.nodes[*place].id).collect();
        down.sort_unstable();
        for place in places {
            self.nodes[place].kill().await?;
        }
        let installed = self.history.now();
        sleep(KNOWN_DOWN).await;
        let healthy = self.without(&down);
        let of = |draw: u64| healthy[usize::try_from(draw).unwrap_or(0) % healthy.len()];
        let (removed, asked) = (of(planned.draw), of(planned.draw >> 8));
        let path = format!("/v1/cluster/nodes/{removed}");
        let call = ("DELETE", path.as_str(), None);
        if self.mistake("remove_wrong", (asked, &healthy), call, down.clone(), planned.hold).await {
            self.remove_faults().await?;
            if let Some(place) = self.ids().iter().position(|id| *id == removed) {
                self.nodes[place].kill().await?;
                self.repair(place).await?;
            }
        }
        let quiet = down.len() == 1;
        Ok(Some(Injected { nodes: down, installed, quiet, isolates: false }))
    }
}
