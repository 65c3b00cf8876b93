//! Envoy's gRPC doors: external authorization and the rate limit service, on a listener of their own.
//!
//! Answers for: HTTP/2 with bounds on streams, heads and messages, and that both services decide
//! exactly as their HTTP kin does. The messages are Envoy's, as far as they are read or written here;
//! gRPC itself is tonic's.

mod authorization;
mod health;
mod messages;
mod rate_limit;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use fluxgate_node::state::NodeState;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use crate::listen::accept::{Accept, Handler, drive};
use crate::listen::tls::Accepted;

/// Requests of one connection at one time.
const STREAMS_MAX: u32 = 1_024;
/// Bytes of one request's head, after decompression.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of one message: the head of a client's request, as Envoy hands it over.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A connection on which nothing happens is asked for a sign of life so often.
const PING_EVERY: Duration = Duration::from_secs(20);
/// It must come within this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

type Answer = Response<tonic::body::Body>;

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

async fn serve<S>(state: Arc<NodeState>, stream: S, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(dispatch(&state, request).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = drive(connection, stop).await {
        tracing::trace!(%error, "a gRPC connection ended early");
    }
}

async fn dispatch(state: &Arc<NodeState>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let span = fluxgate_node::telemetry::server_span(known(&path), request.headers());
    // A message that is begun and never ended must not hold its stream for ever.
    let within = state.config.request_timeout;
    let work = async {
        match path.as_str() {
            CHECK => unary(authorization::Service(Arc::clone(state)), request).await,
            SHOULD_RATE_LIMIT => unary(rate_limit::Service(Arc::clone(state)), request).await,
            HEALTH => unary(health::Service(Arc::clone(state)), request).await,
            _ => tonic::Status::unimplemented("no such call").into_http(),
        }
    };
    let timed = tokio::time::timeout(within, fluxgate_node::telemetry::within(span, work)).await;
    timed.unwrap_or_else(|_| tonic::Status::deadline_exceeded("it took too long").into_http())
}

/// One call of a service, its message bounded.
async fn unary<S, Q, A>(service: S, request: Request<Incoming>) -> Answer
where
    S: UnaryService<Q, Response = A>,
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Send + 'static,
{
    let codec = ProstCodec::<A, Q>::default();
    Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX).unary(service, request).await
}

/// The name of a call, from a closed set.
fn known(path: &str) -> &'static str {
    match path {
        CHECK => CHECK,
        HEALTH => HEALTH,
        SHOULD_RATE_LIMIT => SHOULD_RATE_LIMIT,
        _ => "other",
    }
}

/// Refuses a caller that is not one of our gateways, where a token is configured.
fn check_gateway(
    state: &NodeState,
    metadata: &tonic::metadata::MetadataMap,
) -> Result<(), tonic::Status> {
    crate::gateway::check_gateway(state, metadata.as_ref())
        .map_err(|error| tonic::Status::unauthenticated(error.message))
}
