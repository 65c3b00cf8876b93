//! Opens a node's data directory and starts consensus on it.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_peer::{Call, CallError, Transport, TransportOptions};
use fluxgate_raft::{ClusterOptions, RaftHandle};
use fluxgate_store::{ClockNote, DataDir, Observer};
use fluxgate_types::{BootId, ClusterMs, DirId, NodeId};

use super::carryover;
use crate::clock::{Clock, boot_now};
use crate::config::{Config, material};
use crate::error::NodeError;
use crate::metrics::Metrics;
use crate::own_start::OwnStart;
use crate::random::fill_random;
use crate::state::{NodeState, NodeStateParts};
use crate::telemetry;

struct SyncTimes(Arc<Metrics>);

impl Observer for SyncTimes {
    fn synced(&self, took: Duration, _ops: usize) {
        self.0.fsync_seconds.observe(took.as_secs_f64());
    }
}

fn calls(
    config: &Config,
    directory: DirId,
    metrics: &Arc<Metrics>,
) -> Result<TransportOptions, NodeError> {
    let metrics = Arc::clone(metrics);
    let observer = move |_: NodeId, call: Call, result: Result<(), &CallError>, took: Duration| {
        metrics.called(call, result.is_ok(), took);
    };
    let secret = config.cluster_secret.as_ref();
    let tls = material::peer_calls(config).map_err(|error| NodeError::Tls(error.to_string()))?;
    Ok(TransportOptions {
        me: config.node_id,
        directory,
        cluster: config.cluster_name.clone(),
        secret: secret.map(|secret| secret.expose().to_owned()).unwrap_or_default(),
        addresses: config.members.clone(),
        tls,
        observer: Arc::new(observer),
        trace_headers: Arc::new(telemetry::trace_headers),
        #[cfg(feature = "sim")]
        link: None,
    })
}

/// What is known before consensus runs.
pub(super) struct Opening {
    config: Config,
    pub(super) data: Arc<DataDir>,
    metrics: Arc<Metrics>,
    noted: Option<ClockNote>,
    clock: Arc<Clock>,
}

/// Opens the data directory and starts consensus. Blocks.
pub(super) fn open(config: Config) -> Result<Arc<NodeState>, NodeError> {
    let opening = Opening::begin(config)?;
    let transport = opening.transport()?;
    let cluster = RaftHandle::start(&opening.data, opening.options(&transport))?;
    opening.finish(cluster, transport)
}

impl Opening {
    /// Opens the data directory.
    pub(super) fn begin(config: Config) -> Result<Self, NodeError> {
        let data = DataDir::open(&config.data_dir, &config.cluster_name, config.node_id.0)?;
        let noted = data.clock()?;
        let clock = Arc::new(Clock::new(noted.as_ref()));
        let data = Arc::new(data);
        Ok(Self { config, data, metrics: Arc::new(Metrics::new()), noted, clock })
    }

    /// The options for calls to the other nodes.
    pub(super) fn calls(&self) -> Result<TransportOptions, NodeError> {
        calls(&self.config, DirId(self.data.identity().dir_id), &self.metrics)
    }

    fn transport(&self) -> Result<Transport, NodeError> {
        let transport = Transport::new(self.calls()?).map_err(NodeError::Transport)?;
        // BEFORE consensus starts, which takes addresses from the log.
        transport.set_recovered(self.data.addresses()?);
        Ok(transport)
    }

    /// The options of consensus.
    pub(super) fn options(&self, transport: &Transport) -> ClusterOptions {
        let (config, stamps) = (&self.config, Arc::clone(&self.clock));
        ClusterOptions {
            me: config.node_id,
            cluster: config.cluster_name.clone(),
            heartbeat_ms: config.heartbeat_ms,
            election_ms: config.election_ms,
            snapshot_every: config.snapshot_every,
            transport: transport.clone(),
            now: Arc::new(move || stamps.now()),
            boot_now,
            observer: Arc::new(SyncTimes(Arc::clone(&self.metrics))),
            #[cfg(feature = "sim")]
            simulated: None,
        }
    }

    /// Begins the node's incarnation, on a log that was found sound.
    pub(super) fn finish(
        self,
        cluster: RaftHandle,
        transport: Transport,
    ) -> Result<Arc<NodeState>, NodeError> {
        let Self { config, data, metrics, noted, clock } = self;
        let boot = BootId(data.identity().boots);
        // AFTER the log was found sound: a node that fails to start must not use up its carryover.
        let carryover = carryover::take(&data)?;
        if let Some(left) = &carryover {
            let mut cluster = clock.cluster();
            cluster.catch_up(boot_now(), left.at.0.saturating_mul(1_000_000));
            clock.publish(cluster);
        }
        let noted = noted.map(|note| ClusterMs(note.cluster_ms));
        let mut nonce = [0u8; 8];
        fill_random(&mut nonce)
            .map_err(|error| NodeError::Fatal(format!("no randomness: {error}")))?;
        let (me, error_ms) = (config.node_id, config.clock_error_ms_max);
        let others: Vec<NodeId> = config.members.keys().copied().filter(|id| *id != me).collect();
        let incarnation = Incarnation::at_start(me, boot, carryover, noted, &others, error_ms);
        metrics.unplanned_stops.inc_by(data.begin_run()?);
        let id = StartId { boot, nonce: u64::from_le_bytes(nonce) };
        let start = OwnStart::new(id, Arc::clone(&data), crate::starts::read(&data)?);
        Ok(NodeState::new(NodeStateParts {
            config,
            start: Arc::new(start),
            clock,
            raft: cluster,
            data,
            transport,
            metrics,
            incarnation,
        }))
    }
}
