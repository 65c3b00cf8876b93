//! The peer listener: serves the other nodes and nobody else.
//!
//! Refuses every call that does not carry the cluster secret, names another cluster, or is meant
//! for another node, before it reads the body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use fluxgate_api::ErrorBody;
use fluxgate_api::error::ErrorCode;
use fluxgate_raft::{Call, HandleError, wire};
use fluxgate_types::{NodeId, caps};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{
    AppliedCall, AppliedReply, AskMessage, GiveMessage, GiveReply, GossipMessage, GossipReply,
    ReplyMessage, StatusReply, UsageCall, UsageManyCall, UsageManyReply, UsageReply,
};
use crate::core::Core;
use crate::http::body::read_body;
use crate::http::respond;

/// Longest wait of one call for an entry to be applied.
const APPLIED_WAIT_MAX: Duration = Duration::from_secs(10);

/// The routes of the peer listener: one handler, so that nothing is said before it is known who
/// asks.
pub(crate) fn router(core: Arc<Core>) -> axum::Router {
    axum::Router::new().fallback(serve).with_state(core)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Who calls, if the call may be served at all.
fn admit(core: &Core, headers: &HeaderMap) -> Result<NodeId, ErrorBody> {
    let refused = |why: &str| ErrorBody::new(ErrorCode::AuthenticationFailed, why);
    let presented = header(headers, "authorization").and_then(|v| v.strip_prefix("Bearer "));
    let secret = core.config.cluster_secret.as_ref();
    // A cluster of one needs no secret and has nobody to serve.
    let known = secret.zip(presented).is_some_and(|(secret, p)| secret.matches(p.as_bytes()));
    if !known {
        return Err(refused("the cluster secret is missing or wrong"));
    }
    if header(headers, "x-fluxgate-cluster") != Some(&core.config.cluster_name) {
        return Err(refused("this node belongs to another cluster"));
    }
    let number = |name| header(headers, name).and_then(|v| v.parse::<u64>().ok()).map(NodeId);
    if number("x-fluxgate-to") != Some(core.me) {
        return Err(refused("this is another node"));
    }
    let from = number("x-fluxgate-from")
        .filter(|from| *from != core.me)
        .ok_or_else(|| refused("the caller does not say which node it is"))?;
    let directory = header(headers, "x-fluxgate-directory").and_then(|v| v.parse().ok());
    if directory.is_some_and(|directory: u64| directory != core.dir_id.0) {
        core.refuse_directory();
        return Err(refused("this node runs on another data directory"));
    }
    Ok(from)
}

async fn serve(State(core): State<Arc<Core>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let from = match admit(&core, &parts.headers) {
        Ok(from) => from,
        Err(error) => return respond::error(&error),
    };
    let name = parts.uri.path().strip_prefix("/peer/v1/").unwrap_or_default();
    let Some(call) = Call::from_name(name) else {
        return respond::error(&ErrorBody::new(ErrorCode::NotFound, "no such call"));
    };
    if parts.method != Method::POST {
        return respond::error(&ErrorBody::new(ErrorCode::MethodNotAllowed, "calls are POST"));
    }
    let body =
        match read_body(body, caps::PEER_MESSAGE_BYTES_MAX, core.config.request_timeout).await {
            Ok(body) => body,
            Err(error) => return respond::error(&error),
        };
    let span = crate::telemetry::peer_span(call.as_str(), from.0, &parts.headers);
    let work = async {
        match dispatch(&core, from, call, &body).await {
            Ok(bytes) => respond::bytes(StatusCode::OK, "application/octet-stream", bytes.into()),
            Err(HandleError::Malformed(why)) => {
                respond::error(&ErrorBody::new(ErrorCode::InvalidRequest, why))
            }
            Err(HandleError::NotOurs | HandleError::Failed(_)) => {
                respond::error(&ErrorBody::new(ErrorCode::Unavailable, "not served now"))
            }
        }
    };
    crate::telemetry::within(span, work).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, HandleError> {
    wire::decode(body).map_err(|error| HandleError::Malformed(error.to_string()))
}

fn write<T: Serialize>(answer: &T) -> Result<Vec<u8>, HandleError> {
    wire::encode(answer).map_err(|error| HandleError::Failed(error.to_string()))
}

fn usage(core: &Core, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let UsageCall { key } = read(body)?;
    write(&UsageReply {
        limits: core.counters.usage(core.me, &key),
        last_used: core.shared.table.with(&key, |entry| entry.last_used()).flatten(),
    })
}

fn usage_many(core: &Core, body: &[u8]) -> Result<Vec<u8>, HandleError> {
    let UsageManyCall { keys } = read(body)?;
    if keys.len() > caps::CONSOLE_USAGE_KEYS_MAX {
        return Err(HandleError::Malformed("too many keys".to_owned()));
    }
    write(&UsageManyReply { keys: core.spent_here(&keys) })
}

async fn dispatch(
    core: &Arc<Core>,
    from: NodeId,
    call: Call,
    body: &[u8],
) -> Result<Vec<u8>, HandleError> {
    match call {
        Call::Append | Call::Vote | Call::PreVote | Call::TransferLeader | Call::Snapshot => {
            if core.may_vote() {
                core.cluster.handle(call, body).await
            } else {
                Err(HandleError::Failed("this node has not heard from the others yet".to_owned()))
            }
        }
        Call::Propose => write(&core.handle_propose(read(body)?).await),
        Call::Lease => write(&core.handle_lease(from, read(body)?).await),
        Call::Applied => {
            let wanted: AppliedCall = read(body)?;
            let wait = Duration::from_millis(wanted.wait_ms).min(APPLIED_WAIT_MAX);
            tokio::time::timeout(wait, core.cluster.wait_applied(wanted.index)).await.ok();
            write(&AppliedReply { applied: core.cluster.applied() })
        }
        Call::Ask => {
            let message: AskMessage = read(body)?;
            let replies = match core.receive(from, &message.head) {
                Some(sender) if message.asks.len() <= caps::PEER_ITEMS_MAX => {
                    core.handle_asks(&sender, &message.asks)
                }
                Some(_) | None => Vec::new(),
            };
            write(&ReplyMessage { head: core.head(from), replies })
        }
        Call::Gossip => {
            let message: GossipMessage = read(body)?;
            if let Some(sender) = core.receive(from, &message.head) {
                core.handle_told(&sender, &message.told);
            }
            core.note_lives(&message.lives);
            core.note_about(from, message.about);
            let lives = core.life().lives.all();
            write(&GossipReply { head: core.head(from), lives, about: core.about() })
        }
        Call::Give => {
            let message: GiveMessage = read(body)?;
            let sender = core.receive(from, &message.head).filter(|_| !core.is_leaving());
            let taken = match sender {
                Some(sender) => core.handle_replies(&sender, &message.gifts),
                // Said plainly, so that the giver keeps them.
                None => vec![false; message.gifts.len()],
            };
            write(&GiveReply { taken })
        }
        Call::Usage => usage(core, body),
        Call::Status => {
            let nodes = &core.shared.view().nodes;
            let directories = nodes.iter().map(|(id, n)| (*id, n.dir_id, n.removed)).collect();
            write(&StatusReply {
                formed: core.cluster.has_history().await,
                directories,
                told_ns: core.clock.is_synced().then(|| core.clock.now_ns()),
                floor_ns: core.clock_floor_ns(),
            })
        }
        Call::Membership => write(&core.handle_membership(read(body)?).await),
        Call::UsageMany => usage_many(core, body),
        Call::Served => write(&core.metrics.served_totals()),
    }
}
