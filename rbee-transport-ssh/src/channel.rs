//! One channel of a connection: [`Channel`].

mod pump;

use std::{
    any::Any,
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use russh::client::Msg;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

pub(crate) use pump::Refused;

/// The answer of the server to the request for a command.
pub(crate) type Started = oneshot::Receiver<Result<(), Refused>>;
/// Why a server refuses a command, as far as this side can know.
pub(crate) const NO_COMMANDS: &str =
    "the account may not run commands; check its login shell and ForceCommand";

/// The most messages that wait for the reader, of at most 32 KiB each.
const INCOMING: usize = 64;
/// The most buffers that wait to be sent, and their most bytes.
const OUTGOING: usize = 16;
const OUTGOING_BYTES: usize = 64 << 10;
/// The bytes of the standard error output that are kept: the last ones.
const STDERR_BYTES: usize = 64 << 10;

/// A byte stream to a command on the other machine, or to one of its ports: reading gives its standard output, writing
/// goes to its standard input, and [`shutdown`](AsyncWriteExt::shutdown) ends that input.
///
/// Dropping a channel ends it at once, together with what was not sent yet. To let a command end by itself, shut the
/// input down and call [`wait`](Self::wait).
///
/// **Read it at all times.** All channels of a connection share one receiver. While a channel's buffer (2 MiB) is full,
/// nothing is received for the other channels either, and keep-alive messages are not answered. Therefore a channel
/// whose reader takes nothing for 5 seconds while its buffer is full is closed, and its reader gets an error.
pub struct Channel {
    incoming: mpsc::Receiver<Bytes>,
    /// What is left of the last message.
    current: Bytes,
    outgoing: PollSender<Bytes>,
    state: Arc<State>,
    _end: DropGuard,
    /// The connection, which ends with its last user.
    _connection: Arc<dyn Any + Send + Sync>,
}

/// What is known of a channel besides its bytes.
#[derive(Default)]
struct State {
    facts: Mutex<Facts>,
    /// Canceled when the channel has ended.
    ended: CancellationToken,
}

#[derive(Default)]
struct Facts {
    stderr: VecDeque<u8>,
    status: Option<ExitStatus>,
    /// Why it ended, if it did not end in order.
    failure: Option<(io::ErrorKind, String)>,
}

impl State {
    fn with<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn failure(&self) -> Option<io::Error> {
        self.with(|facts| facts.failure.clone()).map(|(kind, reason)| io::Error::new(kind, reason))
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It ended by itself, with this code.
    Code(u32),
    /// A signal ended it: `KILL`.
    Signal(String),
    /// The channel ended without a status: the connection broke off, or the channel had no command.
    Unknown,
}

impl ExitStatus {
    /// Returns true if the command ended with code 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
            Self::Unknown => formatter.write_str("no exit status"),
        }
    }
}

/// All that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error output, at most 64 KiB.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Channel {
    /// Starts to carry the bytes of a channel that is open. With `stall_limit`, a reader that takes nothing for so long
    /// loses the channel. The second value is the answer to a request for a command.
    pub(crate) fn start(
        channel: russh::Channel<Msg>,
        stall_limit: Option<Duration>,
        connection: Arc<dyn Any + Send + Sync>,
    ) -> (Self, Started) {
        let (to_reader, incoming) = mpsc::channel(INCOMING);
        let (to_machine, outgoing) = mpsc::channel(OUTGOING);
        let (started, is_started) = oneshot::channel();
        let (state, end) = (Arc::new(State::default()), CancellationToken::new());
        let pump = pump::Pump {
            to_reader: Some(to_reader),
            started: Some(started),
            stall_limit,
            state: state.clone(),
            end: end.clone(),
        };
        tokio::spawn(pump.run(channel, outgoing));
        let channel = Self {
            incoming,
            current: Bytes::new(),
            outgoing: PollSender::new(to_machine),
            state,
            _end: end.drop_guard(),
            _connection: connection,
        };
        (channel, is_started)
    }

    /// The end of what the command has written to its standard error output so far, at most 64 KiB.
    pub fn stderr(&self) -> String {
        self.state
            .with(|facts| String::from_utf8_lossy(facts.stderr.make_contiguous()).into_owned())
    }

    /// Waits until the command has ended, and throws away what it still writes.
    ///
    /// It does not end the input of the command: see [`shutdown`](AsyncWriteExt::shutdown).
    pub async fn wait(&mut self) -> ExitStatus {
        self.current.clear();
        while self.incoming.recv().await.is_some() {}
        self.state.ended.cancelled().await;
        self.state.with(|facts| facts.status.clone()).unwrap_or(ExitStatus::Unknown)
    }

    /// Ends the input of the command and collects all that it writes, with at most `most` bytes of standard output. It
    /// waits for as long as the command runs.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] if there is more, and the error of the connection.
    pub async fn output(mut self, most: usize) -> io::Result<Output> {
        self.shutdown().await?;
        let mut stdout = Vec::new();
        (&mut self).take(most as u64 + 1).read_to_end(&mut stdout).await?;
        if stdout.len() > most {
            let message = format!("the command wrote more than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let status = self.wait().await;
        if let Some(failure) = self.state.failure() {
            return Err(failure);
        }
        Ok(Output { stdout, stderr: self.stderr(), status })
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.incoming.poll_recv(context)) {
                Some(bytes) => self.current = bytes,
                None => return Poll::Ready(self.state.failure().map_or(Ok(()), Err)),
            }
        }
        let count = buffer.remaining().min(self.current.len());
        buffer.put_slice(&self.current.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Channel {
    fn broken(&self) -> io::Error {
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the channel is closed");
        self.state.failure().unwrap_or_else(closed)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if ready!(self.outgoing.poll_reserve(context)).is_err() {
            return Poll::Ready(Err(self.broken()));
        }
        let taken = bytes.get(..OUTGOING_BYTES).unwrap_or(bytes);
        if self.outgoing.send_item(Bytes::copy_from_slice(taken)).is_err() {
            return Poll::Ready(Err(self.broken()));
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
