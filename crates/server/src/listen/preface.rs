//! Which protocol a connection without ALPN speaks: HTTP/2 with prior knowledge begins with a preface
//! that no HTTP/1.1 request begins with (RFC 9113, section 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::guarded::{HEADERS_TIMEOUT, IDLE_TIMEOUT};

/// The preface of HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which it is known what its caller speaks.
pub(crate) struct Begun<S> {
    /// The connection, from its first byte.
    pub(crate) stream: Rewound<S>,
    /// When its first byte arrived.
    pub(crate) at: Instant,
    /// Whether it speaks HTTP/2.
    pub(crate) is_http2: bool,
}

/// Reads as much as shows what the caller speaks. `None` if it is gone, or too slow: it may be idle at
/// first, as later, and then has the time for the headers of a request; or if `stop` becomes true.
pub(crate) async fn begin<S: AsyncRead + Unpin>(
    stream: S,
    stop: &mut watch::Receiver<bool>,
) -> Option<Begun<S>> {
    let first = async {
        let mut stream = Rewound::new(stream);
        timeout(IDLE_TIMEOUT, stream.begin()).await.ok()?.ok()?;
        let at = Instant::now();
        let is_http2 = timeout(HEADERS_TIMEOUT, stream.is_http2()).await.ok()?.ok()?;
        Some(Begun { stream, at, is_http2 })
    };
    tokio::select! {
        first = first => first,
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// A stream whose first bytes were read, and are read again.
pub(crate) struct Rewound<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    // Bytes of it that were read, and those of them that were read again.
    read: usize,
    again: usize,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// A stream of which nothing was read.
    fn new(stream: S) -> Self {
        Self { stream, first: [0; PREFACE.len()], read: 0, again: 0 }
    }

    /// Reads the first bytes; none if the caller ends the stream. Call it first.
    async fn begin(&mut self) -> io::Result<()> {
        self.read = self.stream.read(&mut self.first).await?;
        Ok(())
    }

    /// Reads until it is certain whether the caller speaks HTTP/2. Call it once, before anything else
    /// is read again. A caller that ends the stream speaks HTTP/1.1.
    async fn is_http2(&mut self) -> io::Result<bool> {
        while self.first[..self.read] == PREFACE[..self.read] {
            if self.read == PREFACE.len() {
                return Ok(true);
            }
            let count = self.stream.read(&mut self.first[self.read..]).await?;
            self.read += count;
            if count == 0 {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again < self.read {
            let count = buf.remaining().min(self.read - self.again);
            buf.put_slice(&self.first[self.again..self.again + count]);
            self.again += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What is sent in pieces of this size, then read to the end.
    async fn read(sent: &[u8], piece: usize) -> (bool, Vec<u8>) {
        let (mut caller, stream) = tokio::io::duplex(64);
        let mut stream = Rewound::new(stream);
        let send = async {
            for piece in sent.chunks(piece) {
                caller.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(caller);
        };
        let receive = async {
            stream.begin().await.unwrap();
            let is_http2 = stream.is_http2().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            (is_http2, all)
        };
        tokio::join!(send, receive).1
    }

    #[tokio::test]
    async fn every_byte_is_read_again_whatever_the_preface_decides() {
        let long = [PREFACE.as_slice(), &[7; 100]].concat();
        for (sent, is_http2) in [
            (&b""[..], false),
            (b"P", false),
            (b"PRI", false),
            (b"POST /v1/validate HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx and more", false),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (PREFACE, true),
            (&long, true),
        ] {
            for piece in [1, 5, 1_000] {
                assert_eq!(read(sent, piece).await, (is_http2, sent.to_vec()), "{piece}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_never_says_what_it_speaks_is_given_up() {
        for (sent, seconds) in
            [(&b""[..], IDLE_TIMEOUT.as_secs()), (b"PRI *", HEADERS_TIMEOUT.as_secs())]
        {
            let (mut caller, stream) = tokio::io::duplex(64);
            caller.write_all(sent).await.unwrap();
            let (_stopping, mut stop) = watch::channel(false);
            let begun = Instant::now();
            assert!(begin(stream, &mut stop).await.is_none());
            assert_eq!(begun.elapsed().as_secs(), seconds);
        }
    }
}
