//! The network of a cluster under test: one namespace for each node, one for the harness, a bridge.
//!
//! Answers for: creating it, faults on its links, and removing it, also what a killed run left
//! behind. Every name has one prefix, and only processes inside namespaces with that prefix are
//! killed. Must never touch the machine's own network.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Prefix of all namespaces of the harness.
const PREFIX: &str = "fxchaos";
/// Device name of the small disks of the harness.
pub(crate) const DISK: &str = "fxchaos";
/// Where the kernel lists namespaces by name.
const NAMESPACES: &str = "/run/netns";
/// Allows one run at a time on a machine.
const LOCK: &str = "/run/fxchaos.lock";
/// Queue settings of a link with little bandwidth.
const NARROW: &[&str] = &["tbf", "rate", "400kbit", "burst", "8kb", "latency", "600ms"];

/// The namespaces of a run, removed when dropped.
#[derive(Debug)]
pub(crate) struct NetworkTestbed {
    nodes: u64,
    _lock: File,
}

/// Runs a command; any exit code but 0 is an error.
pub(crate) fn must(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(output)
}

fn hub() -> String {
    format!("{PREFIX}-hub")
}

pub(crate) fn namespace(node: u64) -> String {
    format!("{PREFIX}-{node}")
}

pub(crate) fn address(node: u64) -> Ipv4Addr {
    Ipv4Addr::new(10, 231, 0, u8::try_from(node).unwrap_or(u8::MAX))
}

/// Direction of packets, seen from the node that drops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl NetworkTestbed {
    /// Creates the namespaces and moves this thread, and all that it starts, into the harness's
    /// own.
    pub(crate) fn make(nodes: u64) -> anyhow::Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("{LOCK}: this needs root"))?;
        lock.try_lock().with_context(|| format!("{LOCK}: another run is under way"))?;
        clean()?;
        // From here on an error drops `arena`, which removes what exists.
        let arena = Self { nodes, _lock: lock };
        let hub = hub();
        must("ip", &["netns", "add", &hub])?;
        must("ip", &["-n", &hub, "link", "set", "lo", "up"])?;
        must("ip", &["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        must("ip", &["-n", &hub, "addr", "add", "10.231.0.254/24", "dev", "br0"])?;
        must("ip", &["-n", &hub, "link", "set", "br0", "up"])?;
        for node in 1..=nodes {
            let (inside, port) = (namespace(node), format!("node{node}"));
            must("ip", &["netns", "add", &inside])?;
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", &inside];
            must("ip", &[&["-n", &hub, "link", "add", &port][..], &peer[..]].concat())?;
            must("ip", &["-n", &hub, "link", "set", &port, "master", "br0", "up"])?;
            let address = format!("{}/24", address(node));
            must("ip", &["-n", &inside, "addr", "add", &address, "dev", "eth0"])?;
            must("ip", &["-n", &inside, "link", "set", "lo", "up"])?;
            must("ip", &["-n", &inside, "link", "set", "eth0", "up"])?;
        }
        let inside = File::open(Path::new(NAMESPACES).join(&hub)).context("open a namespace")?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&inside), kind)
            .context("enter a namespace")?;
        Ok(arena)
    }

    fn rule(node: u64, rule: &[&str]) -> anyhow::Result<()> {
        let path = Path::new(NAMESPACES).join(namespace(node));
        let inside = format!("--net={}", path.display());
        must("nsenter", &[&[&inside, "iptables", "-w"][..], rule].concat()).map(drop)
    }

    /// Drops packets from, or to, another node.
    pub(crate) fn cut(at: u64, way: Way, other: u64) -> anyhow::Result<()> {
        let address = address(other).to_string();
        match way {
            Way::In => Self::rule(at, &["-A", "INPUT", "-s", &address, "-j", "DROP"]),
            Way::Out => Self::rule(at, &["-A", "OUTPUT", "-d", &address, "-j", "DROP"]),
        }
    }

    /// Drops a percentage of the packets from another node.
    pub(crate) fn lose(at: u64, other: u64, percent: u64) -> anyhow::Result<()> {
        let (address, part) = (address(other).to_string(), format!("0.{percent:02}"));
        let random = ["-m", "statistic", "--mode", "random", "--probability", &part];
        let rule = [&["-A", "INPUT", "-s", &address][..], &random[..], &["-j", "DROP"][..]];
        Self::rule(at, &rule.concat())
    }

    /// Answers every packet of another node with a reset.
    pub(crate) fn reset(at: u64, other: u64) -> anyhow::Result<()> {
        let address = address(other).to_string();
        let from = ["-A", "INPUT", "-p", "tcp", "-s", &address];
        let reject = ["-j", "REJECT", "--reject-with", "tcp-reset"];
        Self::rule(at, &[&from[..], &reject[..]].concat())
    }

    /// Limits the bandwidth of a node, so that everything queues.
    pub(crate) fn narrow(node: u64) -> anyhow::Result<()> {
        let inside = namespace(node);
        let queue = ["-n", &inside, "qdisc", "replace", "dev", "eth0", "root"];
        must("tc", &[&queue[..], NARROW].concat()).map(drop)
    }

    /// Pulls a node's network plug, or puts it back.
    pub(crate) fn plug(node: u64, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "up" } else { "down" };
        must("ip", &["-n", &hub(), "link", "set", &format!("node{node}"), state]).map(drop)
    }

    /// Removes all faults from all links.
    pub(crate) fn heal(&self) -> anyhow::Result<()> {
        for node in 1..=self.nodes {
            Self::rule(node, &["-F"])?;
            let inside = namespace(node);
            // Fails where no queue was set.
            must("tc", &["-n", &inside, "qdisc", "del", "dev", "eth0", "root"]).ok();
            Self::plug(node, true)?;
        }
        Ok(())
    }
}

impl Drop for NetworkTestbed {
    fn drop(&mut self) {
        // `Drop` cannot report errors; the next run cleans up first and does.
        clean().ok();
    }
}

/// Kills all processes in the harness's namespaces, and removes these and its disks.
fn clean() -> anyhow::Result<()> {
    clean_namespaces()?;
    let mounts = std::fs::read_to_string("/proc/mounts").context("read the mounts")?;
    for mount in mounts.lines() {
        let mut words = mount.split_whitespace();
        if let (Some(DISK), Some(at), Some("tmpfs")) = (words.next(), words.next(), words.next()) {
            must("umount", &["--lazy", at])?;
        }
    }
    Ok(())
}

fn clean_namespaces() -> anyhow::Result<()> {
    let listed = must("ip", &["netns", "list"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let me = rustix::process::getpid();
    for name in names.filter(|name| name.starts_with(&format!("{PREFIX}-"))) {
        let inside = must("ip", &["netns", "pids", name])?;
        for pid in String::from_utf8_lossy(&inside.stdout).lines() {
            let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|pid| *pid != me) {
                // It may have exited in the meantime.
                kill_process(pid, Signal::KILL).ok();
            }
        }
        must("ip", &["netns", "del", name])?;
    }
    Ok(())
}
