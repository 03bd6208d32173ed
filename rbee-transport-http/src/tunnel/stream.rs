//! One connection in a tunnel: [`TunnelStream`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection in a tunnel. Dropping it ends both directions; bytes that were not sent yet are lost then.
#[derive(Debug)]
pub(crate) struct TunnelStream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What has arrived and is not read.
    arrived: Bytes,
    is_shut_down: bool,
}

impl TunnelStream {
    pub(crate) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, arrived: Bytes::new(), is_shut_down: false }
    }

    /// Waits until bytes can be sent; returns how many, at most `wanted`.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            self.send.reserve_capacity(wanted);
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(failure(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

fn failure(error: h2::Error) -> io::Error {
    match error.reason() {
        // Dropped by the other end.
        Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR) => io::ErrorKind::ConnectionReset.into(),
        _ => error.into_io().unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel has ended")
        }),
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.arrived.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(bytes)) => self.arrived = bytes,
                Some(Err(error)) => return Poll::Ready(Err(failure(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = buffer.remaining().min(self.arrived.len());
        buffer.put_slice(&self.arrived[..count]);
        self.arrived.advance(count);
        // The other end may send as many again.
        self.receive.flow_control().release_capacity(count).map_err(failure)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut_down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.poll_room(bytes.len(), cx))?;
        let sent = Bytes::copy_from_slice(&bytes[..count]);
        self.send.send_data(sent, false).map_err(failure)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task of the tunnel sends what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut_down, true) {
            self.send.send_data(Bytes::new(), true).map_err(failure)?;
        }
        Poll::Ready(Ok(()))
    }
}
