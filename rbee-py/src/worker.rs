//! A worker that is an object of Python: [`PyWorker`].

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use pyo3::{
    exceptions::{PyStopIteration, PyTypeError, PyValueError},
    intern,
    prelude::*,
};
use rbee_core::{
    Error, ErrorKind, HiveId, Output, OutputStream, Run, Usage, Worker, WorkerId, WorkerInfo,
    WorkerSpec,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    worker::WorkerHealth,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    delivery,
    error::{from_python, internal, to_python},
    output,
    pending::Pending,
    run_view::RunView,
};

/// The name of the hive with the workers that are objects of the application.
pub(crate) const HIVE: &str = "python";
/// The outputs that wait for their reader.
const WAITING: usize = 32;

/// An object with a method `execute(run)`, which gives the outputs of a run: a generator, or an asynchronous one.
pub(crate) struct PyWorker {
    object: Arc<Py<PyAny>>,
    name: String,
    info: Arc<WorkerInfo>,
    slots: Arc<Semaphore>,
    /// The loop of the application, for asynchronous generators.
    event_loop: Option<Arc<Py<PyAny>>>,
}

impl fmt::Debug for PyWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PyWorker").field(&self.name).finish()
    }
}

impl PyWorker {
    /// Takes an object of the application.
    ///
    /// # Errors
    /// `TypeError` if something is missing, or of a wrong type.
    pub(crate) fn new(object: &Bound<'_, PyAny>, event_loop: Option<Py<PyAny>>) -> PyResult<Self> {
        let mut worker = Self::read(object, event_loop, None)?;
        let hive = HiveId::new(HIVE).map_err(|error| to_python(object.py(), &error))?;
        Arc::make_mut(&mut worker.info).hive = hive;
        Ok(worker)
    }

    /// Takes a worker of a hive. What it does not say of itself is as in the order that it was started with.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of_hive(
        object: &Bound<'_, PyAny>,
        event_loop: Option<Py<PyAny>>,
        id: WorkerId,
        hive: HiveId,
        spec: Option<&WorkerSpec>,
    ) -> PyResult<Self> {
        let mut worker = Self::read(object, event_loop, spec)?;
        let info = Arc::make_mut(&mut worker.info);
        (info.id, info.hive) = (id, hive);
        Ok(worker)
    }

    fn read(
        object: &Bound<'_, PyAny>,
        event_loop: Option<Py<PyAny>>,
        spec: Option<&WorkerSpec>,
    ) -> PyResult<Self> {
        let py = object.py();
        let name = object.get_type().name()?.to_string();
        let needed: &[&str] = if spec.is_some() { &["execute"] } else { &["execute", "model"] };
        for needed in needed {
            if !object.hasattr(*needed)? {
                let message = format!(
                    "a worker has a method execute(run) and an attribute model, and {name} has no {needed}"
                );
                return Err(PyTypeError::new_err(message));
            }
        }
        macro_rules! attribute {
            ($attribute:literal, $default:expr) => {
                match object.getattr_opt(intern!(py, $attribute))? {
                    Some(value) => value.extract().map_err(|error: PyErr| {
                        let said = error.value(py).to_string();
                        PyTypeError::new_err(format!("{} of {name}: {said}", $attribute))
                    })?,
                    None => $default,
                }
            };
        }
        let model = match spec {
            Some(spec) => spec.model.clone(),
            None => {
                let model: String = attribute!("model", String::new());
                model.parse().map_err(|error| to_python(py, &error))?
            }
        };
        let backend: String = attribute!("backend", name.clone());
        let mut info = WorkerInfo::new(model, backend);
        info.slots = attribute!("slots", spec.map_or(1, |spec| spec.slots)).max(1);
        info.devices =
            attribute!("devices", spec.map_or_else(Vec::new, |spec| spec.devices.clone()));
        let able = &mut info.capabilities;
        able.generate = attribute!("generate", true);
        able.embed = attribute!("embed", false);
        able.rerank = attribute!("rerank", false);
        able.resume = attribute!("resume", false);
        able.context_tokens = attribute!("context_tokens", None);
        able.logprobs = attribute!("logprobs", false);
        able.logit_bias = attribute!("logit_bias", false);
        able.penalties = attribute!("penalties", false);
        able.min_tokens = attribute!("min_tokens", false);
        able.grammar = attribute!("grammar", false);
        able.infill = attribute!("infill", false);
        let tools: Option<String> = attribute!("tools", None);
        let reasoning: Option<String> = attribute!("reasoning", None);
        able.answer = AnswerFormat {
            tools: tools.map(|format| of_tools(&format)).transpose()?,
            reasoning: reasoning.map(|format| of_reasoning(&format)).transpose()?,
            ..AnswerFormat::default()
        };
        let numerics: Option<String> = attribute!("numerics", None);
        if let Some(numerics) = numerics {
            info.numerics = numerics.into();
        }
        Ok(Self {
            object: Arc::new(object.clone().unbind()),
            slots: Arc::new(Semaphore::new(info.slots as usize)),
            info: Arc::new(info),
            name,
            event_loop: event_loop.map(Arc::new),
        })
    }
}

