//! What answers the requests of a connection, whatever protocol it speaks.

use std::net::SocketAddr;
use std::task::Poll;

use axum::Router;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::shared::reply::Reply;

/// Answers the requests of a connection.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// Whether they are served over HTTP/2 too.
    const HTTP2: bool = false;

    /// Answers one request of this caller.
    fn answer(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> impl Future<Output = Response<Reply>> + Send;
}

/// Answers by a router.
#[derive(Clone)]
pub(crate) struct Routes(pub(crate) Router);

impl Answers for Routes {
    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<Reply> {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(axum::extract::ConnectInfo(from));
        let Ok(response) = self.0.clone().oneshot(request).await;
        response.map(Reply::Routed)
    }
}

/// Serves a connection to its end; once `stop` is true, it takes no further requests.
pub(crate) async fn drive<C: GracefulConnection>(
    connection: C,
    mut stop: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    tokio::pin!(connection);
    let seen = stop.clone();
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut is_registered = false;
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        // Once this task is registered, the flag alone says whether it must be looked at again: a poll
        // takes a lock that all connections share.
        if std::mem::replace(&mut is_registered, true) && matches!(seen.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        stopped.as_mut().poll(cx).map(|_| None)
    });
    match outcome.await {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
