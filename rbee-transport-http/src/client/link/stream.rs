//! The outputs of one run on a link.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use futures_core::Stream;
use rbee_core::{Error, ErrorKind, Output, Result};

use super::{
    payload::{read_error, read_json},
    queue::RunQueue,
    shared::Link,
};
use crate::{
    link::{self, kind},
    wire::worker::{End, Execute},
};

/// The outputs of a run. Dropping it cancels the run, if it has not ended.
pub(super) struct RunStream {
    link: Arc<Link>,
    run: u32,
    queue: Arc<RunQueue>,
    /// Frames that were taken from the queue.
    frames: Vec<u8>,
    /// How far the frames are read.
    at: usize,
    /// The rest of the `TOKENS` frame that is being read.
    tokens: Range<usize>,
    /// The credit to return, in bytes.
    owed: usize,
    is_accepted: bool,
    is_over: bool,
}

impl RunStream {
    /// The credit of a run, in bytes: the most that the worker sends before the reader reads.
    pub(super) const CREDIT: u32 = 64 << 10;

    /// Begins a run, and waits until the worker has accepted it.
    ///
    /// # Errors
    /// The error with which the worker refuses it, or [`ErrorKind::WorkerUnreachable`] if the link is lost before it has
    /// begun.
    pub(super) async fn begin(link: Arc<Link>, execute: &Execute) -> Result<Self> {
        let mut frame = BytesMut::new();
        let at = link::begin(&mut frame, kind::RUN, link::CONNECTION);
        frame.put_u32_le(Self::CREDIT);
        let mut json = frame.writer();
        serde_json::to_writer(&mut json, execute).map_err(|cause| {
            let message = format!("the run cannot be written: {cause}");
            Error::new(ErrorKind::Internal, message).with_source(cause)
        })?;
        let mut frame = json.into_inner();
        if !link::finish(&mut frame, at) {
            let message = format!("the run is larger than {} bytes", link::MAX_FRAME_BYTES);
            return Err(Error::new(ErrorKind::PayloadTooLarge, message));
        }
        let (run, queue) = link.send_run(frame, Self::CREDIT).await?;
        Self::new(link, run, queue).accepted().await
    }

    fn new(link: Arc<Link>, run: u32, queue: Arc<RunQueue>) -> Self {
        Self {
            link,
            run,
            queue,
            frames: Vec::new(),
            at: 0,
            tokens: 0..0,
            owed: 0,
            is_accepted: false,
            is_over: false,
        }
    }

    /// The bytes of the frames that have arrived and are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.frames.len() + self.queue.held()
    }

    /// Waits until the worker has accepted the run.
    ///
    /// # Errors
    /// The error with which the worker refuses it, or [`ErrorKind::WorkerUnreachable`] if the link is lost before that.
    async fn accepted(mut self) -> Result<Self> {
        loop {
            let (kind, payload) = std::future::poll_fn(|cx| self.poll_frame(cx)).await?;
            match kind {
                kind::ACCEPTED => {
                    self.is_accepted = true;
                    return Ok(self);
                }
                kind::ERROR => return Err(self.read(payload, read_error)?),
                kind if kind::takes_credit(kind) || kind == kind::END => {
                    return Err(self.malformed("an output of a run that it has not accepted"));
                }
                // Of a newer version.
                _ => {}
            }
        }
    }

    /// The kind of the next frame, and its payload.
    fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Result<(u8, Range<usize>)>> {
        while self.at == self.frames.len() {
            self.return_credit();
            self.frames.clear();
            self.at = 0;
            if let Err(lost) = ready!(self.queue.poll_take(&mut self.frames, cx)) {
                // Before its acceptance nothing has begun.
                let kind = match self.is_accepted {
                    true => ErrorKind::WorkerLost,
                    false => ErrorKind::WorkerUnreachable,
                };
                return Poll::Ready(Err(self.link.lost(&lost, kind)));
            }
        }
        let Ok(Some((frame, size))) = link::split(&self.frames[self.at..]) else {
            // The queue has whole frames only.
            return Poll::Ready(Err(self.malformed("a frame")));
        };
        let (kind, length) = (frame.kind, frame.payload.len());
        self.at += size;
        if kind::takes_credit(kind) {
            self.owed += size;
        }
        Poll::Ready(Ok((kind, self.at - length..self.at)))
    }

    /// Returns the credit of frames that were read, not for every one.
    fn return_credit(&mut self) {
        if self.owed >= Self::CREDIT as usize / 2 {
            let owed = u32::try_from(self.owed).unwrap_or(u32::MAX);
            self.link.send_credit(self.run, owed);
            self.owed = 0;
        }
    }

    /// The next token of the frame that is being read.
    fn next_token(&mut self) -> Result<Output> {
        let mut rest = &self.frames[self.tokens.clone()];
        let token = link::take_token(&mut rest);
        self.tokens.start = self.tokens.end - rest.len();
        token.ok_or_else(|| self.malformed("a token"))
    }

    /// Reads a frame; one of an unknown kind is ignored.
    fn output(&mut self, kind: u8, payload: Range<usize>) -> Result<Option<Output>> {
        let output = match kind {
            kind::TOKENS => {
                self.tokens = payload;
                return Ok(None);
            }
            kind::HEARTBEAT => Output::Heartbeat,
            kind::VECTORS => match link::read_vectors(&self.frames[payload]) {
                Some(vectors) => Output::Vectors(vectors),
                None => return Err(self.malformed("vectors")),
            },
            kind::METRICS => Output::Metrics(self.read(payload, read_json)?),
            kind::END => {
                let End { finish, usage, stop_text } = self.read(payload, read_json)?;
                Output::End { finish, usage, stop_text }
            }
            kind::ERROR => return Err(self.read(payload, read_error)?),
            _ => return Ok(None),
        };
        Ok(Some(output))
    }

    fn read<T>(
        &mut self,
        payload: Range<usize>,
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        read(&self.frames[payload]).inspect_err(|error| self.link.fail(error.message()))
    }

    /// Ends the link, because the worker does not keep to the protocol.
    fn malformed(&self, what: &str) -> Error {
        let message = format!("the worker has sent {what} that is malformed");
        self.link.fail(&message);
        Error::new(ErrorKind::WorkerFault, message)
    }
}

impl Stream for RunStream {
    type Item = Result<Output>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            let output = if this.tokens.is_empty() {
                match ready!(this.poll_frame(cx)) {
                    Ok((kind, payload)) => this.output(kind, payload),
                    Err(error) => Err(error),
                }
            } else {
                this.next_token().map(Some)
            };
            this.is_over = matches!(output, Err(_) | Ok(Some(Output::End { .. })));
            if let Some(output) = output.transpose() {
                return Poll::Ready(Some(output));
            }
        }
    }
}

impl Drop for RunStream {
    fn drop(&mut self) {
        self.link.forget(self.run);
    }
}
