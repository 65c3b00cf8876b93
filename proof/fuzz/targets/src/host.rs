//! A whole node, alone in its cluster, on virtual time; targets call its listeners.
//!
//! It serves many inputs and is replaced now and then; see [`with`]. The state of the node depends
//! on earlier inputs, so a finding that its own input does not reproduce needs a replay of the
//! whole run: the same inputs in the same order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxgate_peer::process::{Clocks, Process};
use fluxgate_peer::{Answered, Link, LinkError};
use fluxgate_raft::SimulatedDisk;
use fluxgate_server::{
    Answer, Config, Layers, Listener, Node, NodeError, Secret, Simulated, Surroundings, Tokens,
};
use fluxgate_types::{Limit, NodeId};
use tokio::runtime::{Builder, RngSeed, Runtime};

/// The operator token.
pub(crate) const OPERATOR: &str = "operator-token-of-the-fuzzer";
/// The cluster secret.
pub(crate) const SECRET: &str = "cluster-secret-of-the-fuzzer";
pub(crate) const CLUSTER: &str = "fuzzed";
/// Inputs that one node serves.
const INPUTS_MAX: u32 = 64;
/// How soon a node must be ready, virtual time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often to check that it is ready.
const LOOK: Duration = Duration::from_millis(50);
/// Wall-clock time at the beginning, milliseconds: 2024-01-20.
const EPOCH_MS: i64 = 1_705_747_200_000;

thread_local! {
    // Never dropped when the thread ends: the node's tasks need thread locals that no longer exist.
    static HOST: RefCell<Option<ManuallyDrop<Host>>> = const { RefCell::new(None) };
}

/// A node, and the runtime with its virtual time.
pub(crate) struct Host {
    runtime: Runtime,
    process: Arc<Process>,
    node: Node,
    simulated: Simulated,
    inputs: u32,
    /// Secrets that requests contained outside of a credential header.
    pub(crate) printable_secrets: BTreeSet<String>,
    _dir: tempfile::TempDir,
}

/// Lends the current node, or a new one.
pub(crate) fn with(work: impl FnOnce(&mut Host)) {
    HOST.with_borrow_mut(|slot| {
        // Taken out: a host whose work panicked is not used again.
        let mut host = slot.take().map_or_else(Host::start, ManuallyDrop::into_inner);
        host.inputs += 1;
        work(&mut host);
        if host.is_well() && host.inputs < INPUTS_MAX {
            *slot = Some(ManuallyDrop::new(host));
        }
    });
}

/// A directory that is removed when dropped: in `TMPDIR`, or in memory.
pub(crate) fn scratch() -> tempfile::TempDir {
    let named = || {
        let mut named = tempfile::Builder::new();
        named.prefix("fluxgate-fuzz-");
        named
    };
    let shm = Path::new("/dev/shm");
    let dir = if std::env::var_os("TMPDIR").is_none() && shm.is_dir() {
        named().tempdir_in(shm)
    } else {
        named().tempdir()
    };
    dir.expect("a directory")
}

/// There are no other nodes.
struct NoPeers;

impl Link for NoPeers {
    fn post(
        &self,
        _to: NodeId,
        _path: String,
        _headers: Vec<(String, String)>,
        _body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Layers::default().finish().expect("the defaults are sound");
    config.cluster_name = CLUSTER.to_owned();
    config.cluster_secret = Some(Secret::new(SECRET));
    config.operator_token = Some(Tokens::one(Secret::new(OPERATOR)));
    config.data_dir = dir.join("node1");
    config.default_limits = vec![Limit::new("requests", 1_000_000, 60_000)];
    config
}

impl Host {
    fn start() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(b"fuzz"))
            .build()
            .expect("a runtime");
        let dir = scratch();
        let config = config(dir.path());
        let (process, node, simulated) = runtime.block_on(async {
            let clocks = Arc::new(Clocks::new(1_000_000_000_000, 0, EPOCH_MS));
            let process = Process::new(clocks, Arc::default(), 1);
            let disk = SimulatedDisk::default();
            let surroundings = Surroundings { link: Arc::new(NoPeers), disk };
            let started = process.run(Node::start_simulated(config, surroundings)).await;
            let (node, simulated) = started.expect("a node starts");
            let ready = async {
                while !process.run(async { node.is_ready() }).await {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(READY_WITHIN, ready).await.expect("a node becomes ready");
            (process, node, simulated)
        });
        Self {
            runtime,
            process,
            node,
            simulated,
            inputs: 0,
            printable_secrets: BTreeSet::new(),
            _dir: dir,
        }
    }

    /// Calls a listener and returns its answer.
    pub(crate) fn call(&self, listener: Listener, request: http::Request<Bytes>) -> Answer {
        let served = self.process.run(self.simulated.call(listener, request));
        self.runtime.block_on(served)
    }

    /// Lets virtual time pass.
    pub(crate) fn pass(&self, span: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(span).await });
    }

    /// Whether the node can serve another input. A node that failed is a finding; a node that an
    /// input only made unready is replaced.
    fn is_well(&mut self) -> bool {
        let Self { runtime, process, node, .. } = self;
        let look = async {
            let failed = tokio::select! {
                biased;
                error = node.failed() => Some(error),
                () = std::future::ready(()) => None,
            };
            (failed, node.is_ready())
        };
        let (failed, ready) = runtime.block_on(process.run(look));
        if let Some(NodeError::Fatal(why)) = &failed {
            panic!("the node failed: {why}");
        }
        failed.is_none() && ready
    }
}
