//! The commands of a deployment over an SSH connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    channel::{Channel, ExitStatus},
    connection::Connection,
    deploy::{Exec, Session, SessionEnd},
};

#[async_trait]
impl Exec for Connection {
    async fn exec(&self, command: &str) -> io::Result<Box<dyn Session>> {
        match self.exec_at_once(command).await {
            Ok(channel) => Ok(Box::new(Command(channel))),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// A command on the machine.
struct Command(Channel);

#[async_trait]
impl Session for Command {
    async fn end(mut self: Box<Self>) -> io::Result<SessionEnd> {
        // A command that has ended takes no input.
        let _ = self.0.shutdown().await;
        let status = self.0.wait().await;
        let mut end = SessionEnd { stderr: self.0.stderr(), ..SessionEnd::default() };
        match status {
            ExitStatus::Code(code) => end.status = Some(code),
            ExitStatus::Signal(name) => end.signal = Some(name),
            ExitStatus::Unknown => {}
        }
        Ok(end)
    }
}

impl AsyncRead for Command {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Command {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
