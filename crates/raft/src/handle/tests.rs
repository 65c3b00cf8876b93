//! Consensus as a whole: one node, its own directory, and calls as another node would send them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fluxgate_engine::lease::LeaderId;
use fluxgate_peer::Call;
use fluxgate_store::DataDir;
use fluxgate_store::codec::Kind;
use fluxgate_types::{BootNs, ClusterMs, NodeId};
use fluxgate_wire::Grown as _;
use fluxgate_wire::raft::{AppendV1, VoteV1};

use super::*;
use crate::network::tests::lone_transport;

const THIS_NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
/// How long a lone node may take to lead, and to follow.
const LEADS_WITHIN: Duration = Duration::from_secs(20);

static CLOCK: AtomicU64 = AtomicU64::new(1);

/// Each reading is later than the one before.
fn boot_now() -> BootNs {
    BootNs(CLOCK.fetch_add(1, Ordering::Relaxed))
}

struct Silent;

impl fluxgate_store::Observer for Silent {
    fn synced(&self, _: Duration, _: usize) {}
}

fn options() -> ClusterOptions {
    ClusterOptions {
        me: THIS_NODE,
        cluster: "test".to_owned(),
        heartbeat_ms: 50,
        election_ms: (150, 300),
        snapshot_every: 1_000,
        transport: lone_transport(),
        now: Arc::new(|| ClusterMs(1)),
        boot_now,
        observer: Arc::new(Silent),
        #[cfg(feature = "sim")]
        simulated: None,
    }
}

/// The bound on the previous leader's lease rests on this of openraft: a leader's own vote, as one that
/// a majority gave it, and every later vote reach the disk through our log.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_votes_for_another_counts_its_own_leadership_as_a_contact() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), "test", THIS_NODE.0).unwrap();
    let raft = RaftHandle::start_here(&data, options()).await.unwrap();
    raft.allow_elections();
    raft.bootstrap(&BTreeMap::from([(THIS_NODE, "127.0.0.1:1".to_owned())])).await.unwrap();
    let leads = async {
        while raft.leads_in().is_none() || raft.confirm_leadership().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEADS_WITHIN, leads).await.unwrap();
    let term = raft.leads_in().unwrap();
    assert_eq!(raft.electorate(term), [vec![THIS_NODE]]);
    assert_eq!(raft.electorate(term + 1), Vec::<Vec<NodeId>>::new());
    let later = LeaderId { term: term + 1, node: OTHER };
    assert_eq!(raft.last_contact(later), None, "it may acknowledge itself yet");

    let proved = boot_now();
    let vote = VoteV1 { term: later.term, node: OTHER.0, committed: true };
    let message = AppendV1 { vote, prev: None, entries: Vec::new(), commit: None };
    raft.handle(Call::Append, &message.pack(Kind::PeerMessage).unwrap()).await.unwrap();
    let contact = raft.last_contact(later).expect("it has voted");
    assert!(contact > proved, "a lease that it proved at {proved:?} counts from later");
    // openraft answers before it publishes what it is now.
    let follows = async {
        while raft.leads_in() == Some(term) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEADS_WITHIN, follows).await.unwrap();
    assert_eq!(raft.electorate(term), Vec::<Vec<NodeId>>::new(), "it does not lead any more");
    raft.shutdown().await;
}
