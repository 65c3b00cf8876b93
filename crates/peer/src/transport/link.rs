//! A substitute for the network: HTTP requests and answers as values.

use std::pin::Pin;

use bytes::Bytes;
use fluxgate_types::NodeId;

use super::CallError;

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// No process listens there: the call was certainly not carried out.
    Unreachable,
    /// The connection broke: it may have been carried out.
    Broken,
}

/// An answer: its status and body.
pub type Answered = Result<(u16, Bytes), LinkError>;

/// Carries calls to other nodes.
pub trait Link: Send + Sync {
    /// Posts a body to a node's peer listener. Never returns if the call or its answer is lost: the
    /// caller's timeout ends it.
    fn post(
        &self,
        to: NodeId,
        path: String,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>>;
}

/// Sends a call and reads its answer the way [`super::Transport`] reads one from the real network.
pub(super) async fn send(
    link: &dyn Link,
    node: NodeId,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> Result<Bytes, CallError> {
    let cause = "simulated".to_owned();
    match link.post(node, path, headers, body.into()).await {
        Ok((200, answer)) => Ok(answer),
        Ok((status, _)) => Err(CallError::Refused { node, status, why: None }),
        Err(LinkError::Unreachable) => Err(CallError::Unreachable { node, cause }),
        Err(LinkError::Broken) => Err(CallError::Broken { node, cause }),
    }
}
