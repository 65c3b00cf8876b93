//! A whole node of a cluster of one on virtual time, whose listeners are called.
//!
//! It serves many inputs and is made anew now and then; [`with`] says how. What an input finds on
//! the node follows from the inputs before it, so a finding that does not come back from its own
//! input is replayed with the run that led to it: the same inputs in the same order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxgate_node::{
    Answer, Config, Layers, Listener, Node, NodeError, Secret, Simulated, Surroundings, Tokens,
};
use fluxgate_peer::process::{Clocks, Process};
use fluxgate_peer::{Answered, Link, LinkError};
use fluxgate_raft::SimulatedDisk;
use fluxgate_types::{Limit, NodeId};
use tokio::runtime::{Builder, RngSeed, Runtime};

/// What administrators present.
pub(crate) const OPERATOR: &str = "operator-token-of-the-fuzzer";
/// What nodes present to each other.
pub(crate) const SECRET: &str = "cluster-secret-of-the-fuzzer";
/// The cluster's name.
pub(crate) const CLUSTER: &str = "fuzzed";
/// Inputs that one node serves.
const INPUTS_MAX: u32 = 64;
/// A node must be ready so soon, virtual time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);
/// Wall-clock time at the beginning, milliseconds: 2024-01-20.
const EPOCH_MS: i64 = 1_705_747_200_000;

thread_local! {
    // Never let go of at the end of the thread: what a node's tasks need is gone by then.
    static HOST: RefCell<Option<ManuallyDrop<Host>>> = const { RefCell::new(None) };
}

/// A node, and the time that it lives in.
pub(crate) struct Host {
    runtime: Runtime,
    process: Arc<Process>,
    node: Node,
    simulated: Simulated,
    inputs: u32,
    /// Secrets that requests have held where no credential stands.
    pub(crate) said: BTreeSet<String>,
    _dir: tempfile::TempDir,
}

/// Lends the node that serves now, or a new one.
pub(crate) fn with(work: impl FnOnce(&mut Host)) {
    HOST.with_borrow_mut(|slot| {
        // Taken out: a host that a finding went through is not used again.
        let mut host = slot.take().map_or_else(Host::start, ManuallyDrop::into_inner);
        host.inputs += 1;
        work(&mut host);
        if host.is_well() && host.inputs < INPUTS_MAX {
            *slot = Some(ManuallyDrop::new(host));
        }
    });
}

/// A directory that goes with its value: where `TMPDIR` says, or in memory.
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

/// No other node is there.
struct Nobody;

impl Link for Nobody {
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
    config.default_limits =
        vec![Limit { name: "requests".into(), tokens: 1_000_000, period_ms: 60_000 }];
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
            let surroundings = Surroundings { link: Arc::new(Nobody), disk };
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
        Self { runtime, process, node, simulated, inputs: 0, said: BTreeSet::new(), _dir: dir }
    }

    /// What a listener answers.
    pub(crate) fn call(&self, listener: Listener, request: http::Request<Bytes>) -> Answer {
        let served = self.process.run(self.simulated.call(listener, request));
        self.runtime.block_on(served)
    }

    /// Virtual time passes.
    pub(crate) fn pass(&self, span: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(span).await });
    }

    /// Whether the node can serve another input. One that gave up is a finding; one that only is
    /// not ready any more, by what it was told, is replaced.
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
            panic!("the node gave up: {why}");
        }
        failed.is_none() && ready
    }
}
