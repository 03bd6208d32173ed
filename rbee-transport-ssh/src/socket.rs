//! The byte stream below an SSH session: [`Socket`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A byte stream.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A byte stream that can be ended from outside, and that fails with [`io::ErrorKind::TimedOut`] if a write makes no
/// progress for a while.
///
/// The SSH session reads nothing, and so notices no missing keep-alive, while a write waits for a machine that is
/// stopped or gone. And its task lives as long as its stream, also if the key exchange never ends.
pub(crate) struct Socket {
    stream: Box<dyn Io>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    limit: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Reads fail once `end` is canceled.
    pub(crate) fn new(stream: Box<dyn Io>, limit: Duration, end: CancellationToken) -> Self {
        Self { stream, end: Box::pin(end.cancelled_owned()), limit, timer: None }
    }

    fn check<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.timer = None;
            return result;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        timer.as_mut().reset(Instant::now() + limit);
        let message = format!("nothing could be sent for {:.1} s", limit.as_secs_f32());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
            let message = "the connection was ended here";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.check(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check(context, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_too_long_fails_and_one_that_goes_on_does_not() {
        let (ours, mut theirs) = duplex(4);
        let limit = Duration::from_secs(5);
        let mut ours = Socket::new(Box::new(ours), limit, CancellationToken::new());
        let reader = async {
            let mut bytes = [0; 8];
            for half in bytes.chunks_mut(4) {
                tokio::time::sleep(Duration::from_secs(4)).await;
                theirs.read_exact(half).await.unwrap();
            }
            bytes
        };
        let (written, read) = tokio::join!(ours.write_all(b"abcdefgh"), reader);
        written.unwrap();
        assert_eq!(&read, b"abcdefgh");

        let begin = Instant::now();
        let error = ours.write_all(b"abcdefgh").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_ends_when_the_stream_is_ended_from_outside() {
        let (ours, _theirs) = duplex(4);
        let end = CancellationToken::new();
        let mut ours = Socket::new(Box::new(ours), Duration::from_secs(5), end.clone());
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            end.cancel();
        };
        let (read, ()) = tokio::join!(ours.read_u8(), later);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
