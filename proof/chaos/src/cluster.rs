//! All nodes of a run: which one leads, whether all are well, and how to heal them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::arena::NetworkTestbed;
use crate::http::{Answer, Call, Caller, NoAnswer};
use crate::process::{ADMIN, Files, GATEWAY, OPERATOR, Process};
use crate::terms::Terms;
use fluxgate_record::HEAL_MAX;
use fluxgate_record::history::{Event, Heal, Writer};

/// How often to check whether all is well.
const LOOK: Duration = Duration::from_millis(50);
/// Timeout of one read.
const PATIENCE: Duration = Duration::from_secs(1);
/// Timeout of one write: it may wait for a lease.
const WRITE_PATIENCE: Duration = Duration::from_secs(4);
/// Waits longer than promised, to distinguish late from never.
const GIVE_UP: Duration = Duration::from_micros(2 * HEAL_MAX);

pub(crate) struct Cluster {
    pub(crate) arena: NetworkTestbed,
    pub(crate) nodes: Vec<Process>,
    pub(crate) caller: Caller,
    pub(crate) history: Arc<Writer>,
    /// A key with a limit that no traffic reaches.
    pub(crate) probe: Option<String>,
    pub(crate) files: Files,
    pub(crate) terms: Terms,
}

impl Cluster {
    pub(crate) fn plan(
        arena: NetworkTestbed,
        files: &Files,
        (count, terms): (u64, Terms),
        history: Arc<Writer>,
    ) -> anyhow::Result<Self> {
        // A majority keeps a real disk.
        let small = |id| id <= count / 2;
        let nodes = (1..=count)
            .map(|id| Process::plan(files, id, count, (small(id), terms), Arc::clone(&history)));
        let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
        let (caller, files) = (Caller::new(), files.clone());
        Ok(Self { arena, nodes, caller, history, probe: None, files, terms })
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.nodes.iter().map(|node| (node.id, node.log.as_path()))
    }

    pub(crate) async fn admin(
        &self,
        node: u64,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, NoAnswer> {
        let within = if method == "GET" { PATIENCE } else { WRITE_PATIENCE };
        let bearer = OPERATOR;
        let call = Call { node, port: ADMIN, method, path, bearer, body, within };
        self.caller.call(call).await
    }

    /// The leader that the first node with an answer names.
    pub(crate) async fn leader(&self) -> Option<u64> {
        for node in self.ids() {
            let answer = self.admin(node, "GET", "/v1/cluster", None).await.ok();
            let view: Option<Value> = answer.and_then(|a| serde_json::from_str(&a.body).ok());
            if let Some(leader) = view.and_then(|view| view["leader"].as_u64()) {
                return Some(leader);
            }
        }
        None
    }

    /// Describes an answer other than 200 on a gateway listener.
    async fn problem_of(
        &self,
        node: u64,
        method: &str,
        path: &str,
        bearer: &str,
    ) -> Option<String> {
        let within = PATIENCE;
        let call = Call { node, port: GATEWAY, method, path, bearer, body: None, within };
        match self.caller.call(call).await {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("node {node} {path}: {} {}", answer.status, answer.body)),
            Err(error) => Some(format!("node {node} {path}: {}", error.as_str())),
        }
    }

    /// Describes the first problem: a node that is not ready, does not admit, or takes no write.
    async fn find_problem(&mut self) -> Option<String> {
        for node in &mut self.nodes {
            if node.poll_exit().is_err() || !node.is_started() {
                // A failed start is in the history as an exit; start the node again.
                if let Err(error) = node.start() {
                    return Some(error.to_string());
                }
            }
        }
        for id in self.ids() {
            if let Some(why) = self.problem_of(id, "GET", "/readyz", OPERATOR).await {
                return Some(why);
            }
        }
        let Some(probe) = self.probe.clone() else { return self.make_probe().await };
        for id in self.ids() {
            if let Some(why) = self.problem_of(id, "POST", "/v1/validate", &probe).await {
                return Some(why);
            }
        }
        let create = json!({"name": "written after healing", "scope": "read"}).to_string();
        for id in self.ids() {
            match self.admin(id, "POST", "/v1/keys", Some(create.clone())).await {
                Ok(answer) if answer.status == 201 => {}
                Ok(answer) => return Some(format!("node {id} write: {}", answer.body)),
                Err(error) => return Some(format!("node {id} write: {}", error.as_str())),
            }
        }
        None
    }

    /// Whether a node reports that it can answer validates.
    pub(crate) async fn is_ready(&self, node: u64) -> bool {
        self.problem_of(node, "GET", "/readyz", OPERATOR).await.is_none()
    }

    async fn make_probe(&mut self) -> Option<String> {
        // A short period: a crash burns the open window, and a crash of all nodes burns all of it.
        let limits = json!([{"name": "requests", "tokens": 1_000_000, "period": "1s"}]);
        let body = json!({"name": "probe", "scope": "read", "limits": limits}).to_string();
        let answer = match self.admin(1, "POST", "/v1/keys", Some(body)).await {
            Ok(answer) => answer,
            Err(error) => return Some(format!("probe: {}", error.as_str())),
        };
        let made: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        self.probe = made["key"].as_str().map(ToOwned::to_owned);
        Some("the probe was just made".to_owned())
    }

    /// Removes every fault.
    pub(crate) async fn remove_faults(&mut self) -> anyhow::Result<()> {
        self.arena.heal()?;
        for node in &mut self.nodes {
            node.shim.sync(0, 0)?;
            node.shim.drift(0)?;
            node.empty();
            node.signal(Signal::CONT);
        }
        for node in &mut self.nodes {
            // A node may notice a failed disk only at its next write.
            if node.disk_fails {
                node.kill().await?;
                node.disk_fails = false;
            }
            node.poll_exit()?;
            if !node.is_started() {
                node.start()?;
            }
        }
        Ok(())
    }

    /// Waits until all is well and records how long it took. Returns whether all is well.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<bool> {
        let t0 = self.history.now();
        self.remove_faults().await?;
        let until = Instant::now() + GIVE_UP;
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut why = String::new();
        let well = loop {
            every.tick().await;
            match self.find_problem().await {
                None => break true,
                Some(reason) => why = reason,
            }
            if Instant::now() > until {
                break false;
            }
        };
        let t1 = self.history.now();
        self.history.write(&Event::Heal(Heal { t0, t1, well, why }));
        Ok(well)
    }
}
