//! One run of a link: polls its outputs, and writes them as frames.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use rbee_core::{Error, ErrorKind, Output, Result};

use super::{
    super::outputs::RunOutputs,
    ready::{ReadyRuns, RunWaker},
};
use crate::{
    link::{self, kind},
    wire::{ErrorBody, worker::End},
};

/// The most bytes that one run appends before the others get their turn.
const MOST_TOGETHER: usize = 16 << 10;

/// The future that begins a run.
pub(super) type Beginning = Pin<Box<dyn Future<Output = Result<RunOutputs>> + Send>>;

enum Phase {
    /// The worker has not accepted it yet.
    Beginning(Beginning),
    Running(RunOutputs),
}

/// A run that has not ended. Dropping it ends it.
pub(super) struct LinkRun {
    number: u32,
    phase: Phase,
    /// The bytes that the client takes at present. Below zero after a frame that was larger than the rest.
    credit: i64,
    wakes: Arc<RunWaker>,
    waker: Waker,
}

/// The state of a run after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on when it is woken.
    Waits,
    /// It has more to send at once.
    HasMore,
    /// Its last frame is written.
    Over,
}

impl LinkRun {
    /// A run that begins with this future, and this credit in bytes. The caller must poll it.
    pub(super) fn new(
        number: u32,
        beginning: Beginning,
        credit: u32,
        ready: &Arc<ReadyRuns>,
    ) -> Self {
        let wakes = RunWaker::new(number, ready);
        wakes.set_woken();
        let waker = Waker::from(wakes.clone());
        let phase = Phase::Beginning(beginning);
        Self { number, phase, credit: i64::from(credit), wakes, waker }
    }

    /// Adds credit in bytes. Returns true if the caller must poll it.
    pub(super) fn add_credit(&mut self, bytes: u32) -> bool {
        self.credit = self.credit.saturating_add(i64::from(bytes));
        self.wakes.set_woken()
    }

    /// Appends what is available and has credit. A panic of the worker ends this run alone.
    pub(super) fn poll(&mut self, out: &mut BytesMut) -> Turn {
        let began = out.len();
        let polled = AssertUnwindSafe(|| self.poll_outputs(out));
        catch_unwind(polled).unwrap_or_else(|_| {
            out.truncate(began);
            let error = Error::new(ErrorKind::WorkerFault, "the worker panicked");
            put_error(out, self.number, &error);
            Turn::Over
        })
    }

    fn poll_outputs(&mut self, out: &mut BytesMut) -> Turn {
        self.wakes.rearm();
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Phase::Beginning(beginning) = &mut self.phase {
            match beginning.as_mut().poll(cx) {
                Poll::Pending => return Turn::Waits,
                Poll::Ready(Err(error)) => {
                    put_error(out, self.number, &error);
                    return Turn::Over;
                }
                Poll::Ready(Ok(outputs)) => {
                    link::put(out, kind::ACCEPTED, self.number, b"");
                    self.phase = Phase::Running(outputs);
                }
            }
        }
        let Phase::Running(outputs) = &mut self.phase else { return Turn::Waits };
        let mut frames = Frames::new(out, self.number, self.credit);
        let turn = loop {
            // The end of a cancelled run needs no credit.
            if frames.is_out_of_credit() && !outputs.is_cancelled() {
                break Turn::Waits;
            }
            if frames.written() >= MOST_TOGETHER {
                break Turn::HasMore;
            }
            match outputs.poll_next(cx) {
                Poll::Pending => break Turn::Waits,
                Poll::Ready(None) => break Turn::Over,
                Poll::Ready(Some(item)) => {
                    if !frames.put(item) {
                        break Turn::Over;
                    }
                }
            }
        };
        let is_over = turn == Turn::Over || !frames.end_tokens();
        self.credit = frames.credit_left();
        if is_over { Turn::Over } else { turn }
    }
}

/// Writes the outputs of a run. Tokens in a row become one frame.
struct Frames<'a> {
    out: &'a mut BytesMut,
    run: u32,
    credit: i64,
    began: usize,
    /// The position of the `TOKENS` frame that is being written.
    tokens: Option<usize>,
}

impl<'a> Frames<'a> {
    fn new(out: &'a mut BytesMut, run: u32, credit: i64) -> Self {
        let began = out.len();
        Self { out, run, credit, began, tokens: None }
    }

    /// The bytes that were written in this turn.
    fn written(&self) -> usize {
        self.out.len() - self.began
    }

    fn credit_left(&self) -> i64 {
        self.credit.saturating_sub(i64::try_from(self.written()).unwrap_or(i64::MAX))
    }

    fn is_out_of_credit(&self) -> bool {
        self.credit_left() <= 0
    }

    /// Writes an output. Returns false if nothing may follow.
    fn put(&mut self, item: Result<Output>) -> bool {
        if let Ok(Output::Token { id, text, logprobs }) = &item {
            let begin = || link::begin(self.out, kind::TOKENS, self.run);
            self.tokens.get_or_insert_with(begin);
            link::put_token(self.out, *id, text, logprobs.as_deref());
            return true;
        }
        if !self.end_tokens() {
            return false;
        }
        let written = match item {
            Ok(Output::Vectors(vectors)) => {
                let at = link::begin(self.out, kind::VECTORS, self.run);
                link::put_vectors(self.out, &vectors);
                link::finish(self.out, at)
            }
            Ok(Output::Metrics(metrics)) => self.put_json(kind::METRICS, &metrics),
            Ok(Output::End { finish, usage, stop_text }) => {
                self.put_json(kind::END, &End { finish, usage, stop_text });
                return false;
            }
            Ok(Output::Heartbeat | Output::Token { .. }) => {
                link::put(self.out, kind::HEARTBEAT, self.run, b"")
            }
            Err(error) => {
                put_error(self.out, self.run, &error);
                return false;
            }
        };
        written || self.too_large()
    }

    fn put_json(&mut self, kind: u8, value: &impl serde::Serialize) -> bool {
        // These types always become JSON.
        serde_json::to_vec(value).is_ok_and(|json| link::put(self.out, kind, self.run, &json))
    }

    fn end_tokens(&mut self) -> bool {
        match self.tokens.take() {
            Some(at) => link::finish(self.out, at) || self.too_large(),
            None => true,
        }
    }

    fn too_large(&mut self) -> bool {
        let message = format!("an output is larger than {} bytes", link::MAX_FRAME_BYTES);
        put_error(self.out, self.run, &Error::new(ErrorKind::WorkerFault, message));
        false
    }
}

/// Appends the error that a run, or the connection, ends with.
pub(super) fn put_error(out: &mut BytesMut, run: u32, error: &Error) {
    let info = ErrorBody::for_queen(error, None).error;
    let written =
        serde_json::to_vec(&info).is_ok_and(|json| link::put(out, kind::ERROR, run, &json));
    if !written {
        let json = br#"{"code":"WORKER_FAULT","message":"an error is too long to be sent"}"#;
        link::put(out, kind::ERROR, run, json);
    }
}
