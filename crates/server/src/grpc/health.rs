//! `grpc.health.v1.Health`: what `/readyz` is over HTTP. It needs no token either.

use std::future::{Ready, ready};
use std::sync::Arc;

use fluxgate_node::state::NodeState;
use tonic::Status;

use super::messages::{HealthRequest, HealthResponse, NOT_SERVING, SERVING};

/// The service.
pub(super) struct Service(pub(super) Arc<NodeState>);

impl tonic::server::UnaryService<HealthRequest> for Service {
    type Response = HealthResponse;
    type Future = Ready<Result<tonic::Response<HealthResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<HealthRequest>) -> Self::Future {
        let status = if self.0.not_ready().is_none() { SERVING } else { NOT_SERVING };
        ready(Ok(tonic::Response::new(HealthResponse { status })))
    }
}
