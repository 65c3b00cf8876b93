//! A cluster of real nodes on loopback.
//!
//! Answers for: starting it, waiting until it is well, the faults that a test injects, and printing
//! the logs of a failed test. Nodes are numbered from 1.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Request};
use super::node::{Addresses, Node};
use super::ports::Port;
use super::settings::Settings;
use super::wait::{wait_for, wait_until};

/// The operator token.
pub(crate) const OPERATOR: &str = "operator-token-of-the-black-box";
/// The gateway token, where it is configured.
pub(crate) const GATEWAY: &str = "gateway-token-of-the-black-box";
/// The cluster secret.
pub(crate) const SECRET: &str = "cluster-secret-of-the-black-box";
/// Longest start of a cluster on a busy machine.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(20);
/// The lease of the default configuration.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    members: String,
    settings: Settings,
    _ports: Vec<Port>,
    // Last, so that the files outlive the processes.
    dir: TempDir,
}

impl Cluster {
    /// Starts `count` nodes with the default settings and waits until all are ready.
    #[track_caller]
    pub(crate) fn start(count: u64) -> Self {
        Self::start_with(count, |_| {})
    }

    /// The same, with other settings.
    #[track_caller]
    pub(crate) fn start_with(count: u64, change: impl FnOnce(&mut Settings)) -> Self {
        let mut cluster = Self::plan(count, change);
        for id in 1..=count {
            cluster.node_mut(id).spawn();
        }
        cluster.wait_ready();
        cluster
    }

    /// Plans `count` nodes and starts none.
    pub(crate) fn plan(count: u64, change: impl FnOnce(&mut Settings)) -> Self {
        Self::plan_at(count, |_| None, change)
    }

    /// The same, with peer addresses that data directories already contain.
    pub(crate) fn plan_at(
        count: u64,
        peer: impl Fn(u64) -> Option<SocketAddr>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let dir = TempDir::with_prefix("fluxgate-test-").unwrap();
        for (name, secret) in [("operator", OPERATOR), ("gateway", GATEWAY), ("secret", SECRET)] {
            fs::write(dir.path().join(name), secret).unwrap();
        }
        let mut settings = Settings::default();
        settings.text("cluster", "secret_file", dir.path().join("secret").display()).text(
            "admin",
            "operator_token_file",
            dir.path().join("operator").display(),
        );
        change(&mut settings);
        let mut cluster =
            Self { nodes: Vec::new(), members: String::new(), settings, _ports: Vec::new(), dir };
        let mut addresses: Vec<Addresses> = (1..=count).map(|id| cluster.claim(id)).collect();
        for at in &mut addresses {
            at.peer = peer(at.id).unwrap_or(at.peer);
        }
        let members = addresses.iter();
        let members = members.map(|at| format!("{{ id = {}, peer = \"{}\" }}", at.id, at.peer));
        cluster.members = format!("[{}]", members.collect::<Vec<_>>().join(", "));
        for at in addresses {
            cluster.plan_node(at);
        }
        cluster
    }

    fn claim(&mut self, id: u64) -> Addresses {
        let ports = [Port::claim(), Port::claim(), Port::claim()];
        let [gateway, admin, peer] = [0, 1, 2].map(|at: usize| ports[at].addr());
        self._ports.extend(ports);
        Addresses { id, gateway, admin, peer }
    }

    fn plan_node(&mut self, at: Addresses) {
        let mut node = Node::new(at, self.dir.path(), Settings::default());
        let data_dir = node.data_dir.clone();
        node.settings
            .lay(&self.settings)
            .set("cluster", "members", &self.members)
            .set("node", "id", at.id)
            .text("node", "data_dir", data_dir.display())
            .text("gateway", "listen", at.gateway)
            .text("admin", "listen", at.admin)
            .text("peer", "listen", at.peer);
        self.nodes.push(node);
    }

    /// Plans one more node, which is in no list of members.
    pub(crate) fn plan_extra(&mut self) -> u64 {
        let id = u64::try_from(self.nodes.len()).unwrap() + 1;
        let at = self.claim(id);
        self.plan_node(at);
        id
    }

    /// A directory of this cluster's own.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Configures the file with the gateway token.
    pub(crate) fn gateway_token_file(settings: &mut Settings) {
        settings.text("gateway", "token", GATEWAY);
    }

