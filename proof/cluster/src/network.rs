//! The network between nodes: delivers a call and its answer, each late, lost or twice, by the
//! plan. A caller whose call was lost waits until its own timeout.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use fluxgate_peer::{Answered, Link, LinkError};
use fluxgate_server::Listener;
use fluxgate_types::NodeId;
use tokio::sync::mpsc;

use crate::world::Shared;

/// The call that carries a piece of a snapshot.
const SNAPSHOT: &str = "/peer/v1/snapshot";

/// One node's connection to the others.
pub(crate) struct Wire {
    /// The world, which outlives every call.
    pub(crate) world: Weak<Shared>,
    /// The calling node.
    pub(crate) from: NodeId,
}

/// A call in transit.
struct Call {
    from: NodeId,
    to: NodeId,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    fn request(&self) -> Option<http::Request<Bytes>> {
        let mut request = http::Request::post(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.clone()).ok()
    }
}

impl Link for Wire {
    fn post(
        &self,
        to: NodeId,
        path: String,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let (world, from) = (self.world.clone(), self.from);
        Box::pin(async move {
            if let Some(world) = world.upgrade() {
                let call = Arc::new(Call { from, to, path, headers, body });
                if call.path == SNAPSHOT {
                    world.lock().observations.counts.pieces += 1;
                }
                let mut arrivals = world.route(from, to);
                let name = call.path.strip_prefix("/peer/v1/").unwrap_or_default();
                let declared = fluxgate_peer::Call::from_name(name);
                if !declared.is_some_and(fluxgate_peer::Call::is_repeatable) {
                    arrivals.truncate(1);
                }
                let (answer, mut answers) = mpsc::channel(2);
                for at in arrivals {
                    // Outside the caller's process: a message in transit arrives even if its sender
                    // dies.
                    let (world, call, answer) =
                        (Arc::downgrade(&world), Arc::clone(&call), answer.clone());
                    tokio::spawn(carry(world, call, at, answer));
                }
                drop((world, answer));
                if let Some(answer) = answers.recv().await {
                    return answer;
                }
            }
            // The call was lost: no answer ever comes.
            std::future::pending().await
        })
    }
}

/// Delivers a call at a moment, and its answer.
async fn carry(
    world: Weak<Shared>,
    call: Arc<Call>,
    at: tokio::time::Instant,
    answer: mpsc::Sender<Answered>,
) {
    tokio::time::sleep_until(at).await;
    let Some((shared, request)) = world.upgrade().zip(call.request()) else { return };
    let served = shared.serve(call.to, Listener::Peer, request);
    drop(shared);
    let answered = match served {
        None => Err(LinkError::Unreachable),
        // The process died during the call: its machine resets the connection.
        Some(served) => match served.await {
            Ok(answer) => Ok((answer.status, answer.body)),
            Err(_) => Err(LinkError::Broken),
        },
    };
    let Some(shared) = world.upgrade() else { return };
    let back = shared.route(call.to, call.from).first().copied();
    drop(shared);
    if let Some(at) = back {
        tokio::time::sleep_until(at).await;
        // The caller may have gone away.
        answer.try_send(answered).ok();
    }
}

/// Longest delay of a client's request or answer.
const CLIENT_DELAY_MS_MAX: u64 = 3;

impl Shared {
    /// Sends a client's request to a node. `None`: no node carried it out.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        listener: Listener,
        request: http::Request<Bytes>,
        patience: Duration,
    ) -> Option<Option<fluxgate_server::Answer>> {
        let delay = |world: &Self| Duration::from_millis(world.draw(CLIENT_DELAY_MS_MAX));
        tokio::time::sleep(delay(self)).await;
        let served = self.serve(node, listener, request)?;
        let answer = tokio::time::timeout(patience, served).await;
        tokio::time::sleep(delay(self)).await;
        Some(answer.ok().and_then(Result::ok))
    }
}
