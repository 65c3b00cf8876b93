//! One real node: its files, its process, and how the process exited.
//!
//! Signals go only to the process that was started here, by its id. A node dies with the harness,
//! however that ends (`setpriv --pdeathsig`).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::arena::{DISK, address, must, namespace};
use crate::shim::Shim;
use crate::terms::Terms;
use fluxgate_record::history::{Event, Exit, REJECTED_CODE, Start, Writer};

/// The operator token.
pub(crate) const OPERATOR: &str = "operator-token-of-the-chaos-run";
/// The cluster secret.
pub(crate) const SECRET: &str = "cluster-secret-of-the-chaos-run";
/// Ports of every node, each in its own namespace.
pub(crate) const GATEWAY: u16 = 7101;
pub(crate) const ADMIN: u16 = 7201;
pub(crate) const PEER: u16 = 7301;
/// Size of a node's small disk: room for the log of a run.
const SMALL_DISK: &str = "size=96m";
/// Longest orderly stop: requests are finished for 10 s at most.
const STOP_MAX: Duration = Duration::from_secs(20);
/// The exit code of a node whose consensus stopped for good, such as on a failed disk.
const RESTART_CODE: i32 = 4;

/// A node's configuration apart from its addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) node: u64,
    pub(crate) nodes: u64,
    pub(crate) lease_ms: u64,
    pub(crate) terms: Terms,
}

pub(crate) struct Process {
    /// Its slot: namespace, address, and number in the history.
    pub(crate) id: u64,
    pub(crate) shim: Shim,
    pub(crate) log: PathBuf,
    /// Whether it has a small disk of its own.
    pub(crate) small: bool,
    /// Its disk fails, or did recently: it may exit with the documented code.
    pub(crate) disk_fails: bool,
    /// Its directory may be one that must be rejected.
    pub(crate) may_be_rejected: bool,
    /// The lease in its configuration file, milliseconds.
    pub(crate) lease_ms: u64,
    /// The exit code of the last process that exited on its own.
    pub(crate) last_code: Option<i32>,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
    binary: PathBuf,
    library: PathBuf,
    child: Option<Child>,
    /// The signal that was sent to end the process, if one was.
    end_signal: Option<Signal>,
    history: Arc<Writer>,
}

#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) out: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) library: PathBuf,
}

impl Process {
    pub(crate) fn plan(
        files: &Files,
        id: u64,
        nodes: u64,
        (small, terms): (bool, Terms),
        history: Arc<Writer>,
    ) -> anyhow::Result<Self> {
        let node = Settings { node: id, nodes, lease_ms: terms.lease_ms(id), terms };
        Self::plan_as(files, id, &node, small, history)
    }

