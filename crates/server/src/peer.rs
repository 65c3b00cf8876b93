//! The peer listener: serves only the other nodes of the cluster.
//!
//! Rejects every call without the cluster secret, of another cluster, or for another node, BEFORE it
//! reads the body.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use fluxgate_api::error::ErrorCode;
use fluxgate_engine::lease::LeaderId;
use fluxgate_node::NodeError;
use fluxgate_node::state::NodeState;
use fluxgate_peer::{Call, Question, REFUSED_FOR, RefusedFor};
use fluxgate_raft::HandleError;
use fluxgate_store::codec::Kind;
use fluxgate_types::{BootId, NodeId, caps};
use fluxgate_wire::peer::{
    AppliedCall, AppliedReply, AskMessage, ClocksCall, GiveMessage, GiveReply, GossipMessage,
    GossipMessageV2, GossipReply, GossipReplyV2, IntroduceCall, LeaseCall, LeaseCallV2,
    MembershipCall, MembershipCallV2, ReplyMessage, ServedCall, StatusCall, StatusReply, UsageCall,
    UsageManyCall, UsageManyReply, UsageReply,
};
use fluxgate_wire::raft::ProposeV1;
use fluxgate_wire::{self as wire, Grown as _};

use crate::shared::body::read_body;
use crate::shared::respond;

/// The longest time that one call waits for an entry to be applied.
const APPLIED_WAIT_MAX: Duration = Duration::from_secs(10);

