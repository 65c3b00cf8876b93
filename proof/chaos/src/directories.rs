//! Directories that an operator restores or copies: the cluster must reject such a node. The
//! harness then repairs it as the documents say, by removing it and adding it again with an empty
//! directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::arena::must;
use crate::cluster::Cluster;
use crate::http::Call;
use crate::inject_scenario::{Injected, LOOK, READY_MAX};
use crate::process::{ADMIN, OPERATOR, PEER, Process, Settings};
use crate::scenario::{Planned, Scenario};
use fluxgate_record::history::REJECTED_CODE;
use fluxgate_record::history::{Event, Rejection};

/// Longest wait until a node is rejected.
const REJECTED_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the removal, and for the addition, of a node.
const REPAIR_MAX: Duration = Duration::from_secs(20);
/// Timeout of one attempt.
const PATIENCE: Duration = Duration::from_secs(12);

/// The last line of a log after its first `from` bytes.
fn last_line(log: &Path, from: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let behind = text.get(usize::try_from(from).unwrap_or(0)..).unwrap_or_default();
    let text = String::from_utf8_lossy(behind);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("clear {}", to.display()))?;
    }
    // A running node may delete a file while `cp` copies it; that is no failure.
    let (from, to) = (from.display().to_string(), to.display().to_string());
    must("cp", &["-a", &from, &to])
        .or_else(|error| if Path::new(&to).exists() { must("true", &[]) } else { Err(error) })?;
    Ok(())
}

impl Process {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Cluster {
    /// Restores an earlier copy of a node's directory.
    pub(crate) async fn restore_directory(
        &mut self,
        planned: &Planned,
    ) -> anyhow::Result<Option<Injected>> {
        let place = self.place(planned);
        let (id, gentle) = (self.nodes[place].id, planned.draw & 1 == 0);
        let kept = self.files.out.join(format!("kept{id}"));
        let data = self.nodes[place].data();
        if planned.kind == Scenario::RestoredRunning {
            copy(&data, &kept)?;
        }
        if gentle {
            self.nodes[place].stop().await?
        } else {
            self.nodes[place].kill().await?
        }
        let installed = self.history.now();
        if planned.kind != Scenario::RestoredRunning {
            copy(&data, &kept)?;
        }
        let runs_again = planned.kind != Scenario::Untouched;
        if runs_again {
            // An incarnation that the copy does not contain, and that the other nodes hear of.
            self.nodes[place].start()?;
            if !self.wait_ready(place, READY_MAX).await {
                fs::remove_dir_all(&kept).ok();
                return Ok(None);
            }
            sleep(planned.hold).await;
            if planned.draw & 2 == 0 {
                self.nodes[place].stop().await?;
            } else {
                self.nodes[place].kill().await?;
            }
        }
        copy(&kept, &data)?;
        fs::remove_dir_all(&kept).ok();
        let rejected =
            self.start_and_expect_rejection(place, planned.kind.as_str(), runs_again).await?;
        if rejected {
            self.repair(place).await?;
        }
        Ok(Some(Injected { nodes: vec![id], installed, quiet: false, isolates: false }))
    }

    /// Starts a node on a directory that may have to be rejected, and records the result.
    async fn start_and_expect_rejection(
        &mut self,
        place: usize,
        what: &str,
        expected: bool,
    ) -> anyhow::Result<bool> {
        let from = length(&self.nodes[place].log);
        self.nodes[place].may_be_rejected = expected;
        let t0 = self.history.now();
        self.nodes[place].start()?;
        let until = Instant::now() + REJECTED_MAX;
        // A node that must be rejected may look ready at first: it has not called another node yet.
        while Instant::now() < until && self.nodes[place].is_started() {
            if !expected && self.is_ready(self.nodes[place].id).await {
                break;
            }
            sleep(LOOK).await;
            self.nodes[place].poll_exit()?;
        }
        let node = &mut self.nodes[place];
        let (code, line) = (node.last_code, last_line(&node.log, from));
        let rejected = code == Some(REJECTED_CODE);
        node.may_be_rejected = false;
        let (n, what, t1) = (node.id, what.to_owned(), self.history.now());
        self.history.write(&Event::Rejection(Rejection { what, n, t0, t1, expected, code, line }));
        Ok(rejected)
    }

