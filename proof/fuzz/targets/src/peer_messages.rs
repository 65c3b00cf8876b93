//! Messages from other nodes: every message on the peer listener, and the counters behind it.
//!
//! Three parts, chosen by the first byte. Any bytes as the payload of any message: rejected, or
//! read and written again the same. A session of the real counters with peers that lie (`session`).
//! Any message sent to the listener of a whole node. Consensus gets no foreign messages there: a
//! member that sends false messages to Raft is outside the model, so only its decoders are tested.

use bytes::Bytes;
use fluxgate_peer::Call;
use fluxgate_raft::fuzzing as raft;
use fluxgate_server::Listener;
use fluxgate_server::fuzzing as node;
use fluxgate_store::codec::{self, Kind};
use fluxgate_wire::VERSION;

use crate::host::{self, CLUSTER, Host, SECRET};
use crate::session;
use crate::source::Source;

/// Calls of one input to the listener.
const CALLS_MAX: usize = 6;
/// Calls that reach the counters, the leases and the replicated state.
const CALLS: [Call; 13] = [
    Call::Propose,
    Call::Lease,
    Call::Applied,
    Call::TransferRequest,
    Call::Gossip,
    Call::Give,
    Call::Usage,
    Call::Status,
    Call::Membership,
    Call::UsageMany,
    Call::Served,
    Call::Introduce,
    Call::Clocks,
];

/// One message, a session, or calls to a node.
pub fn peer_messages(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(4) {
        0 => decode(source),
        1 | 2 => session::run(&mut source),
        _ => host::with(|host| listener(host, source)),
    }
}

fn decode(mut source: Source<'_>) {
    let all: Vec<raft::Rewrite> = raft::MESSAGES.iter().copied().chain(node::messages()).collect();
    let rewrite = all[source.below(all.len())];
    let payload = source.rest();
    let sealed = codec::seal(Kind::PeerMessage, VERSION, payload).expect("it fits");
    stable(rewrite, &sealed);
    // The raw bytes, without an envelope of ours: every decoder rejects them, or they are an
    // envelope.
    for rewrite in all {
        stable(rewrite, payload);
    }
}

/// A message that was read once must read the same after writing it.
pub(crate) fn stable(rewrite: raft::Rewrite, bytes: &[u8]) {
    let Ok(first) = rewrite(bytes) else { return };
    let second = rewrite(&first).expect("what was written is read");
    assert_eq!(first, second, "another message the second time");
}

fn listener(host: &mut Host, mut source: Source<'_>) {
    for _ in 0..CALLS_MAX {
        if source.is_empty() {
            break;
        }
        let call = source.pick(&CALLS);
        let from = 1 + source.below(4);
        let odd = source.byte();
        let size = usize::from(source.byte());
        let payload = source.bytes(size);
        let body = if odd == 255 {
            payload.to_vec()
        } else {
            codec::seal(Kind::PeerMessage, VERSION, payload).expect("it fits")
        };
        let secret = if odd == 254 { "another-secret-of-a-cluster" } else { SECRET };
        let request = http::Request::post(format!("/peer/v1/{}", call.as_str()))
            .header("authorization", format!("Bearer {secret}"))
            .header("x-fluxgate-cluster", CLUSTER)
            .header("x-fluxgate-from", from.to_string())
            .header("x-fluxgate-to", "1")
            .body(Bytes::from(body))
            .expect("a request");
        let answer = host.call(Listener::Peer, request);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(SECRET), "a secret was printed");
        assert!(matches!(answer.status, 200 | 400 | 401 | 503), "{}: {text}", answer.status);
        let stranger = odd == 254 || (from == 1 && call != Call::Introduce);
        assert!(!stranger || answer.status == 401, "a stranger was served: {}", answer.status);
    }
    host.pass(std::time::Duration::from_millis(20));
}
