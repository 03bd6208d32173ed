//! A connection that fails if the other side reads nothing for too long.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::connections::Connected;

/// Fails a write that makes no progress for this long. No timer is set while writes proceed.
#[derive(Debug)]
pub(super) struct WriteTimeout<I> {
    io: I,
    timeout: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
    /// Gets a call when a write waits and when it proceeds.
    connected: Option<Arc<Connected>>,
}

impl<I> WriteTimeout<I> {
    pub(super) fn new(io: I, timeout: Duration) -> Self {
        Self { io, timeout, timer: None, connected: None }
    }

    /// Reports to this connection's entry in the table when its client reads nothing.
    pub(super) fn with_connected(mut self, connected: Arc<Connected>) -> Self {
        self.connected = Some(connected);
        self
    }

    fn tell(&self, is_blocked: bool) {
        if let Some(connected) = &self.connected {
            connected.write_blocked(is_blocked);
        }
    }

    fn heed<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.timer.take().is_some() {
                self.tell(false);
            }
            return written;
        }
        if self.timer.is_none() {
            self.tell(true);
        }
        let until = Instant::now() + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        timer.as_mut().poll(cx).map(|()| {
            let message = format!("the other side has read nothing for {:?}", self.timeout);
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WriteTimeout<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.heed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.heed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.heed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.heed(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_write_without_any_progress_is_given_up() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = WriteTimeout::new(near, Duration::from_secs(5));
        let reader = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                far.read_exact(&mut [0; 2]).await.unwrap();
            }
            far
        });
        near.write_all(&[0; 30]).await.unwrap();
        let began = Instant::now();
        let bytes = [0; 30];
        let write = tokio::time::timeout(Duration::from_secs(60), near.write_all(&bytes));
        let error = write.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() <= Duration::from_secs(5));
        drop(reader.await.unwrap());
    }
}
