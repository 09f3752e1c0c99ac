//! A socket that sends nothing after the permission of the [`Fence`] has expired.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

use crate::runtime::fence::{Fence, NotLeading};

/// See the [module](self). It is below TLS, so that nothing can delay the bytes after the check. Reads
/// pass, and so do writes of a process that never led: a standby sends requests, too.
pub struct Guarded<S> {
    socket: S,
    fence: Fence,
}

impl<S> Guarded<S> {
    /// Checks `fence` before each write to `socket`.
    pub const fn new(socket: S, fence: Fence) -> Self {
        Self { socket, fence }
    }

    fn check(&self) -> io::Result<()> {
        if self.fence.lapsed() { Err(io::Error::other(NotLeading)) } else { Ok(()) }
    }
}

impl<S: Connection> Connection for Guarded<S> {
    fn connected(&self) -> Connected {
        self.socket.connected()
    }
}

impl<S: Read + Unpin> Read for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::runtime::fence::boottime;

    async fn write(socket: &mut Guarded<TokioIo<tokio::io::DuplexStream>>) -> io::Result<usize> {
        std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, b"x")).await
    }

    #[tokio::test]
    async fn nothing_is_sent_after_the_expiry() {
        let (near, mut far) = tokio::io::duplex(16);
        let fence = Fence::closed();
        let mut socket = Guarded::new(TokioIo::new(near), fence.clone());
        assert_eq!(write(&mut socket).await.unwrap(), 1, "a standby may send requests");
        assert!(fence.open_until(boottime() + Duration::from_millis(20)));
        while !fence.lapsed() {
            tokio::task::yield_now().await;
        }
        assert_eq!(write(&mut socket).await.unwrap_err().to_string(), NotLeading.to_string());
        drop(socket);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"x");
    }
}
