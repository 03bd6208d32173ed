//! Reading a job, from event loops and from threads: [`Reader`].

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
};

use pyo3::{
    exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration},
    prelude::*,
};
use rbee_core::{
    Error, Finish, JobHandle, Usage, WorkerId,
    answer::{AnswerFormat, ParsedAnswer},
    event::{EventKind, EventRef, JobEvent, Logprobs},
    queen::JobEvents,
};

use crate::{
    answer_parts::{Part, Parts},
    delivery::{Delivery, Gate, running_loop},
    error::to_python,
    wakeup::Wakeup,
};

/// After so many results without a wait, an event loop gets its turn.
const TURN: u32 = 32;

/// What reads a job: its submitter, or somebody who attached to it.
pub(crate) enum Source {
    Submitted(JobHandle),
    Attached(JobEvents),
}

impl Source {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        read: impl FnMut(Option<u64>, EventRef<'_>) -> ControlFlow<()>,
    ) -> Poll<()> {
        match self {
            Self::Submitted(job) => job.poll_read(context, read),
            Self::Attached(events) => events.poll_read(context, read),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Submitted(job) => job.is_done(),
            Self::Attached(events) => events.is_done(),
        }
    }

    fn interruption(&self) -> Option<&Error> {
        match self {
            Self::Submitted(job) => job.interruption(),
            Self::Attached(events) => events.interruption(),
        }
    }
}

/// What was read so far.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<Logprobs>,
    pub(crate) vectors: Arc<Vec<Vec<f32>>>,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) queue_wait: f64,
    /// The syntax of its parts.
    format: AnswerFormat,
    pub(crate) end: Option<Result<(Finish, Usage), Error>>,
    /// The stop text that ended it.
    pub(crate) stop_text: Option<Box<str>>,
}

impl Answer {
    fn add(&mut self, event: EventRef<'_>) {
        match event {
            EventRef::Started(started) => {
                self.worker = started.worker;
                self.queue_wait = started.queue_wait.as_secs_f64();
                self.format = started.format;
            }
            EventRef::Token { id, text, logprobs } => {
                self.text.push_str(text);
                self.tokens.extend(id);
                self.logprobs.extend(logprobs.cloned());
            }
            EventRef::Vectors(vectors) => self.vectors = vectors.clone(),
            EventRef::Metrics(_) => {}
            EventRef::End { finish, usage, stop_text } => {
                self.end = Some(Ok((finish, usage)));
                self.stop_text = stop_text.map(Box::from);
            }
            EventRef::Error(error) => self.end = Some(Err(error.clone())),
        }
    }
}

struct Reading {
    source: Source,
    answer: Answer,
    /// The bytes of the answer's text that were handed out.
    given: usize,
    parts: Parts,
}

/// Who waits for this reader in an event loop.
#[derive(Default)]
struct Waiter {
    target: Option<(Py<Wakeup>, Arc<Gate>)>,
    /// There may be more to read since the last look.
    is_woken: bool,
}

/// What a reader hands out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The text that is there, together.
    Text,
    /// One event.
    Event,
    /// One part of the answer.
    Part,
}

/// Reads one job.
pub(crate) struct Reader {
    reading: Mutex<Reading>,
    waiter: Mutex<Waiter>,
    turn: Mutex<u32>,
    waker: Waker,
}

/// Something that was read.
pub(crate) enum Item {
    Text(String),
    Event(Box<JobEvent>),
    Part(Part),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a reader. The events hold it, and they must not hold the reader: a job that nobody reads any more is cancelled
/// by the end of its reader.
struct Waking(Weak<Reader>);

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        let Some(reader) = self.0.upgrade() else { return };
        let gate = {
            let mut waiter = lock(&reader.waiter);
            let was_woken = std::mem::replace(&mut waiter.is_woken, true);
            // If nobody waits, whoever does so later sees that it was woken.
            match &waiter.target {
                Some((_, gate)) if !was_woken => gate.clone(),
                _ => return,
            }
        };
        gate.deliver(Delivery::Ready(reader));
    }
}

impl Reader {
    pub(crate) fn new(source: Source, parts: Parts) -> Arc<Self> {
        let reading = Reading { source, answer: Answer::default(), given: 0, parts };
        Arc::new_cyclic(|own| Self {
            reading: Mutex::new(reading),
            waiter: Mutex::default(),
            turn: Mutex::default(),
            waker: Arc::new(Waking(own.clone())).into(),
        })
    }

