//! The gateway listener: may a request pass?

pub(crate) mod authorize;
mod batch;
mod single;
pub(crate) mod validate;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use fluxgate_api::paths;
use fluxgate_node::state::NodeState;
use hyper::{Method, Request, Response};

use crate::listen::answers::{Answers, Routes};
use crate::listen::body::RequestBody;
use crate::shared::reply::Reply;
use crate::shared::{health, respond};

/// Answers the requests of gateways: those that every request of a client causes directly, the rest
/// by their routes.
#[derive(Clone)]
pub(crate) struct Gateway {
    state: Arc<NodeState>,
    routes: Routes,
}

impl Gateway {
    pub(crate) fn new(state: Arc<NodeState>) -> Self {
        Self { routes: Routes(router(Arc::clone(&state))), state }
    }
}

impl Answers for Gateway {
    const HTTP2: bool = true;

    async fn answer(&self, request: Request<RequestBody>, from: SocketAddr) -> Response<Reply> {
        let path = request.uri().path();
        if path == paths::VALIDATE && request.method() == Method::POST {
            single::post_validate(&self.state, request).await
        } else if authorize::has_path(path) && request.method() != Method::HEAD {
            authorize::authorize(&self.state, request).await
        } else {
            self.routes.answer(request, from).await
        }
    }
}

pub(crate) fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .merge(single::router())
        .merge(batch::router())
        .merge(authorize::router())
        .merge(health::router())
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .with_state(state)
}
