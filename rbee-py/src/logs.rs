//! Logs of rbee in Python's `logging`: [`use_logging`].
//!
//! A thread that logs puts its line into a bounded queue, and never waits for the interpreter. Another thread gives the
//! lines to the loggers.

use std::{
    fmt::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    intern,
    prelude::*,
    types::PyDict,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
    reload,
};

/// The lines that wait for their logger. Others are dropped, and counted.
const WAITING: usize = 4096;
/// The number of `logging.DEBUG - 5`, for lines that have no level in Python.
const TRACE: u8 = 5;

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// The lines that were dropped since the last report.
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct State {
    filter: reload::Handle<Targets, Registry>,
    /// `None` once the interpreter ends.
    thread: Option<(SyncSender<Said>, JoinHandle<()>)>,
}

/// What waits for the thread.
enum Said {
    Line(Line),
    /// Nothing follows.
    End,
}

struct Line {
    level: u8,
    target: &'static str,
    text: String,
    file: Option<&'static str>,
    number: u32,
}

/// Gives the logs of rbee from this level on to Python's `logging`. A further call changes the level.
///
/// # Errors
/// `ValueError` for an unknown level; `RuntimeError` if this process has another receiver of Rust's logs.
#[pyfunction]
pub(crate) fn use_logging(py: Python<'_>, level: &str) -> PyResult<()> {
    let level: LevelFilter = level.parse().map_err(|_| {
        let allowed = "off, error, warn, info, debug and trace";
        PyValueError::new_err(format!("level is {level:?}; allowed are {allowed}"))
    })?;
    crate::exit::register(py)?;
    let targets = targets(level);
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(state) = &*state {
        return state.filter.reload(targets).map_err(|error| {
            PyRuntimeError::new_err(format!("the level of the logs cannot be changed: {error}"))
        });
    }
    let (sender, receiver) = sync_channel(WAITING);
    let (targets, filter) = reload::Layer::new(targets);
    let subscriber =
        Registry::default().with(Bridge { sender: sender.clone() }.with_filter(targets));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| {
        PyRuntimeError::new_err("the logs of rbee go elsewhere already, as those of a daemon do")
    })?;
    let deliver = move || deliver(&receiver);
    let thread = Builder::new().name("rbee-logs".into()).spawn(deliver).map_err(|cause| {
        PyRuntimeError::new_err(format!("rbee cannot start a thread for its logs: {cause}"))
    })?;
    *state = Some(State { filter, thread: Some((sender, thread)) });
    Ok(())
}

/// Lines of rbee, and warnings of what it uses.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_target("rbee", level).with_default(level.min(LevelFilter::WARN))
}

/// Ends the thread, after everything that was said has been given out.
pub(crate) fn end() {
    let thread = STATE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_mut()
        .and_then(|state| state.thread.take());
    if let Some((sender, thread)) = thread {
        // It takes what is before this, or has ended.
        let _ = sender.send(Said::End);
        let _ = thread.join();
    }
}

fn deliver(receiver: &Receiver<Said>) {
    while let Ok(Said::Line(line)) = receiver.recv() {
        let given = Python::try_attach(|py| {
            let dropped = DROPPED.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let text =
                    format!("{dropped} lines of the log were dropped; loggers were too slow");
                let report =
                    Line { level: 30, target: "rbee_py::logs", text, file: None, number: 0 };
                report.give(py).unwrap_or_else(|error| error.write_unraisable(py, None));
            }
            // A handler that raises must not end the logs.
            line.give(py).unwrap_or_else(|error| error.write_unraisable(py, None));
        });
        if given.is_none() {
            return;
        }
    }
}

impl Line {
    /// Gives the line to its logger, which may not want it.
    fn give(&self, py: Python<'_>) -> PyResult<()> {
        let logging = py.import(intern!(py, "logging"))?;
        let name = logger(self.target);
        let logger = logging.call_method1(intern!(py, "getLogger"), (&name,))?;
        if !logger.call_method1(intern!(py, "isEnabledFor"), (self.level,))?.is_truthy()? {
            return Ok(());
        }
        let parts = PyDict::new(py);
        parts.set_item("name", name)?;
        parts.set_item("levelno", self.level)?;
        let named = logging.call_method1(intern!(py, "getLevelName"), (self.level,))?;
        parts.set_item("levelname", named)?;
        parts.set_item("msg", &self.text)?;
        parts.set_item("pathname", self.file.unwrap_or_default())?;
        let file = self.file.unwrap_or_default();
        parts.set_item("filename", file.rsplit('/').next().unwrap_or_default())?;
        parts.set_item("lineno", self.number)?;
        let record = logging.call_method1(intern!(py, "makeLogRecord"), (parts,))?;
        logger.call_method1(intern!(py, "handle"), (record,)).map(drop)
    }
}

/// The logger of a module: `rbee.core.queen` for `rbee_core::queen`, and `rbee.hyper` for one of another library.
fn logger(target: &str) -> String {
    let path = target.replace("::", ".");
    format!("rbee.{}", path.strip_prefix("rbee_").unwrap_or(&path))
}

/// Puts what happens into the queue.
struct Bridge {
    sender: SyncSender<Said>,
}

/// The fields of a span, as text.
struct Fields(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bridge {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Text::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(Fields(fields.others));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            if let Some(Fields(fields)) = extensions.get_mut() {
                let mut text = Text { message: String::new(), others: std::mem::take(fields) };
                values.record(&mut text);
                *fields = text.others;
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = text.message;
        line.push_str(&text.others);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Fields(fields)) = span.extensions().get() {
                line.push_str(fields);
            }
        }
        let metadata: &Metadata<'static> = event.metadata();
        let line = Line {
            level: level(*metadata.level()),
            target: metadata.target(),
            text: line.trim_start().to_owned(),
            file: metadata.file(),
            number: metadata.line().unwrap_or_default(),
        };
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Said::Line(line)) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => TRACE,
    }
}

/// The message, and the other fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    others: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else if value.is_empty() || value.contains([' ', '"', '\n']) {
            self.record_debug(field, &value);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.others, " {}={value:?}", field.name())
        };
    }
}
