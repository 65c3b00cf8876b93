//! The body of a request as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::shared::body::DROPPED_BYTES_MAX;

/// How long a body that no handler read may take to arrive.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A body. Over HTTP/2 the rest that no handler has read is read and dropped after the answer: a stream
/// that is reset while data is on its way counts against the whole connection.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    is_drained: bool,
}

impl RequestBody {
    /// Over HTTP/1.1, where hyper reads a short rest itself and closes after a long one.
    pub(super) const fn new(incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), is_drained: false }
    }

    /// Over HTTP/2.
    pub(super) const fn drained(incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), is_drained: true }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let incoming = self.incoming.take().filter(|body| self.is_drained && !body.is_end_stream());
        if let Some(incoming) = incoming {
            tokio::spawn(timeout(DRAIN_TIMEOUT, drain(incoming)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DROPPED_BYTES_MAX {
            return;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
