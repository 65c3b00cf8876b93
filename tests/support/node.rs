//! One `fluxgate serve` process: its files, its addresses and the signals it is sent.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::binary::binary;
use super::http::{Answer, Request};
use super::settings::Settings;
use super::wait::wait_for;

/// Longest orderly stop: requests are finished for 10 s at most.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 40;

/// A node's addresses, which threads can hold while the node is stopped and started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// Its number.
    pub(crate) id: u64,
    /// Where gateways ask.
    pub(crate) gateway: SocketAddr,
    /// Where administrators ask.
    pub(crate) admin: SocketAddr,
    /// Where peers ask.
    pub(crate) peer: SocketAddr,
}

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) at: Addresses,
    /// Where its data lies.
    pub(crate) data_dir: PathBuf,
    /// Its configuration file.
    pub(crate) config: PathBuf,
    /// Everything that it printed, all its lives.
    pub(crate) log: PathBuf,
    /// What its configuration says.
    pub(crate) settings: Settings,
    /// The program that it runs.
    pub(crate) program: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet. `dir` holds its files.
    pub(crate) fn new(at: Addresses, dir: &std::path::Path, settings: Settings) -> Self {
        let id = at.id;
        Self {
            at,
            data_dir: dir.join(format!("node{id}")),
            config: dir.join(format!("node{id}.toml")),
            log: dir.join(format!("node{id}.log")),
            settings,
            program: binary(),
            child: None,
        }
    }

    /// The command that serves it. Nothing of the caller's environment reaches it.
    pub(crate) fn command(&self) -> Command {
        fs::write(&self.config, self.settings.to_toml()).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--config"])
            .arg(&self.config)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts the process.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.at.id);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let child = self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.child = Some(child.unwrap());
    }

    /// Whether a process of it exists, be it paused.
    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether its process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    /// Ends the process at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the process to end in good order.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the end of a process that was asked to end.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let id = self.at.id;
        let child = self.child.as_mut().unwrap();
        let status =
            wait_for(&format!("node {id} ends"), STOP_DEADLINE, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Stops the process in good order, which must end with code 0.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.terminate();
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "node {}: {status}", self.at.id);
    }

    /// Sends a signal to this process and no other.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Whether it says that it would answer validates.
    pub(crate) fn ready(&self) -> io::Result<Answer> {
        Request::get("/readyz").try_send(self.at.gateway)
    }

    /// Fails when the process has ended by itself.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().unwrap()
        {
            let id = self.at.id;
            panic!("node {id} has ended by itself: {status}\n{}", self.log_tail());
        }
    }

    /// The log as it is.
    pub(crate) fn log_text(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of the log.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ends a paused process too. One that has ended already is no fault here.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