fn of_tools(name: &str) -> PyResult<ToolFormat> {
    ToolFormat::ALL.into_iter().find(|format| format.as_str() == name).ok_or_else(|| {
        let all = ToolFormat::ALL.map(ToolFormat::as_str).join(", ");
        PyValueError::new_err(format!("tools of a worker is {name:?}; allowed are {all}"))
    })
}

fn of_reasoning(name: &str) -> PyResult<ReasoningFormat> {
    match name {
        "think" => Ok(ReasoningFormat::Think),
        "thinking" => Ok(ReasoningFormat::Thinking),
        "mistral" => Ok(ReasoningFormat::Mistral),
        "seed" => Ok(ReasoningFormat::Seed),
        _ => Err(PyValueError::new_err(format!(
            "reasoning of a worker is {name:?}; allowed are think, thinking, mistral and seed"
        ))),
    }
}

#[async_trait]
impl Worker for PyWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> rbee_core::Result<OutputStream> {
        if !self.info.capabilities.can(&run.job.task) {
            return Err(self.info.incapable(&run.job.task));
        }
        let Ok(permit) = self.slots.clone().try_acquire_owned() else {
            let message =
                format!("all {} slots of worker {} are taken", self.info.slots, self.info.id);
            return Err(Error::new(ErrorKind::WorkerBusy, message));
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let cancelled = CancellationToken::new();
        let given = Given {
            name: self.name.clone(),
            object: self.object.clone(),
            event_loop: self.event_loop.clone(),
            sender,
            cancelled: cancelled.clone(),
            permit: Arc::new(permit),
        };
        // The generator runs in a thread that may wait, because the interpreter's lock may be held for long.
        tokio::task::spawn_blocking(move || given.run(run));
        let reading = Reading { receiver, _cancel: cancelled.drop_guard() };
        Ok(stream::unfold(reading, |mut reading| async {
            let output = reading.receiver.recv().await?;
            Some((output, reading))
        })
        .boxed())
    }

    async fn health(&self) -> rbee_core::Result<WorkerHealth> {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        Ok(WorkerHealth { busy: self.info.slots.saturating_sub(free), ..WorkerHealth::default() })
    }
}

struct Reading {
    receiver: mpsc::Receiver<rbee_core::Result<Output>>,
    /// Says that the run is no longer wanted, when it is dropped.
    _cancel: DropGuard,
}

type Outputs = mpsc::Sender<rbee_core::Result<Output>>;

/// A run that was given to Python.
struct Given {
    name: String,
    object: Arc<Py<PyAny>>,
    event_loop: Option<Arc<Py<PyAny>>>,
    sender: Outputs,
    cancelled: CancellationToken,
    permit: Arc<OwnedSemaphorePermit>,
}

impl Given {
    fn run(self, run: Run) {
        let resumed = u32::try_from(run.resume.tokens.len()).unwrap_or(u32::MAX);
        let begun = Python::try_attach(|py| {
            let begun = Py::new(py, RunView::new(run, self.cancelled.clone()))
                .and_then(|view| self.object.bind(py).call_method1("execute", (view,)))
                .and_then(|outputs| self.begin(py, &outputs, resumed));
            begun.map_err(|error| from_python(py, &self.name, error, ErrorKind::WorkerFault))
        });
        let outputs = match begun {
            Some(Ok(Some(outputs))) => outputs,
            Some(Ok(None)) => return,
            Some(Err(error)) => return self.fail(error),
            None => return self.fail(internal("the interpreter has ended".into())),
        };
        self.iterate(&outputs, resumed);
    }