    /// The numbers of all nodes.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.at.id).collect()
    }

    #[track_caller]
    pub(crate) fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.at.id == id).unwrap()
    }

    #[track_caller]
    pub(crate) fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.at.id == id).unwrap()
    }

    /// The address of a node's gateway listener.
    pub(crate) fn gateway(&self, id: u64) -> SocketAddr {
        self.node(id).at.gateway
    }

    /// The addresses of all nodes.
    pub(crate) fn addresses(&self) -> Vec<Addresses> {
        self.nodes.iter().map(|node| node.at).collect()
    }

    /// Waits until every started node is ready and follows one leader.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        for node in &mut self.nodes {
            if !node.is_started() {
                continue;
            }
            let id = node.at.id;
            wait_until(&format!("node {id} is ready"), READY_DEADLINE, || {
                node.assert_alive();
                node.ready().is_ok_and(|answer| answer.status == 200)
            });
        }
    }

    /// Starts a stopped node and waits until it is ready.
    #[track_caller]
    pub(crate) fn restart(&mut self, id: u64) {
        self.node_mut(id).spawn();
        self.wait_ready();
    }

    /// Whether a node's gateway listener answers.
    pub(crate) fn is_up(&self, id: u64) -> bool {
        self.node(id).is_started() && self.node(id).ready().is_ok()
    }

    /// One node's view of the cluster.
    pub(crate) fn view(&self, id: u64) -> Option<Value> {
        let answer = operator(Request::get("/v1/cluster")).try_send(self.node(id).at.admin);
        answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.json())
    }

    /// The leader on which all started nodes agree, including the leader itself.
    #[track_caller]
    pub(crate) fn leader(&self) -> u64 {
        let started: Vec<u64> = self.started();
        self.leader_among(&started)
    }

    /// The leader on which these nodes agree and that is one of them.
    #[track_caller]
    pub(crate) fn leader_among(&self, ids: &[u64]) -> u64 {
        wait_for(&format!("nodes {ids:?} agree on a leader"), READY_DEADLINE, || {
            let leaders = ids.iter().map(|&id| self.view(id)?["leader"].as_u64());
            let leaders: Option<Vec<u64>> = leaders.collect();
            let leaders = leaders?;
            let leader = *leaders.first()?;
            (leaders.iter().all(|&other| other == leader) && ids.contains(&leader))
                .then_some(leader)
        })
    }

    /// The numbers of the running nodes.
    pub(crate) fn started(&self) -> Vec<u64> {
        let started = self.nodes.iter().filter(|node| node.is_started());
        started.map(|node| node.at.id).collect()
    }

    /// All numbers but this one.
    pub(crate) fn others(&self, id: u64) -> Vec<u64> {
        self.ids().into_iter().filter(|&other| other != id).collect()
    }

    /// Sends an administrator's request to a node, with the operator token.
    #[track_caller]
    pub(crate) fn admin(&self, id: u64, request: Request) -> Answer {
        operator(request).send(self.node(id).at.admin)
    }

    /// The sum of a counter's values over the started nodes, of the series that contain `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let texts = self.started().into_iter().map(|id| {
            let answer = Request::get("/metrics").send(self.node(id).at.admin);
            answer.expect(200).text()
        });
        texts.map(|text| metric_in(&text, name, labels)).sum()
    }

    /// Fails if a request was denied without proof that no token is left.
    #[track_caller]
    pub(crate) fn assert_none_degraded(&self) {
        let labels = r#"verdict="degraded""#;
        let degraded = self.metric("fluxgate_validate_requests_total", labels);
        assert!(degraded == 0.0, "{degraded} denials were degraded");
    }

    /// Waits until a node answers a write. Returns the record that was created.
    #[track_caller]
    pub(crate) fn wait_write(&self, id: u64, deadline: Duration) -> Value {
        wait_for(&format!("node {id} takes a write"), deadline, || {
            let create = Request::post("/v1/keys").json(&json!({"name": "probe", "scope": "read"}));
            let answer = operator(create).try_send(self.node(id).at.admin).ok()?;
            (answer.status == 201).then(|| answer.json())
        })
    }
}

/// Adds the operator token.
pub(crate) fn operator(request: Request) -> Request {
    request.bearer(OPERATOR)
}

/// The sum of the series of a metric that contain `labels`.
pub(crate) fn metric_in(text: &str, name: &str, labels: &str) -> f64 {
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && line.contains(labels)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &self.nodes {
            let id = node.at.id;
            eprintln!("---- end of the log of node {id}\n{}", node.log_tail());
        }
        if std::env::var_os("FLUXGATE_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("---- files kept in {}", self.dir.path().display());
        }
    }
}
