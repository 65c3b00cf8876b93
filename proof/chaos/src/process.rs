//! One real node: its files, its process, and how that ended.
//!
//! Signals go to the process that was started here, by its id, and to no other. A node dies with
//! the harness, however that ends (`setpriv --pdeathsig`).

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
use crate::history::{Event, Exit, Start, Writer};
use crate::shim::Shim;
use crate::terms::Terms;

/// What administrators present.
pub(crate) const OPERATOR: &str = "operator-token-of-the-chaos-run";
/// What nodes present to each other.
pub(crate) const SECRET: &str = "cluster-secret-of-the-chaos-run";
/// Ports of every node, each in its own namespace.
pub(crate) const GATEWAY: u16 = 7101;
pub(crate) const ADMIN: u16 = 7201;
pub(crate) const PEER: u16 = 7301;
/// The disk of a node that can be filled, bytes: room for the log of a run.
const SMALL_DISK: &str = "size=96m";
/// Longest orderly stop: requests are finished for 10 s at most.
const STOP_MAX: Duration = Duration::from_secs(20);
/// The exit code of a node whose consensus stopped for good, such as on a failed disk.
const RESTART_CODE: i32 = 4;

/// The exit code of a node that is refused.
pub(crate) const REFUSED_CODE: i32 = 1;

/// What stands in a node's file beside its addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) node: u64,
    pub(crate) nodes: u64,
    pub(crate) lease_ms: u64,
    pub(crate) terms: Terms,
}

/// A node, running or not.
pub(crate) struct Process {
    /// Its place: namespace, address, and number in the history.
    pub(crate) id: u64,
    pub(crate) shim: Shim,
    pub(crate) log: PathBuf,
    /// Whether its disk is a small one of its own.
    pub(crate) small: bool,
    /// Its disk is failing, or did not long ago: it may end with the documented code.
    pub(crate) disk_fails: bool,
    /// Its directory may be one that must be refused.
    pub(crate) may_be_refused: bool,
    /// The lease in its file, milliseconds.
    pub(crate) lease_ms: u64,
    /// How the last process that ended by itself did.
    pub(crate) last_code: Option<i32>,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
    binary: PathBuf,
    library: PathBuf,
    child: Option<Child>,
    /// How its process was told to end, if it was.
    told: Option<Signal>,
    history: Arc<Writer>,
}

/// Where a run's files lie.
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

    /// A process at a place of its own that says that it is the node of these settings.
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
            may_be_refused: false,
            lease_ms: settings.lease_ms,
            last_code: None,
            dir,
            config,
            binary: files.binary.clone(),
            library: files.library.clone(),
            child: None,
            told: None,
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
        (self.told, self.last_code) = (None, None);
        self.history.write(&Event::Start(Start { n, t }));
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id);
        let pid = pid.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself; its end is noticed elsewhere.
            kill_process(pid, signal).ok();
        }
    }

    /// Tells the process to end, be it at once or in good order.
    pub(crate) fn tell_to_end(&mut self, how: Signal) -> anyhow::Result<()> {
        // What ended before has ended by itself.
        self.notice()?;
        self.signal(how);
        // A paused process hears of it only when it goes on; systemd sends both, too.
        self.signal(Signal::CONT);
        self.told = Some(how);
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus) {
        self.child = None;
        let documented = self.disk_fails && status.code() == Some(RESTART_CODE)
            || self.may_be_refused && status.code() == Some(REFUSED_CODE);
        self.last_code = status.code().filter(|_| self.told.is_none());
        let expected = match self.told {
            Some(Signal::KILL) => status.signal() == Some(Signal::KILL.as_raw()),
            Some(_) => status.code() == Some(0),
            None => false,
        };
        let (n, t, how) = (self.id, self.history.now(), status.to_string());
        self.history.write(&Event::Exit(Exit { n, t, how, expected: expected || documented }));
    }

    /// Ends the process at once, as a power cut would, but for what the kernel still holds.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.tell_to_end(Signal::KILL)?;
        self.wait_end().await
    }

    /// Ends the process in good order.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.tell_to_end(Signal::TERM)?;
        self.wait_end().await
    }

    /// Waits for the end of a process that was told to end. One that does not is ended, which is
    /// not what was expected of it.
    pub(crate) async fn wait_end(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let status = match tokio::time::timeout(STOP_MAX, child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                child.start_kill()?;
                child.wait().await?
            }
        };
        self.ended(status);
        Ok(())
    }

    /// Notes whether the process has ended by itself.
    pub(crate) fn notice(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.ended(status);
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Fills the node's own disk until so many bytes are left.
    pub(crate) fn fill(&self, left: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        let free = disk.f_bavail * disk.f_frsize;
        // One that is there already grows.
        let file = File::options().create(true).append(true).open(self.filler())?;
        // Allocated, not only named: the disk is a file system in memory.
        let bytes = free.saturating_sub(left);
        if bytes == 0 {
            return Ok(());
        }
        let from = file.metadata()?.len();
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), from, bytes) {
            // The node has written meanwhile: as full as it was to be.
            Ok(()) | Err(rustix::io::Errno::NOSPC) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives all room back.
    pub(crate) fn empty(&self) {
        // Most of the time there is none.
        fs::remove_file(self.filler()).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A paused process takes no other signal.
        self.signal(Signal::KILL);
        self.child = None;
        if self.small {
            let at = self.dir.display().to_string();
            must("umount", &["--lazy", &at]).ok();
        }
    }
}

/// The file of the process at place `id`.
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
    // Inside the node's own disk, so that a file which fills that disk lies beside the data.
    writeln!(text, "[node]\nid = {}\ndata_dir = {:?}", settings.node, dir.join("data"))?;
    writeln!(text, "[gateway]\nlisten = \"{at}:{GATEWAY}\"")?;
    writeln!(text, "[admin]\nlisten = \"{at}:{ADMIN}\"\noperator_token_file = {operator:?}")?;
    writeln!(text, "[peer]\nlisten = \"{at}:{PEER}\"")?;
    // Often enough that snapshots are made and sent within a run.
    writeln!(text, "[raft]\nsnapshot_every = 100\n{}", settings.terms.raft())?;
    writeln!(text, "[lease]\nduration = \"{}ms\"", settings.lease_ms)?;
    Ok(text)
}
