//! What answers the requests of a connection, whatever protocol it speaks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use hyper::{Request, Response};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;
use tower::ServiceExt as _;

use super::body::RequestBody;
use crate::shared::reply::Reply;

/// Answers the requests of a connection.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// Whether they are served over HTTP/2 too.
    const HTTP2: bool = false;

    /// Answers one request of this caller.
    fn answer(
        &self,
        request: Request<RequestBody>,
        from: SocketAddr,
    ) -> impl Future<Output = Response<Reply>> + Send;
}

/// Answers by a router.
#[derive(Clone)]
pub(crate) struct Routes(pub(crate) Router);

impl Answers for Routes {
    async fn answer(&self, request: Request<RequestBody>, from: SocketAddr) -> Response<Reply> {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(axum::extract::ConnectInfo(from));
        let Ok(response) = self.0.clone().oneshot(request).await;
        response.map(Reply::Routed)
    }
}

/// Serves a connection to its end; once `stop` is true or `idle` has ended, it takes no further
/// requests. `answer` answers what the connection has read, after each step that did not end it.
pub(crate) async fn drive<C: GracefulConnection>(
    connection: C,
    mut answer: impl FnMut(),
    mut stop: watch::Receiver<bool>,
    idle: impl Future<Output = ()>,
) -> Result<(), C::Error> {
    tokio::pin!(connection, idle);
    let mut step = |connection: Pin<&mut C>, cx: &mut Context<'_>| {
        let outcome = connection.poll(cx);
        if outcome.is_pending() {
            answer();
        }
        outcome
    };
    let seen = stop.clone();
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut is_registered = false;
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = step(connection.as_mut(), cx) {
            return Poll::Ready(Some(outcome));
        }
        if idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // Once this task is registered, the flag alone says whether it must be looked at again: a poll
        // takes a lock that all connections share. A poll without budget registers nothing.
        if is_registered && matches!(seen.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        is_registered = has_budget_remaining();
        stopped.as_mut().poll(cx).map(|_| None)
    });
    match outcome.await {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            std::future::poll_fn(|cx| step(connection.as_mut(), cx)).await
        }
    }
}