    /// The handle of the job, if this is its submitter's reader.
    pub(crate) fn with_submitted<T>(&self, read: impl FnOnce(&mut JobHandle) -> T) -> Option<T> {
        match &mut lock(&self.reading).source {
            Source::Submitted(job) => Some(read(job)),
            Source::Attached(_) => None,
        }
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// The error of the job, or why its events broke off.
    pub(crate) fn poll_next(
        &self,
        context: &mut Context<'_>,
        what: What,
    ) -> Poll<Result<Option<Item>, Error>> {
        let mut reading = lock(&self.reading);
        let Reading { source, answer, given, parts } = &mut *reading;
        if what == What::Part
            && let Some(part) = parts.next()
        {
            return Poll::Ready(Ok(Some(Item::Part(part))));
        }
        let mut next = None;
        let polled = source.poll_read(context, |seq, event| {
            answer.add(event);
            match what {
                What::Text | What::Part => ControlFlow::Continue(()),
                What::Event => {
                    next = Some(Box::new(JobEvent { seq, kind: event.to_kind() }));
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(event) = next {
            *given = answer.text.len();
            return Poll::Ready(match event.kind {
                EventKind::Error(error) => Err(error),
                _ => Ok(Some(Item::Event(event))),
            });
        }
        if answer.text.len() > *given && what == What::Text {
            let text = answer.text[*given..].to_owned();
            *given = answer.text.len();
            return Poll::Ready(Ok(Some(Item::Text(text))));
        }
        if what == What::Part {
            if answer.text.len() > *given {
                parts.push(&answer.text[*given..], answer.format);
                *given = answer.text.len();
            }
            if let Some(Ok((finish, _))) = answer.end {
                parts.finish(finish);
            }
            if let Some(part) = parts.next() {
                return Poll::Ready(Ok(Some(Item::Part(part))));
            }
        }
        if let Some(end) = &answer.end {
            return Poll::Ready(match end {
                Ok(_) => Ok(None),
                Err(error) => Err(error.clone()),
            });
        }
        if let Some(error) = source.interruption() {
            return Poll::Ready(Err(error.clone()));
        }
        if source.is_done() {
            return Poll::Ready(Ok(None));
        }
        match polled {
            Poll::Pending => Poll::Pending,
            // It is read again by whoever is woken.
            Poll::Ready(()) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Reads to the end, and returns the whole answer.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    pub(crate) async fn answer(self: Arc<Self>) -> Result<(Answer, ParsedAnswer), Error> {
        std::future::poll_fn(|context| {
            loop {
                match self.poll_next(context, What::Text) {
                    Poll::Ready(Ok(Some(_))) => {}
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        let reading = lock(&self.reading);
        let answer = reading.answer.clone();
        let finish = match answer.end {
            Some(Ok((finish, _))) => finish,
            Some(Err(_)) | None => Finish::Stop,
        };
        let parsed = reading.parts.of_whole(&answer.text, answer.format, finish);
        Ok((answer, parsed))
    }

    /// What a task waits for until there may be more to read.
    ///
    /// # Errors
    /// `RuntimeError` if no loop runs, or if another task waits for this reader.
    fn readable(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<Wakeup>> {
        if self.is_awaited(py)? {
            return Err(PyRuntimeError::new_err(
                "another task waits for the next item of this job",
            ));
        }
        let event_loop = running_loop(py)?;
        let gate = Gate::of(&event_loop)?;
        let wakeup = Py::new(py, Wakeup::new(event_loop.unbind()))?;
        let is_woken = {
            let mut waiter = lock(&self.waiter);
            waiter.target = Some((wakeup.clone_ref(py), gate.clone()));
            waiter.is_woken
        };
        // It was woken since the last look, when nobody waited yet.
        if is_woken {
            gate.deliver(Delivery::Ready(self.clone()));
        }
        Ok(wakeup)
    }

    /// Returns true if a task waits. One that was cancelled, or whose loop was closed, does not.
    fn is_awaited(&self, py: Python<'_>) -> PyResult<bool> {
        let wakeup = lock(&self.waiter).target.as_ref().map(|(wakeup, _)| wakeup.clone_ref(py));
        let Some(wakeup) = wakeup else { return Ok(false) };
        if !wakeup.get().is_over(py)? {
            return Ok(true);
        }
        lock(&self.waiter).target = None;
        Ok(false)
    }

    /// Wakes the task that waits, in the thread of its loop.
    ///
    /// # Errors
    /// As [`Wakeup::wake`].
    pub(crate) fn resolve(&self, py: Python<'_>) -> PyResult<()> {
        let target = {
            let mut waiter = lock(&self.waiter);
            waiter.is_woken = false;
            waiter.target.take()
        };
        target.map_or(Ok(()), |(wakeup, _)| Wakeup::wake(&wakeup, py))
    }
}

/// The next item of a job, for `await`. The item is taken when the task goes on, and not before: what a task that is
/// cancelled does not take stays for the next one.
#[pyclass(module = "rbee._rbee")]
pub(crate) struct Next {
    reader: Arc<Reader>,
    what: What,
    /// Lets other tasks run first.
    is_turn_of_others: bool,
    /// What is waited for.
    waiting: Option<Py<Wakeup>>,
}

impl Next {
    pub(crate) fn new(reader: Arc<Reader>, what: What) -> Self {
        let is_turn_of_others = {
            let mut turn = lock(&reader.turn);
            *turn = (*turn + 1) % TURN;
            *turn == 0
        };
        Self { reader, what, is_turn_of_others, waiting: None }
    }
}

#[pymethods]
impl Next {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// A step of a coroutine: it yields what is to be waited for, and returns by `StopIteration`.
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if std::mem::take(&mut self.is_turn_of_others) {
            return Ok(py.None());
        }
        if let Some(waiting) = &self.waiting
            && !waiting.get().done()
        {
            return Err(PyRuntimeError::new_err("this was awaited and is not done"));
        }
        let reader = &self.reader;
        lock(&reader.waiter).is_woken = false;
        match reader.poll_next(&mut Context::from_waker(&reader.waker), self.what) {
            Poll::Ready(Ok(Some(item))) => Err(PyStopIteration::new_err((item.into_python(py)?,))),
            Poll::Ready(Ok(None)) => Err(PyStopAsyncIteration::new_err(())),
            Poll::Ready(Err(error)) => Err(to_python(py, &error)),
            Poll::Pending => {
                let wakeup = self.reader.readable(py)?;
                self.waiting = Some(wakeup.clone_ref(py));
                Ok(wakeup.into_any())
            }
        }
    }
}

impl Item {
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Text(text) => Ok(pyo3::types::PyString::new(py, &text).into_any().unbind()),
            Self::Event(event) => crate::job::event(py, &event),
            Self::Part(part) => part.into_python(py),
        }
    }
}