/// The routes of the peer listener: one handler, so that every call is authenticated before it learns
/// anything.
pub(crate) fn router(state: Arc<NodeState>) -> axum::Router {
    axum::Router::new().fallback(serve).with_state(state)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The calling node, and whether it runs on the data directory that the cluster knows it by.
struct Caller {
    node: NodeId,
    is_registered: bool,
}

/// Why a call is not served at all: the reason, and the same in words.
struct NotAdmitted(RefusedFor, &'static str);

impl NotAdmitted {
    fn into_response(self) -> Response<Body> {
        let Self(why, words) = self;
        let mut response = respond::reject(ErrorCode::AuthenticationFailed, words);
        let why = HeaderValue::from_static(why.as_str());
        response.headers_mut().insert(HeaderName::from_static(REFUSED_FOR), why);
        response
    }
}

/// Authenticates the caller, and checks that the call is meant for this node.
fn admit(
    state: &NodeState,
    headers: &HeaderMap,
    call: Option<Call>,
) -> Result<Caller, NotAdmitted> {
    let presented = header(headers, "authorization").and_then(|v| v.strip_prefix("Bearer "));
    let secret = state.config.cluster_secret.as_ref();
    // A cluster of one node needs no secret and has no caller.
    let is_authentic =
        secret.zip(presented).is_some_and(|(secret, p)| secret.matches(p.as_bytes()));
    if !is_authentic {
        let claimed = header(headers, "x-fluxgate-from").and_then(|v| v.parse().ok()).map(NodeId);
        state.health.note_stranger(claimed);
        return Err(NotAdmitted(RefusedFor::Secret, "the cluster secret is missing or wrong"));
    }
    if header(headers, "x-fluxgate-cluster") != Some(&state.config.cluster_name) {
        return Err(NotAdmitted(RefusedFor::Cluster, "this node belongs to another cluster"));
    }
    let number = |name| header(headers, name).and_then(|v| v.parse::<u64>().ok()).map(NodeId);
    if number("x-fluxgate-to") != Some(state.me) {
        return Err(NotAdmitted(RefusedFor::Node, "this is another node"));
    }
    let from = number("x-fluxgate-from")
        // A node calls its own address to find out whether a copy of it runs.
        .filter(|from| *from != state.me || call == Some(Call::Introduce))
        .ok_or(NotAdmitted(RefusedFor::Node, "the caller does not say which node it is"))?;
    let directory = header(headers, "x-fluxgate-directory").and_then(|v| v.parse().ok());
    let view = state.shared.view();
    // What this node has applied about itself counts more than the view of a caller that may be behind.
    let own = view
        .nodes
        .get(&state.me)
        .is_some_and(|own| own.dir_id == state.start.dir_id && !own.removed);
    if directory.is_some_and(|directory: u64| directory != state.start.dir_id.0 && !own) {
        // Only reject the call: the caller may be the one that is behind, or belong to a cluster that
        // no longer exists. A node that knows no other node learns from this that there is a cluster.
        let alone = state.config.members.len() <= 1 && state.raft.status().nodes.len() <= 1;
        if state.start.boot() == BootId(1) && alone {
            state.lifecycle.end(NodeError::OtherDirectory(state.me));
        }
        let why = "this node runs on another data directory";
        return Err(NotAdmitted(RefusedFor::Directory, why));
    }
    let theirs = header(headers, "x-fluxgate-from-directory").and_then(|v| v.parse().ok());
    let registered = view.nodes.get(&from);
    // A removed node comes back on another directory than the one that was removed.
    let is_registered = theirs
        .zip(registered)
        .is_none_or(|(theirs, record): (u64, _)| (record.dir_id.0 == theirs) != record.removed);
    Ok(Caller { node: from, is_registered })
}

/// Whether a node may make this call from a directory that this node does not know. Such a node may
/// ask for the reason. A leader may also send its log, because a majority elected it: this node may
/// be the one that is behind.
fn is_open_to_strangers(call: Call) -> bool {
    matches!(call, Call::Lease | Call::Introduce | Call::Status | Call::Append | Call::Snapshot)
}

async fn serve(State(state): State<Arc<NodeState>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix("/peer/v1/").unwrap_or_default();
    let call = Call::from_name(name);
    let caller = match admit(&state, &parts.headers, call) {
        Ok(caller) => caller,
        Err(rejection) => return rejection.into_response(),
    };
    let from = caller.node;
    let Some(call) = call else {
        return respond::reject(ErrorCode::NotFound, "no such call");
    };
    if !caller.is_registered && !is_open_to_strangers(call) {
        let why = "the cluster knows the caller with another data directory, or has removed it";
        return NotAdmitted(RefusedFor::Directory, why).into_response();
    }
    if parts.method != Method::POST {
        return respond::reject(ErrorCode::MethodNotAllowed, "calls are POST");
    }
    let body =
        match read_body(body, caps::PEER_MESSAGE_BYTES_MAX, state.config.request_timeout).await {
            Ok(body) => body,
            Err(error) => return respond::error(&error),
        };
    let span = fluxgate_node::telemetry::peer_span(call.as_str(), from.0, &parts.headers);
    let work = pin!(async {
        match dispatch(&state, from, call, &body).await {
            Ok(bytes) => respond::bytes(StatusCode::OK, "application/octet-stream", bytes.into()),
            Err(HandleError::Malformed(why)) => respond::reject(ErrorCode::InvalidRequest, why),
            Err(HandleError::NotOurs | HandleError::Failed(_)) => {
                respond::reject(ErrorCode::Unavailable, "not served now")
            }
        }
    });
    fluxgate_node::telemetry::within(span, work).await
}

/// Reads a question in the encoding of its version.
fn read<Q: Question>(body: &[u8]) -> Result<Q, HandleError> {
    let question = wire::decode_as(Q::VERSION, body);
    question.map_err(|error| HandleError::Malformed(error.to_string()))
}

/// Writes the answer that is declared for a question.
fn write<Q: Question>(answer: &Q::Answer) -> Result<Vec<u8>, HandleError> {
    let bytes = wire::encode_as(Q::VERSION, answer);
    bytes.map_err(|error| HandleError::Failed(error.to_string()))
}

fn is_2(body: &[u8]) -> bool {
    wire::version_of(body) == Some(wire::VERSION_2)
}

/// Answers gossip in the version in which it came.
fn gossip(state: &NodeState, from: NodeId, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let (message, more) = if is_2(body) {
        let GossipMessageV2 { first, more } = read(body)?;
        (first, Some(more))
    } else {
        (read::<GossipMessage>(body)?, None)
    };
    if let Some(sender) = state.peers.receive(from, &message.head) {
        state.counters.handle_gossip(&sender, &message.told);
    }
    state.peers.note_incarnations(&message.incarnations);
    state.heard.note_about(from, message.about);
    let first = GossipReply {
        head: state.peers.head(from),
        incarnations: state.published.incarnation().incarnations.all(),
        about: state.peers.about(),
    };
    let Some(more) = more else { return write::<GossipMessage>(&first) };
    state.heard.note_speaks_2(from, true);
    state.peers.note_more(from, more);
    write::<GossipMessageV2>(&GossipReplyV2 { first, more: state.peers.more() })
}

fn usage(state: &NodeState, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let UsageCall { key } = read(body)?;
    write::<UsageCall>(&UsageReply {
        limits: state.counters.usage(state.me, &key.into()),
        last_used: state.shared.table.with(&key, |entry| entry.last_used()).flatten(),
    })
}

fn usage_many(state: &NodeState, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let UsageManyCall { keys } = read(body)?;
    if keys.len() > caps::CONSOLE_USAGE_KEYS_MAX {
        return Err(HandleError::Malformed("too many keys".to_owned()));
    }
    write::<UsageManyCall>(&UsageManyReply {
        keys: crate::admin::usage::many::spent_here(state, &keys),
    })
}

async fn introduce(state: &NodeState) -> Result<Vec<u8>, HandleError> {
    let said = state.peers.introduction().await;
    write::<IntroduceCall>(&said.map_err(|error| HandleError::Failed(error.to_string()))?)
}

fn clocks(state: &NodeState, from: NodeId, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let ClocksCall { term } = read(body)?;
    write::<ClocksCall>(&state.peers.clocks(LeaderId { term, node: from }))
}

async fn dispatch(
    state: &Arc<NodeState>,
    from: NodeId,
    call: Call,
    body: &[u8],
) -> Result<Vec<u8>, HandleError> {
    if call.is_for_members() && !state.lifecycle.may_vote() {
        return Err(HandleError::Failed("this node has not heard from the others yet".to_owned()));
    }
    match call {
        Call::Append | Call::Vote | Call::PreVote | Call::TransferLeader | Call::Snapshot => {
            state.raft.handle(call, body).await
        }
        Call::Propose => {
            let proposal = ProposeV1::unpack(Kind::PeerMessage, body);
            let proposal = proposal.map_err(|error| HandleError::Malformed(error.to_string()))?;
            let reply = state.writes.handle_propose(proposal).await.pack(Kind::PeerMessage);
            reply.map_err(|error| HandleError::Failed(error.to_string()))
        }
        Call::Lease if is_2(body) => {
            write::<LeaseCallV2>(&state.member.handle_lease(from, read(body)?).await)
        }
        Call::Lease => write::<LeaseCall>(&state.member.handle_lease_v1(from, read(body)?).await),
        Call::Applied => {
            let wanted: AppliedCall = read(body)?;
            let wait = Duration::from_millis(wanted.wait_ms).min(APPLIED_WAIT_MAX);
            tokio::time::timeout(wait, state.raft.wait_applied(wanted.index)).await.ok();
            write::<AppliedCall>(&AppliedReply { applied: state.raft.applied() })
        }
        Call::TransferRequest => {
            let message: AskMessage = read(body)?;
            let replies = match state.peers.receive(from, &message.head) {
                Some(sender) if message.asks.len() <= caps::PEER_ITEMS_MAX => {
                    state.counters.handle_asks(&sender, &message.asks)
                }
                Some(_) | None => Vec::new(),
            };
            write::<AskMessage>(&ReplyMessage { head: state.peers.head(from), replies })
        }
        Call::Gossip => gossip(state, from, body),
        Call::Introduce => introduce(state).await,
        Call::Clocks => clocks(state, from, body),
        Call::Give => {
            let message: GiveMessage = read(body)?;
            let sender =
                state.peers.receive(from, &message.head).filter(|_| !state.lifecycle.is_leaving());
            let taken = match sender {
                Some(sender) => state.counters.handle_replies(&sender, &message.gifts),
                // Explicitly not taken, so that the giver keeps them.
                None => vec![false; message.gifts.len()],
            };
            write::<GiveMessage>(&GiveReply { taken })
        }
        Call::Usage => usage(state, body),
        Call::Status => {
            let nodes = &state.shared.view().nodes;
            let directories = nodes.iter().map(|(id, n)| (*id, n.dir_id, n.removed)).collect();
            write::<StatusCall>(&StatusReply {
                formed: state.raft.has_history().await,
                directories,
                synced_ns: state.clock.is_synced().then(|| state.clock.now_ns()),
                lower_bound_ns: state.clock.lower_bound_ns(state.shared.last_stamp()),
            })
        }
        Call::Membership if is_2(body) => {
            write::<MembershipCallV2>(&state.handle_membership(read(body)?).await)
        }
        Call::Membership => {
            let call: MembershipCall = read(body)?;
            write::<MembershipCall>(&state.handle_membership(call.into()).await)
        }
        Call::UsageMany => usage_many(state, body),
        Call::Served => write::<ServedCall>(&state.metrics.served_totals()),
    }
}