    /// A process in slot `id` that claims to be the node of these settings.
    pub(crate) fn plan_as(
        files: &Files,
        id: u64,
        settings: &Settings,
        small: bool,
        history: Arc<Writer>,
    ) -> anyhow::Result<Self> {
        let out = &files.out;
        let dir = out.join(format!("node{id}"));
        fs::create_dir_all(&dir)?;
        if small {
            let to = dir.display().to_string();
            must("mount", &["-t", "tmpfs", "-o", SMALL_DISK, DISK, &to])?;
        }
        let config = out.join(format!("node{id}.toml"));
        fs::write(&config, configuration(out, &dir, id, settings)?)?;
        Ok(Self {
            id,
            shim: Shim::create(out.join(format!("node{id}.shim")))?,
            log: out.join(format!("node{id}.log")),
            small,
            disk_fails: false,
            may_be_rejected: false,
            lease_ms: settings.lease_ms,
            last_code: None,
            dir,
            config,
            binary: files.binary.clone(),
            library: files.library.clone(),
            child: None,
            end_signal: None,
            history,
        })
    }

    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let inside = format!("--net=/run/netns/{}", namespace(self.id));
        let (t, n) = (self.history.now(), self.id);
        let child = Command::new("nsenter")
            .args([&inside, "setpriv", "--pdeathsig", "KILL", "env"])
            .arg(format!("LD_PRELOAD={}", self.library.display()))
            .arg(format!("FLUXGATE_CHAOS_SHIM={}", self.shim.path.display()))
            .arg(&self.binary)
            .args(["serve", "--config"])
            .arg(&self.config)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start a node")?;
        self.child = Some(child);
        (self.end_signal, self.last_code) = (None, None);
        self.history.write(&Event::Start(Start { n, t }));
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id);
        let pid = pid.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have exited on its own; `poll_exit` records that.
            kill_process(pid, signal).ok();
        }
    }

    /// Sends the signal to end: SIGKILL, or SIGTERM for an orderly stop.
    pub(crate) fn signal_end(&mut self, how: Signal) -> anyhow::Result<()> {
        // A process that exited before this did so on its own.
        self.poll_exit()?;
        self.signal(how);
        // A paused process handles SIGTERM only when it continues; systemd sends both, too.
        self.signal(Signal::CONT);
        self.end_signal = Some(how);
        Ok(())
    }

    fn record_exit(&mut self, status: ExitStatus) {
        self.child = None;
        let documented = self.disk_fails && status.code() == Some(RESTART_CODE)
            || self.may_be_rejected && status.code() == Some(REJECTED_CODE);
        self.last_code = status.code().filter(|_| self.end_signal.is_none());
        let expected = match self.end_signal {
            Some(Signal::KILL) => status.signal() == Some(Signal::KILL.as_raw()),
            Some(_) => status.code() == Some(0),
            None => false,
        };
        let (n, t, how) = (self.id, self.history.now(), status.to_string());
        self.history.write(&Event::Exit(Exit { n, t, how, expected: expected || documented }));
    }

    /// Kills the process: like a power cut, except that the page cache survives.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal_end(Signal::KILL)?;
        self.wait_end().await
    }

    /// Stops the process in order.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal_end(Signal::TERM)?;
        self.wait_end().await
    }

    /// Waits for a process that was asked to end. One that does not is killed, which counts as
    /// unexpected.
    pub(crate) async fn wait_end(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let status = match tokio::time::timeout(STOP_MAX, child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                child.start_kill()?;
                child.wait().await?
            }
        };
        self.record_exit(status);
        Ok(())
    }

    /// Records the exit of a process that exited on its own.
    pub(crate) fn poll_exit(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.record_exit(status);
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Fills the node's small disk until `left` bytes are free.
    pub(crate) fn fill(&self, left: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        let free = disk.f_bavail * disk.f_frsize;
        // An existing filler grows.
        let file = File::options().create(true).append(true).open(self.filler())?;
        // Allocated, not sparse: the disk is a file system in memory.
        let bytes = free.saturating_sub(left);
        if bytes == 0 {
            return Ok(());
        }
        let from = file.metadata()?.len();
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), from, bytes) {
            // The node has written in the meantime: the disk is as full as wanted.
            Ok(()) | Err(rustix::io::Errno::NOSPC) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the filler.
    pub(crate) fn empty(&self) {
        // Usually there is no filler.
        fs::remove_file(self.filler()).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL ends a paused process, too.
        self.signal(Signal::KILL);
        self.child = None;
        if self.small {
            let at = self.dir.display().to_string();
            must("umount", &["--lazy", &at]).ok();
        }
    }
}

/// The configuration file of the process in slot `id`.
pub(crate) fn configuration(
    out: &Path,
    dir: &Path,
    id: u64,
    settings: &Settings,
) -> anyhow::Result<String> {
    let members: Vec<String> = (1..=settings.nodes)
        .map(|id| format!("{{ id = {id}, peer = \"{}:{PEER}\" }}", address(id)))
        .collect();
    let at = address(id);
    let (secret, operator) = (out.join("secret"), out.join("operator"));
    fs::write(&secret, SECRET)?;
    fs::write(&operator, OPERATOR)?;
    let mut text = String::new();
    writeln!(text, "[cluster]\nname = \"chaos\"\nsecret_file = {secret:?}")?;
    writeln!(text, "members = [{}]", members.join(", "))?;
    // On the node's own disk, so that the filler uses up the room of the data.
    writeln!(text, "[node]\nid = {}\ndata_dir = {:?}", settings.node, dir.join("data"))?;
    writeln!(text, "[gateway]\nlisten = \"{at}:{GATEWAY}\"")?;
    writeln!(text, "[admin]\nlisten = \"{at}:{ADMIN}\"\noperator_token_file = {operator:?}")?;
    writeln!(text, "[peer]\nlisten = \"{at}:{PEER}\"")?;
    // Often enough that snapshots are taken and sent within a run.
    writeln!(text, "[raft]\nsnapshot_every = 100\n{}", settings.terms.raft())?;
    writeln!(text, "[lease]\nduration = \"{}ms\"", settings.lease_ms)?;
    Ok(text)
}
