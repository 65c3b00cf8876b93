//! Envoy's gRPC services, on a listener of their own: external authorization and rate limits.
//!
//! Answers for: HTTP/2 with bounds on streams, headers and messages; both services decide exactly as
//! the gateway listener does over HTTP. tonic provides gRPC itself.

mod authorization;
mod health;
mod messages;
mod rate_limit;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::http::{Request, Response};
use fluxgate_node::state::NodeState;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use crate::gateway::validate::Answer;
use crate::listen::accept::{Accept, Handler};
use crate::listen::http2;
use crate::listen::preface::{self, Begun};
use crate::listen::tls::Accepted;
use crate::shared::gateway_token;

/// Bytes of one message: the headers of a client's request, as Envoy forwards them.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Concurrent calls on one connection.
const STREAMS_MAX: u32 = 1_024;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

type GrpcResponse = Response<tonic::body::Body>;

/// Serves the connections of this listener.
pub(crate) struct Service(pub(crate) Arc<NodeState>);

impl Handler for Service {
    fn handle(&self, accepted: Accepted, _: SocketAddr, stop: watch::Receiver<bool>) -> Accept {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            match accepted {
                Accepted::Plain(stream) => serve(state, stream, stop).await,
                Accepted::Tls(stream) => serve(state, stream, stop).await,
            }
        })
    }
}

async fn serve<S>(state: Arc<NodeState>, stream: S, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = preface::begin(stream, &mut stop).await;
    let Some(Begun { stream, is_http2: true, .. }) = begun else { return };
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(dispatch(&state, request).await) }
    });
    let idle = std::future::pending();
    let served = http2::serve_connection(stream, service, STREAMS_MAX, stop, idle).await;
    if let Err(error) = served {
        tracing::trace!(%error, "a gRPC connection ended early");
    }
}

async fn dispatch(state: &Arc<NodeState>, request: Request<Incoming>) -> GrpcResponse {
    let path = request.uri().path().to_owned();
    let span = fluxgate_node::telemetry::server_span(known(&path), request.headers());
    // A message that never ends must not keep its stream open.
    let within = state.config.request_timeout;
    let work = pin!(async {
        match path.as_str() {
            CHECK => unary(authorization::Service(Arc::clone(state)), request).await,
            SHOULD_RATE_LIMIT => unary(rate_limit::Service(Arc::clone(state)), request).await,
            HEALTH => unary(health::Service(Arc::clone(state)), request).await,
            _ => tonic::Status::unimplemented("no such call").into_http(),
        }
    });
    let timed = tokio::time::timeout(within, fluxgate_node::telemetry::within(span, work)).await;
    timed.unwrap_or_else(|_| tonic::Status::deadline_exceeded("it took too long").into_http())
}

/// Serves one call of a service, with a bound on its message.
async fn unary<S, Q, A>(service: S, request: Request<Incoming>) -> GrpcResponse
where
    S: UnaryService<Q, Response = A>,
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Send + 'static,
{
    let codec = ProstCodec::<A, Q>::default();
    Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX).unary(service, request).await
}

/// The call as a label of metrics and spans, from a closed set.
fn known(path: &str) -> &'static str {
    match path {
        CHECK => CHECK,
        HEALTH => HEALTH,
        SHOULD_RATE_LIMIT => SHOULD_RATE_LIMIT,
        _ => "other",
    }
}

/// Rejects a caller without the gateway token, if one is configured.
fn check_gateway(
    state: &NodeState,
    metadata: &tonic::metadata::MetadataMap,
) -> Result<(), tonic::Status> {
    gateway_token::check_gateway(&state.config, metadata.as_ref())
        .map_err(|error| tonic::Status::unauthenticated(error.message))
}

/// Fails the call if the node may not decide, so that Envoy asks another node or fails closed.
fn check_decided(answer: &Answer) -> Result<(), tonic::Status> {
    match answer.error_body() {
        Some(error) if answer.verdict().retryable() => {
            Err(tonic::Status::unavailable(error.message))
        }
        Some(_) | None => Ok(()),
    }
}
