//! The task of a link: reads the frames of all runs, and writes those of the client.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::shared::{Link, MAX_KEPT_BYTES, Shared};
use crate::{
    client::dialled::Dialled,
    link::{self, FrameBuffer, Silence, SilenceWatch, kind},
};

/// The connection of a link.
pub(super) struct Connection {
    shared: Arc<Shared>,
    io: Dialled,
    input: FrameBuffer,
    /// Frames that are being written.
    output: BytesMut,
    is_unflushed: bool,
    silence: SilenceWatch,
    /// The readers to wake after the frames of one read are handed out.
    readers: Vec<Waker>,
}

impl Drop for Connection {
    /// Also if the task is dropped with its runtime.
    fn drop(&mut self) {
        self.shared.lose("its runtime has ended");
    }
}

impl Connection {
    /// A link over this connection, on which these bytes have arrived already.
    pub(super) fn new(io: Dialled, read: &[u8], authority: Arc<str>) -> (Arc<Link>, Self) {
        let shared = Shared::new(authority);
        let link = Link::new(&shared);
        let connection = Self {
            shared,
            io,
            input: FrameBuffer::new(read),
            output: BytesMut::new(),
            is_unflushed: false,
            silence: SilenceWatch::new(),
            readers: Vec::new(),
        };
        (link, connection)
    }

    /// Serves the link until it is lost, or nobody uses it any more.
    pub(super) async fn serve(mut self) {
        if let Some(why) = std::future::poll_fn(|cx| self.poll(cx)).await {
            tracing::debug!(worker = self.shared.authority(), why, "the link to a worker is lost");
            self.shared.lose(&why);
        }
    }

    /// Ready with the reason why the link is lost, or `None` if nobody uses it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        while let Poll::Ready(silence) = self.silence.poll_tick(cx) {
            if silence == Silence::Lost {
                let limit = SilenceWatch::LIMIT;
                return Poll::Ready(Some(format!("the worker has sent nothing for {limit:?}")));
            }
            // Without room the other side has enough to read.
            if self.output.is_empty() {
                link::put(&mut self.output, kind::PING, link::CONNECTION, b"");
            }
        }
        // Written first: a run that is on its way is answered earlier.
        if let Err(error) = self.write(cx) {
            return Poll::Ready(error.map(|error| error.to_string()));
        }
        loop {
            // Those that came with the response, at first.
            let dispatched = self.shared.dispatch(&mut self.input, &mut self.readers);
            self.readers.drain(..).for_each(Waker::wake);
            if let Err(error) = dispatched {
                return Poll::Ready(Some(error.to_string()));
            }
            match ready!(self.input.poll_fill(&mut self.io, cx)) {
                Ok(0) => return Poll::Ready(Some("the worker has closed the connection".into())),
                Ok(_) => self.silence.heard(),
                Err(error) => return Poll::Ready(Some(error.to_string())),
            }
        }
    }

    /// Writes what can be written. The error is `None` if the link is over for another reason.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Option<io::Error>> {
        loop {
            if !self.shared.take_unsent(&mut self.output, cx.waker()) {
                return Err(None);
            }
            if self.output.is_empty() && !self.is_unflushed {
                return Ok(());
            }
            match self.poll_write(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => written.map_err(Some)?,
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.is_unflushed = true;
        }
        if self.output.capacity() > MAX_KEPT_BYTES {
            self.output = BytesMut::new();
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }
}