    /// Starts a copy of a node beside it.
    pub(crate) async fn start_clone(
        &mut self,
        planned: &Planned,
    ) -> anyhow::Result<Option<Injected>> {
        let place = self.place(planned);
        let (original, count) = (self.nodes[place].id, self.nodes.len() as u64);
        let (at, terms) = (count + 1, self.terms);
        let settings =
            Settings { node: original, nodes: count, lease_ms: terms.lease_ms(original), terms };
        let history = std::sync::Arc::clone(&self.history);
        let mut clone = Process::plan_as(&self.files, at, &settings, false, history)?;
        copy(&self.nodes[place].data(), &clone.data())?;
        // The copied lock file of a running node locks nothing.
        let from = (length(&self.nodes[place].log), length(&clone.log));
        (self.nodes[place].may_be_rejected, clone.may_be_rejected) = (true, true);
        let t0 = self.history.now();
        clone.start()?;
        let until = Instant::now() + REJECTED_MAX;
        while Instant::now() < until && clone.is_started() && self.nodes[place].is_started() {
            sleep(LOOK).await;
            clone.poll_exit()?;
            self.nodes[place].poll_exit()?;
        }
        let node = &self.nodes[place];
        let (code, line) = if clone.is_started() {
            (node.last_code.filter(|_| !node.is_started()), last_line(&node.log, from.0))
        } else {
            (clone.last_code, last_line(&clone.log, from.1))
        };
        let (what, t1, expected) = ("cloned".to_owned(), self.history.now(), true);
        let rejection = Rejection { what, n: original, t0, t1, expected, code, line };
        self.history.write(&Event::Rejection(rejection));
        clone.kill().await?;
        fs::remove_dir_all(&clone.dir).ok();
        // Either of the two may have won, so the original may be the one that the cluster rejects.
        self.nodes[place].poll_exit()?;
        if !self.nodes[place].is_started() {
            self.nodes[place].start()?;
        }
        let well = self.wait_ready(place, READY_MAX).await;
        let rejected = self.nodes[place].last_code == Some(REJECTED_CODE);
        self.nodes[place].may_be_rejected = false;
        if !well && rejected {
            self.repair(place).await?;
        }
        Ok(Some(Injected { nodes: vec![original], installed: t0, quiet: false, isolates: false }))
    }

    /// Removes a node and adds it again under its id, with an empty directory.
    pub(crate) async fn repair(&mut self, place: usize) -> anyhow::Result<()> {
        let id = self.nodes[place].id;
        let (path, gone) = (format!("/v1/cluster/nodes/{id}"), &[200, 404][..]);
        if !self.retry_until(id, "DELETE", &path, None, gone).await {
            return Ok(());
        }
        let data = self.nodes[place].data();
        fs::remove_dir_all(&data).with_context(|| format!("clear {}", data.display()))?;
        self.nodes[place].start()?;
        let peer = format!("{}:{PEER}", crate::arena::address(id));
        let body = json!({ "id": id, "peer": peer }).to_string();
        // If this fails, the check for health reports it.
        self.retry_until(id, "POST", "/v1/cluster/nodes", Some(body), &[200]).await;
        Ok(())
    }

    /// Asks the other nodes one after the other until one answers with a wanted status.
    pub(crate) async fn retry_until(
        &self,
        about: u64,
        method: &str,
        path: &str,
        body: Option<String>,
        wanted: &[u16],
    ) -> bool {
        let until = Instant::now() + REPAIR_MAX;
        while Instant::now() < until {
            for node in self.without(&[about]) {
                let (port, bearer, within) = (ADMIN, OPERATOR, PATIENCE);
                let call = Call { node, port, method, path, bearer, body: body.clone(), within };
                let answer = self.caller.call(call).await;
                if answer.is_ok_and(|answer| wanted.contains(&answer.status)) {
                    return true;
                }
            }
            sleep(LOOK).await;
        }
        false
    }
}
