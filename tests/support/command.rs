//! The binary as a script runs it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::binary::binary;
use super::cluster::{Cluster, OPERATOR};

/// Longest run of a command; one that serves although it should fail is killed.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// A command with the operator token and nothing else in its environment.
pub(crate) fn fluxgate(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("FLUXGATE_TOKEN", OPERATOR).stdin(Stdio::null());
    command
}

/// Runs a command that must end with this code; returns its output.
#[track_caller]
pub(crate) fn run(command: &mut Command, code: i32) -> (String, String) {
    run_with_input(command, "", code)
}

/// The same for a command that reads this text.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, input: &str, code: i32) -> (String, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing may have closed its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    match end.recv_timeout(COMMAND_DEADLINE) {
        Ok(output) => texts(&output, code),
        Err(_) => {
            kill_process(pid, Signal::KILL).unwrap();
            let output = end.recv().unwrap();
            texts(&output, code);
            panic!("{command:?} did not end within {COMMAND_DEADLINE:?}: {output:?}");
        }
    }
}

#[track_caller]
fn texts(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let shown = format!("{}\nstdout: {stdout}\nstderr: {stderr}", output.status);
    assert_eq!(output.status.code(), Some(code), "{shown}");
    (stdout, stderr)
}

impl Cluster {
    /// An administrator's command for a node.
    pub(crate) fn cli(&self, node: u64, words: &[&str]) -> Command {
        let mut command = fluxgate(words);
        let url = format!("http://{}", self.node(node).at.admin);
        command.env("FLUXGATE_URL", url);
        let gateways = self.addresses();
        let gateways = gateways.iter().map(|at| format!("http://{}", at.gateway));
        let gateways: Vec<String> = gateways.collect();
        command.env("FLUXGATE_GATEWAY_URL", gateways.join(","));
        command
    }
}
