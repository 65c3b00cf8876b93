//! All nodes of a run: who leads, whether all is well, and how it becomes so again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::arena::NetworkTestbed;
use crate::checks::HEAL_MAX;
use crate::history::{Event, Heal, Writer};
use crate::http::{Answer, Call, Caller, Silence};
use crate::process::{ADMIN, Files, GATEWAY, OPERATOR, Process};
use crate::terms::Terms;

/// How often it is looked whether all is well.
const LOOK: Duration = Duration::from_millis(50);
/// Patience with one question.
const PATIENCE: Duration = Duration::from_secs(1);
/// Patience with one write: it may wait for a lease.
const WRITE_PATIENCE: Duration = Duration::from_secs(4);
/// How much longer than promised it is waited, to tell late from never.
const GIVE_UP: Duration = Duration::from_micros(2 * HEAL_MAX);

/// The nodes of a run.
pub(crate) struct Cluster {
    pub(crate) arena: NetworkTestbed,
    pub(crate) nodes: Vec<Process>,
    pub(crate) caller: Caller,
    pub(crate) history: Arc<Writer>,
    /// A key whose limit nothing reaches.
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
        // So many that a majority has a real disk.
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
    ) -> Result<Answer, Silence> {
        let within = if method == "GET" { PATIENCE } else { WRITE_PATIENCE };
        let bearer = OPERATOR;
        let call = Call { node, port: ADMIN, method, path, bearer, body, within };
        self.caller.call(call).await
    }

    /// The leader as the first node that answers and knows one sees it.
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

    /// What a gateway's question came to, where it is not 200.
    async fn refused(&self, node: u64, method: &str, path: &str, bearer: &str) -> Option<String> {
        let within = PATIENCE;
        let call = Call { node, port: GATEWAY, method, path, bearer, body: None, within };
        match self.caller.call(call).await {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("node {node} {path}: {} {}", answer.status, answer.body)),
            Err(silence) => Some(format!("node {node} {path}: {}", silence.as_str())),
        }
    }

    /// Why not all is well: every node ready, admitting and taking a write.
    async fn ill(&mut self) -> Option<String> {
        for node in &mut self.nodes {
            if node.notice().is_err() || !node.is_started() {
                // A failed start is in the history as an end; the node is given another.
                if let Err(error) = node.start() {
                    return Some(error.to_string());
                }
            }
        }
        for id in self.ids() {
            if let Some(why) = self.refused(id, "GET", "/readyz", OPERATOR).await {
                return Some(why);
            }
        }
        let Some(probe) = self.probe.clone() else { return self.make_probe().await };
        for id in self.ids() {
            if let Some(why) = self.refused(id, "POST", "/v1/validate", &probe).await {
                return Some(why);
            }
        }
        let create = json!({"name": "written after healing", "scope": "read"}).to_string();
        for id in self.ids() {
            match self.admin(id, "POST", "/v1/keys", Some(create.clone())).await {
                Ok(answer) if answer.status == 201 => {}
                Ok(answer) => return Some(format!("node {id} write: {}", answer.body)),
                Err(silence) => return Some(format!("node {id} write: {}", silence.as_str())),
            }
        }
        None
    }

    /// Whether a node says that it would answer validates.
    pub(crate) async fn is_ready(&self, node: u64) -> bool {
        self.refused(node, "GET", "/readyz", OPERATOR).await.is_none()
    }

    async fn make_probe(&mut self) -> Option<String> {
        // A short period: a crash costs the open window, of a whole cluster all of it.
        let limits = json!([{"name": "requests", "tokens": 1_000_000, "period": "1s"}]);
        let body = json!({"name": "probe", "scope": "read", "limits": limits}).to_string();
        let answer = match self.admin(1, "POST", "/v1/keys", Some(body)).await {
            Ok(answer) => answer,
            Err(silence) => return Some(format!("probe: {}", silence.as_str())),
        };
        let made: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        self.probe = made["key"].as_str().map(ToOwned::to_owned);
        Some("the probe was just made".to_owned())
    }

    /// Takes every fault away.
    pub(crate) async fn undo(&mut self) -> anyhow::Result<()> {
        self.arena.heal()?;
        for node in &mut self.nodes {
            node.shim.sync(0, 0)?;
            node.shim.drift(0)?;
            node.empty();
            node.signal(Signal::CONT);
        }
        for node in &mut self.nodes {
            // A disk that failed once may show only when it is written to next.
            if node.disk_fails {
                node.kill().await?;
                node.disk_fails = false;
            }
            node.notice()?;
            if !node.is_started() {
                node.start()?;
            }
        }
        Ok(())
    }

    /// Waits until all is well and notes how long it took. Returns whether it is.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<bool> {
        let t0 = self.history.now();
        self.undo().await?;
        let until = Instant::now() + GIVE_UP;
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut why = String::new();
        let well = loop {
            every.tick().await;
            match self.ill().await {
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