    /// Begins an asynchronous generator in its loop, and returns `None`; or returns the generator.
    fn begin(
        &self,
        py: Python<'_>,
        outputs: &Bound<'_, PyAny>,
        resumed: u32,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !outputs.hasattr("__anext__")? {
            return outputs.try_iter().map(|outputs| Some(outputs.into_any().unbind()));
        }
        let sink = Sink {
            name: self.name.clone(),
            open: Mutex::new(Some((self.sender.clone(), self.permit.clone()))),
            count: AtomicU32::new(resumed),
            is_ended: AtomicBool::new(false),
        };
        let drive = py.import("rbee._drive")?;
        let event_loop = self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        let sink = Py::new(py, sink)?;
        let task = drive.call_method1("start", (outputs, sink, event_loop))?.unbind();
        let cancelled = self.cancelled.clone();
        tokio::runtime::Handle::current().spawn(async move {
            cancelled.cancelled().await;
            delivery::cancel(task);
        });
        delivery::start()?;
        Ok(None)
    }

    fn iterate(&self, outputs: &Py<PyAny>, resumed: u32) {
        let mut count = resumed;
        loop {
            let next = Python::try_attach(|py| {
                if self.sender.is_closed() {
                    // A generator gets `GeneratorExit`; other iterators have no `close`.
                    if let Ok(close) = outputs.getattr(py, intern!(py, "close")) {
                        close.call0(py)?;
                    }
                    return Ok(None);
                }
                match outputs.call_method0(py, intern!(py, "__next__")) {
                    Ok(value) => output::read(value.bind(py), &mut count).map(Some),
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                        Ok(Some(output::end(count)))
                    }
                    Err(error) => Err(error),
                }
            });
            let next = match next {
                Some(Ok(Some(output))) => Ok(output),
                Some(Ok(None)) | None => return,
                Some(Err(error)) => {
                    let raised = Python::try_attach(|py| {
                        from_python(py, &self.name, error, ErrorKind::WorkerFault)
                    });
                    Err(raised.unwrap_or_else(|| internal("the interpreter has ended".into())))
                }
            };
            let is_end = !matches!(
                &next,
                Ok(Output::Token { .. }
                    | Output::Vectors(_)
                    | Output::Metrics(_)
                    | Output::Heartbeat)
            );
            // If nobody reads any more, the generator is closed in the next turn.
            let is_sent = self.sender.blocking_send(next).is_ok();
            if is_end && is_sent {
                return;
            }
        }
    }

    fn fail(&self, error: Error) {
        // Whoever reads may have gone.
        let _ = self.sender.blocking_send(Err(error));
    }
}

/// Takes the outputs of an asynchronous generator.
#[pyclass(frozen, module = "rbee._rbee")]
struct Sink {
    name: String,
    /// `None` once it was closed.
    open: Mutex<Option<(Outputs, Arc<OwnedSemaphorePermit>)>>,
    count: AtomicU32,
    /// The generator has given an end itself.
    is_ended: AtomicBool,
}

#[pymethods]
impl Sink {
    /// Takes an output. Returns `None`, or what to await if the reader is slow.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<Pending>> {
        let mut count = self.count.load(Ordering::Relaxed);
        let output = output::read(value, &mut count)?;
        self.count.store(count, Ordering::Relaxed);
        if matches!(output, Output::End { .. }) {
            self.is_ended.store(true, Ordering::Relaxed);
        }
        Ok(self.put(Ok(output)))
    }

    /// The generator has ended, perhaps by an exception.
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> Option<Pending> {
        let last = match error {
            Some(error) => {
                Err(from_python(py, &self.name, PyErr::from_value(error), ErrorKind::WorkerFault))
            }
            None if self.is_ended.load(Ordering::Relaxed) => return None,
            None => Ok(output::end(self.count.load(Ordering::Relaxed))),
        };
        self.put(last)
    }

    /// The generator is closed: the slot is free. An exception may hold this object for longer.
    fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Sink {
    fn put(&self, output: rbee_core::Result<Output>) -> Option<Pending> {
        let sender = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().map(|(sender, _)| sender.clone())?
        };
        match sender.try_send(output) {
            // If nobody reads any more, the task is cancelled soon.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(output)) => Some(Pending::new(async move {
                let _ = sender.send(output).await;
                Ok(())
            })),
        }
    }
}

/// The usage of an answer of which only the tokens are known.
pub(crate) fn counted(tokens: u32) -> Usage {
    Usage { prompt_tokens: 0, completion_tokens: tokens, cached_tokens: None }
}
