//! One `fluxgate serve` process: its files, its addresses and its signals.

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
use super::wait::{wait_for, wait_until};

/// Longest orderly stop: requests are finished for 10 s at most.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 40;

/// A node's addresses, which threads can hold while the node is stopped and started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) id: u64,
    /// The gateway listener.
    pub(crate) gateway: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
    /// The peer listener.
    pub(crate) peer: SocketAddr,
}

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Addresses,
    pub(crate) data_dir: PathBuf,
    pub(crate) config: PathBuf,
    /// Everything that it printed, over all its incarnations.
    pub(crate) log: PathBuf,
    /// The settings of its configuration.
    pub(crate) settings: Settings,
    /// The program that it runs.
    pub(crate) program: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that is not running yet. `dir` contains its files.
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

    /// The command that starts it. It inherits nothing of the caller's environment.
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

    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.at.id);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let child = self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.child = Some(child.unwrap());
    }

    /// Whether it has a process, even a paused one.
    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether its process exited on its own.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    /// Kills the process, like a power cut.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the process for an orderly stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the exit of a process that was asked to stop.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let id = self.at.id;
        let child = self.child.as_mut().unwrap();
        let status =
            wait_for(&format!("node {id} ends"), STOP_DEADLINE, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Stops the process in order; it must exit with code 0.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.terminate();
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "node {}: {status}", self.at.id);
    }

    /// Sends a signal to this process and no other. After [`Signal::STOP`] none of its threads runs.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        if signal == Signal::STOP {
            wait_until("all threads are stopped", Duration::from_secs(5), || {
                all_threads_are_stopped(id)
            });
        }
    }

    /// The answer of `/readyz`.
    pub(crate) fn ready(&self) -> io::Result<Answer> {
        Request::get("/readyz").try_send(self.at.gateway)
    }

    /// Fails if the process exited on its own.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().unwrap()
        {
            let id = self.at.id;
            panic!("node {id} exited on its own: {status}\n{}", self.log_tail());
        }
    }

    /// The whole log.
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
        // SIGKILL ends a paused process, too. A process that has exited already is fine here.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The kernel stops each thread of a process on its own: for a moment some still run.
fn all_threads_are_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in brackets and may contain any character.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
