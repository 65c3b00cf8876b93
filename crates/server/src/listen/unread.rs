//! Callers that do not read what they are sent.
//!
//! Answers for: a connection ends if its caller takes none of a response for [`WRITE_TIMEOUT`].
//! Otherwise it would keep one of the places of the listener for as long as the caller likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// How long a caller may take none of what is written: longer than the network may be gone.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The deadline of a write that the caller holds up.
#[derive(Default)]
pub(super) struct Unread {
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    /// Takes the outcome of a write, and fails it once the caller has held writes up for too long.
    pub(super) fn check<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let new = || Box::pin(tokio::time::sleep(WRITE_TIMEOUT));
        let deadline = self.deadline.get_or_insert_with(new);
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWrite};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_caller_that_takes_nothing_for_long_is_given_up() {
        let (mut caller, mut stream) = tokio::io::duplex(8);
        let mut unread = Unread::default();
        let mut write = async || {
            poll_fn(|cx| {
                let written = Pin::new(&mut stream).poll_write(cx, &[7; 8]);
                unread.check(written, cx)
            })
            .await
        };
        write().await.unwrap();
        // Each time the caller reads just before it is given up.
        for _ in 0..3 {
            let read = async {
                tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
                caller.read_exact(&mut [0; 8]).await.unwrap();
            };
            let (written, ()) = tokio::join!(write(), read);
            assert_eq!(written.unwrap(), 8);
        }
        let begun = Instant::now();
        assert_eq!(write().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    }
}
