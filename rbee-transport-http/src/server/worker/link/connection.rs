//! The connection of a link: one task reads the client's frames, polls all runs, and writes what they have.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rbee_core::{Error, ErrorKind, Result};
use tokio::io::AsyncWrite;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    super::Inner,
    ready::ReadyRuns,
    run::{Beginning, LinkRun, Turn, put_error},
};
use crate::{
    dial::Io,
    link::{self, Frame, FrameBuffer, RunMap, Silence, SilenceWatch, kind},
    server::{response, takeover::TakenOver},
    wire::worker::Execute,
};

/// With this many unsent bytes no run is polled, and no new run is read.
const MOST_UNSENT: usize = 256 << 10;
/// An output buffer that has grown beyond this is released once it is empty.
const MAX_KEPT_BYTES: usize = 2 * MOST_UNSENT;
/// How long the last bytes may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most runs of one link.
const MOST_RUNS: usize = 4_096;

/// A link of a client to this worker. When it ends, its runs end.
pub(super) struct Connection {
    inner: Arc<Inner>,
    io: Box<dyn Io>,
    input: FrameBuffer,
    output: BytesMut,
    /// True if bytes were written since the last flush.
    is_unflushed: bool,
    runs: RunMap<LinkRun>,
    ready: Arc<ReadyRuns>,
    /// Runs that are polled when there is room in the output.
    turns: Vec<u32>,
    /// The number of the last run that the client has begun.
    last: u32,
    owes_pong: bool,
    silence: SilenceWatch,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    is_stopping: bool,
}

