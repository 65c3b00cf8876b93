//! A gateway's process, with our file for it, adapted to ports of this test.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::http::Conn;
use crate::support::ports::Port;
use crate::support::wait_until;

/// Longest start of a gateway on a busy machine.
const START: Duration = Duration::from_secs(30);
/// The ports of the nodes, and the application's, in every file.
const NODES: [u16; 3] = [7101, 7102, 7103];
const GRPC: [u16; 3] = [7501, 7502, 7503];
const APPLICATION: u16 = 7400;

/// A gateway with a file in `config/gateways`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Envoy,
    EnvoyGrpc,
    Traefik,
    Caddy,
    Haproxy,
}

impl Kind {
    /// Traefik passes the limit headers of an admission to the application and cannot show them to
    /// the client.
    pub(super) fn shows_limits_on_success(self) -> bool {
        self != Self::Traefik
    }

    /// Whether it sends our error body when no node answers. Traefik has its own.
    pub(super) fn has_own_words(self) -> bool {
        self != Self::Traefik
    }

    /// Its files, the first of them its configuration.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["nginx.conf"],
            Self::Envoy => &["envoy.yaml"],
            Self::EnvoyGrpc => &["envoy-grpc.yaml"],
            Self::Traefik => &["traefik.yml", "traefik-routes.yml"],
            Self::Caddy => &["Caddyfile"],
            Self::Haproxy => &["haproxy.cfg", "fluxgate.lua"],
        }
    }

    /// The ports of the nodes in its files.
    fn nodes(self) -> [u16; 3] {
        if self.asks_by_grpc() { GRPC } else { NODES }
    }

    /// Whether it contacts the nodes over gRPC, on their gRPC listener.
    pub(super) fn asks_by_grpc(self) -> bool {
        self == Self::EnvoyGrpc
    }

    /// The ports that it listens on: the clients' port, and its own if it has one.
    fn ports(self) -> &'static [u16] {
        match self {
            Self::Nginx => &[8101],
            Self::Envoy => &[8111],
            Self::EnvoyGrpc => &[8112, 8113],
            Self::Traefik => &[8121, 8129],
            Self::Caddy => &[8131],
            Self::Haproxy => &[8141, 8149],
        }
    }

    fn command(self, dir: &Path) -> Command {
        let file = dir.join(self.files()[0]);
        let (program, words): (PathBuf, &[&str]) = match self {
            Self::Nginx => (
                "nginx".into(),
                &["-e", "stderr", "-g", "daemon off; pid nginx.pid;", "-p", ".", "-c"],
            ),
            Self::Envoy | Self::EnvoyGrpc => {
                (tool("envoy"), &["--concurrency", "2", "--use-dynamic-base-id", "-c"])
            }
            Self::Traefik => (tool("traefik"), &["--configFile"]),
            Self::Caddy => ("caddy".into(), &["run", "--adapter", "caddyfile", "--config"]),
            Self::Haproxy => ("haproxy".into(), &["-db", "-f"]),
        };
        let mut command = Command::new(program);
        command.args(words).arg(file);
        command
    }
}

/// A program from the folder of `scripts/setup-tests.sh`.
fn tool(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    target.unwrap_or_else(|| root.join("target")).join("tools/bin").join(name)
}

/// The marked lines that are enabled in a gateway's files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lines<'a> {
    AsTheyStand,
    /// Those for nodes with TLS, with the certificate of this CA.
    Tls(&'a Path),
    /// Those for HTTP/2 to nodes without TLS.
    Http2,
    /// Those for browsers with pages of this origin.
    Cors(&'a str),
}

impl Lines<'_> {
    /// Edits the text as the README of the files says.
    fn turn_on(self, text: &str) -> String {
        match self {
            Self::AsTheyStand => text.to_owned(),
            Self::Tls(ca) => without_plain(&unmarked(text, "# tls: "))
                .replace("/etc/fluxgate/ca.pem", &ca.display().to_string()),
            Self::Http2 => without_plain(&unmarked(text, "# http2: ")),
            Self::Cors(origin) => {
                unmarked(text, "# cors: ").replace("https://app.example.com", origin)
            }
        }
    }
}

/// The text with each line that has this mark enabled.
fn unmarked(text: &str, mark: &str) -> String {
    text.lines().map(|line| line.replacen(mark, "", 1) + "\n").collect()
}

/// The text without the lines for HTTP/1.1 without TLS.
fn without_plain(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.ends_with("# plain"));
    kept.map(|line| line.to_owned() + "\n").collect()
}

#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    ports: Vec<Port>,
    nodes: Vec<u16>,
    dir: TempDir,
}

impl Gateway {
    /// Starts a gateway with these lines of its files enabled.
    pub(super) fn start(kind: Kind, nodes: &[u16], application: u16, lines: Lines<'_>) -> Self {
        let dir = TempDir::with_prefix("fluxgate-gateway-").unwrap();
        let ports: Vec<Port> = kind.ports().iter().map(|_| Port::claim()).collect();
        let own = ports.iter().map(|port| port.addr().port());
        let moves: Vec<(u16, u16)> = (kind.nodes().into_iter().zip(nodes.iter().copied()))
            .chain([(APPLICATION, application)])
            .chain(kind.ports().iter().copied().zip(own))
            .collect();
        for name in kind.files() {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/gateways");
            let text = lines.turn_on(&fs::read_to_string(from.join(name)).unwrap());
            fs::write(dir.path().join(name), moved(&text, &moves)).unwrap();
        }
        let log = File::create(dir.path().join("log")).unwrap();
        let child = kind
            .command(dir.path())
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{kind:?} does not start ({error}): run scripts/setup-tests.sh")
        });
        let mut gateway = Self { child, ports, nodes: nodes.to_vec(), dir };
        wait_until(&format!("{kind:?} listens"), START, || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("{kind:?} has ended: {status}\n{}", gateway.log());
            }
            Conn::open(gateway.address()).is_ok()
        });
        gateway
    }

    /// The address for clients.
    pub(super) fn address(&self) -> SocketAddr {
        self.ports[0].addr()
    }

    /// The address for clients that need only its limits.
    pub(super) fn limits(&self) -> SocketAddr {
        self.ports[1].addr()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The connections to the nodes that the system knows, including recently closed ones.
    pub(super) fn connections(&self) -> usize {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let nodes: BTreeSet<u16> = self.nodes.iter().copied().collect();
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let pairs: BTreeSet<(u16, u16)> = table
            .lines()
            .skip(1)
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                Some((port(words.next()?)?, port(words.next()?)?))
            })
            .filter_map(|(local, remote)| match (nodes.contains(&local), nodes.contains(&remote)) {
                (true, false) if remote != 0 => Some((local, remote)),
                (false, true) => Some((remote, local)),
                _ => None,
            })
            .collect();
        pairs.len()
    }
}

/// Replaces the ports in a file by other ports.
fn moved(text: &str, moves: &[(u16, u16)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        let found = moves.iter().find(|(old, _)| number == old.to_string());
        out += before;
        match found {
            Some((_, new)) => out += &new.to_string(),
            None => out += number,
        }
        rest = after;
    }
    out + rest
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // nginx's workers end with their master only on an orderly stop.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = std::time::Instant::now() + Duration::from_secs(3);
        while std::time::Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("---- end of the gateway's log\n{tail}");
        }
    }
}
