//! The task that carries the bytes of one channel: [`Pump`].

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{ExitStatus, NO_COMMANDS, STDERR_BYTES, State};

/// The extended data of SSH that is standard error output.
const STDERR: u32 = 1;
/// How long the session may take to accept the message that closes the channel.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The server refused the command.
#[derive(Debug)]
pub(crate) struct Refused;

/// One channel's task. It always takes what arrives, so that other channels go on; it waits for the reader of this one
/// for a limited time only.
pub(super) struct Pump {
    /// `None` after the end of the output.
    pub(super) to_reader: Option<mpsc::Sender<Bytes>>,
    pub(super) started: Option<oneshot::Sender<Result<(), Refused>>>,
    pub(super) stall_limit: Option<Duration>,
    pub(super) state: Arc<State>,
    /// Canceled when the channel is dropped.
    pub(super) end: CancellationToken,
}

/// Why the reading part ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The other side closed the channel.
    Closed,
    /// The connection ended.
    Lost,
    /// The reader took nothing for too long.
    Stalled,
    /// The server refused the command.
    Refused,
}

impl Pump {
    pub(super) async fn run(
        mut self,
        channel: russh::Channel<Msg>,
        outgoing: mpsc::Receiver<Bytes>,
    ) {
        let (mut reading, writing) = channel.split();
        let dropped = self.end.clone();
        let end = tokio::select! {
            end = self.read(&mut reading) => Some(end),
            never = write(&writing, outgoing) => match never {},
            () = dropped.cancelled() => None,
        };
        // First, so that the session does not wait for this channel.
        drop(reading);
        if let Some(End::Stalled) = end {
            let limit = self.stall_limit.unwrap_or_default().as_secs();
            self.fail(io::ErrorKind::TimedOut, format!(
                "the channel was closed, because nothing was read from it for {limit} s although much had arrived"
            ));
        }
        if end == Some(End::Lost) {
            let is_over =
                self.state.with(|facts| facts.status.is_some()) && self.to_reader.is_none();
            if !is_over {
                self.fail(io::ErrorKind::ConnectionReset, "the SSH connection ended".into());
            }
        }
        if end != Some(End::Closed) {
            // The session may have ended.
            let _ = timeout(CLOSE_LIMIT, writing.close()).await;
        }
        self.to_reader = None;
        self.state.ended.cancel();
    }

    fn fail(&self, kind: io::ErrorKind, reason: String) {
        self.state.with(|facts| facts.failure = Some((kind, reason)));
    }

    async fn read(&mut self, channel: &mut ChannelReadHalf) -> End {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let is_taken = self.deliver(data).await;
                    if !is_taken {
                        return End::Stalled;
                    }
                }
                ChannelMsg::ExtendedData { data, ext: STDERR } => self.keep_stderr(&data),
                ChannelMsg::Eof => self.to_reader = None,
                ChannelMsg::ExitStatus { exit_status } => {
                    self.state.with(|facts| facts.status = Some(ExitStatus::Code(exit_status)));
                }
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    let name = signal(&signal_name);
                    self.state.with(|facts| facts.status = Some(ExitStatus::Signal(name)));
                }
                ChannelMsg::Success => self.answer(Ok(())),
                ChannelMsg::Failure => {
                    self.fail(io::ErrorKind::PermissionDenied, NO_COMMANDS.into());
                    self.answer(Err(Refused));
                    return End::Refused;
                }
                ChannelMsg::Close => return End::Closed,
                _ => {}
            }
        }
        End::Lost
    }

    fn answer(&mut self, answer: Result<(), Refused>) {
        if let Some(started) = self.started.take() {
            // Whoever asked may have gone.
            let _ = started.send(answer);
        }
    }

    /// Returns false if the reader took nothing for too long. What arrives after the end is dropped.
    async fn deliver(&mut self, data: Bytes) -> bool {
        let Some(reader) = &self.to_reader else { return true };
        let Err(full) = reader.try_send(data) else { return true };
        let mpsc::error::TrySendError::Full(data) = full else { return true };
        let sending = reader.send(data);
        match self.stall_limit {
            // A reader that has gone is noticed elsewhere.
            Some(limit) => timeout(limit, sending).await.is_ok(),
            None => {
                let _ = sending.await;
                true
            }
        }
    }

    fn keep_stderr(&self, data: &[u8]) {
        let data = data.get(data.len().saturating_sub(STDERR_BYTES)..).unwrap_or(data);
        self.state.with(|facts| {
            let excess = (facts.stderr.len() + data.len()).saturating_sub(STDERR_BYTES);
            facts.stderr.drain(..excess.min(facts.stderr.len()));
            facts.stderr.extend(data);
        });
    }
}

/// Sends what is written, then the end of the input. Then it waits to be dropped: the reading part finds out how the
/// channel ends.
async fn write(channel: &ChannelWriteHalf<Msg>, mut outgoing: mpsc::Receiver<Bytes>) -> Infallible {
    let mut is_open = true;
    while is_open {
        is_open = match outgoing.recv().await {
            Some(bytes) => channel.data_bytes(bytes).await.is_ok(),
            None => {
                let _ = channel.eof().await;
                false
            }
        };
    }
    std::future::pending().await
}

/// The name of a signal as it is on the wire.
fn signal(signal: &Sig) -> String {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    name.into()
}