/// Why a link ends.
enum Ended {
    /// The client has closed it, or it was closed because the server stops.
    Closed,
    /// The connection broke.
    Broken(std::io::Error),
    /// The client breaks the protocol.
    Malformed(Error),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Connection {
    pub(super) fn new(inner: Arc<Inner>, TakenOver { io, read, stop }: TakenOver) -> Self {
        Self {
            inner,
            io,
            input: FrameBuffer::new(&read),
            output: BytesMut::new(),
            is_unflushed: false,
            runs: RunMap::default(),
            ready: Arc::default(),
            turns: Vec::new(),
            last: link::CONNECTION,
            owes_pong: false,
            silence: SilenceWatch::new(),
            stop: Box::pin(stop.cancelled_owned()),
            is_stopping: false,
        }
    }

    /// Serves the link until it ends.
    pub(super) async fn serve(mut self) {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        // Their slots are free from now on.
        self.runs.clear();
        match ended {
            Ended::Closed => {}
            Ended::Broken(error) => return tracing::debug!(%error, "the link of a client broke"),
            Ended::Malformed(error) => {
                tracing::warn!(%error, "the link of a client is closed");
                put_error(&mut self.output, link::CONNECTION, &error);
            }
        }
        let closed = std::future::poll_fn(|cx| {
            ready!(self.poll_write(cx))?;
            Pin::new(&mut self.io).poll_shutdown(cx)
        });
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, closed).await, Ok(Ok(()))) {
            tracing::debug!("the link of a client was not closed in order");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    /// Does everything that can be done now. Returns once it waits.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        if !self.is_stopping && self.stop.as_mut().poll(cx).is_ready() {
            self.is_stopping = true;
        }
        while let Poll::Ready(silence) = self.silence.poll_tick(cx) {
            if silence == Silence::Lost {
                let message = format!("the client has sent nothing for {:?}", SilenceWatch::LIMIT);
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message).into());
            }
        }
        loop {
            let has_read = self.read(cx)?;
            let has_more = self.poll_runs(cx);
            if self.owes_pong && !self.is_full() {
                self.owes_pong = false;
                link::put(&mut self.output, kind::PONG, link::CONNECTION, b"");
            }
            let was_full = self.is_full();
            if let Poll::Ready(written) = self.poll_write(cx) {
                written?;
            }
            let has_room = was_full && !self.is_full();
            let goes_on = has_read || has_room || (has_more && !self.is_full());
            if !goes_on {
                break;
            }
        }
        if self.is_stopping && self.runs.is_empty() && self.output.is_empty() {
            return Err(Ended::Closed);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.output.len() >= MOST_UNSENT
    }

    /// Reads once. Returns true if there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if !self.read_frames()? {
            return Ok(false);
        }
        let Poll::Ready(read) = self.input.poll_fill(&mut self.io, cx) else { return Ok(false) };
        if read? == 0 {
            return Err(Ended::Closed);
        }
        self.silence.heard();
        self.read_frames()
    }

    /// Reads the frames that have arrived. Returns false if it stops at a new run, because the client reads nothing.
    fn read_frames(&mut self) -> Result<bool, Ended> {
        loop {
            if self.is_full() && self.input.next_kind() == Some(kind::RUN) {
                return Ok(false);
            }
            let next = self.input.next_frame().map_err(Ended::Malformed)?;
            let Some((frame, _)) = next else { return Ok(true) };
            match frame.kind {
                kind::RUN => {
                    let run = begin(&self.inner, frame, self.last).map_err(Ended::Malformed)?;
                    self.last = frame.run;
                    let refused = match run {
                        _ if self.is_stopping => Some(Error::new(
                            ErrorKind::WorkerUnreachable,
                            "the worker is shutting down",
                        )),
                        _ if self.runs.len() >= MOST_RUNS => Some(Error::new(
                            ErrorKind::WorkerBusy,
                            format!("the link has {MOST_RUNS} runs; that is its limit"),
                        )),
                        Err(error) => Some(error),
                        Ok((beginning, credit)) => {
                            let run = LinkRun::new(frame.run, beginning, credit, &self.ready);
                            self.runs.insert(frame.run, run);
                            self.turns.push(frame.run);
                            None
                        }
                    };
                    if let Some(error) = refused {
                        put_error(&mut self.output, frame.run, &error);
                    }
                }
                // A run that is not there has just ended.
                kind::CANCEL => drop(self.runs.remove(&frame.run)),
                kind::CREDIT => {
                    let mut payload = frame.payload;
                    let credit = link::read_u32(&mut payload)
                        .ok_or_else(|| Ended::Malformed(malformed(frame)))?;
                    if let Some(run) = self.runs.get_mut(&frame.run)
                        && run.add_credit(credit)
                    {
                        self.turns.push(frame.run);
                    }
                }
                kind::PING => self.owes_pong = true,
                // Of a newer version.
                _ => {}
            }
        }
    }

    /// Polls the runs that were woken, while there is room. Returns true if some have more at once.
    fn poll_runs(&mut self, cx: &Context<'_>) -> bool {
        self.ready.take(&mut self.turns, cx.waker());
        let mut turns = std::mem::take(&mut self.turns);
        let mut polled = 0;
        for &number in &turns {
            if self.is_full() {
                break;
            }
            polled += 1;
            let Some(run) = self.runs.get_mut(&number) else { continue };
            match run.poll(&mut self.output) {
                Turn::Waits => {}
                Turn::HasMore => self.turns.push(number),
                Turn::Over => drop(self.runs.remove(&number)),
            }
        }
        turns.drain(..polled);
        turns.append(&mut self.turns);
        self.turns = turns;
        !self.turns.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.is_unflushed = true;
        }
        if self.output.capacity() > MAX_KEPT_BYTES {
            self.output = BytesMut::new();
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// The future that begins the run of this frame, and its credit; or the error with which the run is refused.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] if the client breaks the protocol.
fn begin(inner: &Arc<Inner>, frame: Frame<'_>, last: u32) -> Result<Result<(Beginning, u32)>> {
    let Frame { run, mut payload, .. } = frame;
    if run <= last {
        let message =
            format!("run {run} is begun after run {last}; the numbers of runs must increase");
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    let credit = link::read_u32(&mut payload).ok_or_else(|| malformed(frame))?;
    let execute: Execute = match response::parse(payload) {
        Ok(execute) => execute,
        Err(error) => return Ok(Err(error)),
    };
    let inner = inner.clone();
    let begin = async move {
        let mark = execute.job.correlation_id.clone();
        inner.begin(execute, Some(mark)).await
    };
    Ok(Ok((Box::pin(begin), credit)))
}

fn malformed(Frame { kind, run, .. }: Frame<'_>) -> Error {
    let message = format!("a frame of kind {kind} for run {run} is malformed");
    Error::new(ErrorKind::InvalidRequest, message)
}

#[cfg(test)]
mod tests;
