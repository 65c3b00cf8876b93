//! `fluxgate demo`: a whole cluster on loopback, in one process.
//!
//! It prints what really happens: every line reports a call that was answered. The nodes are the
//! same as those of `serve`, each with its own ports, disk and consensus.

mod story;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fluxgate_server::{Config, Layers, Node};
use serde::Serialize;

use super::serve::stop_signal;
use crate::exit::{Exit, Misuse};
use crate::output;

/// Longest time for the nodes to form a cluster.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often readiness is polled meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Node i uses port PORT + i - 1 for gateways, that port + 100 for administrators, and + 200 for other nodes.\n\n\
        Example:\n  fluxgate demo --nodes 3 --port 7101"
)]
pub(crate) struct Args {
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Gateway port of the first node
    #[arg(long, value_name = "PORT", default_value_t = 7101)]
    pub(crate) port: u16,
    /// Data directory of the nodes; by default a temporary directory, removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print one line of JSON when ready, and nothing more
    #[arg(long)]
    pub(crate) json: bool,
}

/// The addresses of one node in the JSON line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DemoNode {
    pub(crate) id: u64,
    pub(crate) gateway: String,
    pub(crate) admin: String,
}

/// One key per scope.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DemoKeys {
    pub(crate) read: String,
    pub(crate) write: String,
    pub(crate) admin: String,
}

/// The JSON line of `--json`.
#[derive(Serialize)]
struct Ready<'a> {
    nodes: &'a [DemoNode],
    operator_token: &'a str,
    keys: &'a DemoKeys,
}

/// Runs the cluster until Ctrl-C.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.port == 0 || args.port.checked_add(200 + u16::from(args.nodes)).is_none() {
        let why = "--port: PORT + 200 + the number of nodes must be a valid port";
        return Err(Misuse(why.to_owned()).into());
    }
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("cannot create a temporary directory")?),
    };
    let dir = args.data_dir.clone().or(temporary.as_ref().map(|t| t.path().to_path_buf()));
    let dir = dir.unwrap_or_default();
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let operator_token = secret(&dir, "operator.token")?;
    let cluster_secret = secret(&dir, "cluster.secret")?;
    let configs: Vec<Config> = (1..=args.nodes)
        .map(|node| configuration(args, &dir, node, &operator_token, &cluster_secret))
        .collect::<Result<_, _>>()?;
    let telemetry = configs.first().map(fluxgate_server::telemetry::init).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let exit = runtime.block_on(run_cluster(args, configs, &operator_token));
    runtime.shutdown_background();
    if let Some(telemetry) = telemetry {
        telemetry.shutdown();
    }
    exit
}

/// Reads or creates a secret next to the data, so that an existing directory can be used again.
fn secret(dir: &Path, name: &str) -> anyhow::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join(name);
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text.trim().to_owned());
    }
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("cannot draw random bytes: {error}"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(text)
}

fn configuration(
    args: &Args,
    dir: &Path,
    node: u8,
    operator: &str,
    secret: &str,
) -> anyhow::Result<Config> {
    let port = |node: u8, above: u16| args.port + above + u16::from(node) - 1;
    let address = |above: u16| format!("127.0.0.1:{}", port(node, above));
    let members: Vec<String> = (1..=args.nodes)
        .map(|id| format!("{{ id = {id}, peer = \"127.0.0.1:{}\" }}", port(id, 200)))
        .collect();
    let members = format!("[cluster]\nname = \"demo\"\nmembers = [{}]\n", members.join(", "));
    let data_dir = dir.join(format!("node{node}")).display().to_string();
    Layers::default()
        .with_text(&members, "demo")
        .with_environment(std::env::vars_os())
        .with_flag("cluster", "secret", secret)
        .with_flag("node", "id", i64::from(node))
        .with_flag("node", "data_dir", data_dir)
        .with_flag("gateway", "listen", address(0))
        .with_flag("admin", "listen", address(100))
        .with_flag("admin", "operator_token", operator)
        .with_flag("peer", "listen", address(200))
        // The story is printed to standard output; log lines would bury it.
        .with_flag("telemetry", "log", "error")
        .finish()
        .map_err(|problems| Misuse(format!("invalid environment variables:\n{problems}")).into())
}

async fn run_cluster(
    args: &Args,
    configs: Vec<Config>,
    operator_token: &str,
) -> anyhow::Result<Exit> {
    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Node::start(config).await.context("cannot start a node")?);
    }
    let listening: Vec<DemoNode> = nodes
        .iter()
        .zip(1..)
        .map(|(node, id)| {
            let addresses = node.addresses();
            let url = |address| format!("http://{address}");
            DemoNode { id, gateway: url(addresses.gateway), admin: url(addresses.admin) }
        })
        .collect();
    wait_until_ready(&nodes).await?;
    let keys = story::create_keys(&listening, operator_token).await?;
    if args.json {
        let ready = Ready { nodes: &listening, operator_token, keys: &keys };
        output::data(&serde_json::to_string(&ready)?)?;
    } else {
        story::run(&listening, operator_token, &keys).await?;
    }
    stop_signal().await?;
    // All at once, as when the machine shuts down.
    let mut stopping = tokio::task::JoinSet::new();
    nodes.into_iter().for_each(|node| drop(stopping.spawn(node.stop())));
    stopping.join_all().await;
    Ok(Exit::Done)
}

async fn wait_until_ready(nodes: &[Node]) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !nodes.iter().all(Node::is_ready) {
        if begun.elapsed() > FORM_TIMEOUT {
            bail!("the nodes did not form a cluster within {} s", FORM_TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
