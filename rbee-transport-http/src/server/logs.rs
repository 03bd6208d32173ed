//! The last log lines of a daemon, served over HTTP.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_core::Stream;
use futures_util::stream;
use rbee_core::{Error, ErrorKind, Result, time::WallTime};
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::wire::queen::{LogLine, LogQuery};

/// The longest value, in bytes; longer ones are cut.
const MOST_VALUE_BYTES: usize = 4 << 10;
/// The most fields of a line; more are left out.
const MOST_FIELDS: usize = 32;
/// How many lines a follower may be behind.
const MOST_BEHIND: usize = 1_024;
/// The most lines of one response, and the number by default.
const MOST_LINES: usize = 1_000;
const USUAL_LINES: usize = 100;

/// Keeps the last lines of the log, as a layer of [`tracing_subscriber`]. Clones share it.
///
/// ```
/// use rbee_transport_http::{server::LogRing, wire::queen::LogQuery};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let logs = LogRing::new(1_000, 1 << 20);
/// let subscriber = tracing_subscriber::registry().with(logs.clone());
/// tracing::subscriber::with_default(subscriber, || {
///     let _job = tracing::info_span!("attempt", correlation_id = "abc").entered();
///     tracing::warn!(tries = 3, "the worker is gone");
/// });
/// let line = &logs.tail(&LogQuery::default())?[0];
/// assert_eq!((&*line.level, &*line.message), ("warn", "the worker is gone"));
/// assert_eq!((&*line.fields["correlation_id"], &*line.fields["tries"]), ("abc", "3"));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone)]
pub struct LogRing {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    lines: VecDeque<(Arc<LogLine>, usize)>,
    bytes: usize,
    most_lines: usize,
    most_bytes: usize,
    followers: broadcast::Sender<Arc<LogLine>>,
}

impl fmt::Debug for LogRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("LogRing")
            .field("lines", &inner.lines.len())
            .field("bytes", &inner.bytes)
            .finish()
    }
}

/// An item for a follower of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A line.
    Line(Arc<LogLine>),
    /// The reader was too slow: this many lines are missing, whether they match the query or not.
    Missed(u64),
}

/// The lines that a query selects.
#[derive(Clone, Debug)]
struct Wanted {
    level: Level,
    correlation_id: Option<String>,
}

impl LogRing {
    /// A ring that keeps at most this many lines and bytes.
    pub fn new(most_lines: usize, most_bytes: usize) -> Self {
        let inner = Inner {
            lines: VecDeque::new(),
            bytes: 0,
            most_lines,
            most_bytes,
            followers: broadcast::Sender::new(MOST_BEHIND),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last selected lines, the oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a number of lines or a level that is not allowed.
    pub fn tail(&self, query: &LogQuery) -> Result<Vec<LogLine>> {
        let (wanted, count) = read(query)?;
        let last = self.lock().last(&wanted, count);
        Ok(last.into_iter().map(Arc::unwrap_or_clone).collect())
    }

    /// The last selected lines, then new ones, without a gap between them. Ends when the ring is dropped. A reader
    /// that falls behind gets the number of lines it missed.
    ///
    /// # Errors
    /// As [`tail`](Self::tail).
    pub fn follow(
        &self,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Followed> + Send + 'static + use<>> {
        let (wanted, count) = read(query)?;
        let (last, receiver) = {
            let inner = self.lock();
            (inner.last(&wanted, count), inner.followers.subscribe())
        };
        let come = stream::unfold((receiver, wanted), |(mut receiver, wanted)| async move {
            loop {
                match receiver.recv().await {
                    Ok(line) if wanted.has(&line) => {
                        return Some((Followed::Line(line), (receiver, wanted)));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(lines)) => {
                        return Some((Followed::Missed(lines), (receiver, wanted)));
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let last = stream::iter(last.into_iter().map(Followed::Line));
        Ok(futures_util::StreamExt::chain(last, come))
    }

    fn push(&self, line: LogLine) {
        let line = Arc::new(line);
        let bytes = size(&line);
        let mut inner = self.lock();
        inner.lines.push_back((line.clone(), bytes));
        inner.bytes += bytes;
        while inner.lines.len() > inner.most_lines || inner.bytes > inner.most_bytes {
            let Some((_, bytes)) = inner.lines.pop_front() else { break };
            inner.bytes -= bytes;
        }
        // Under the lock, so that a new follower sees each line once. There may be no follower.
        let _ = inner.followers.send(line);
    }
}

impl Inner {
    fn last(&self, wanted: &Wanted, count: usize) -> Vec<Arc<LogLine>> {
        let lines = self.lines.iter().rev().map(|(line, _)| line);
        let mut last: Vec<_> = lines.filter(|line| wanted.has(line)).take(count).cloned().collect();
        last.reverse();
        last
    }
}

fn read(query: &LogQuery) -> Result<(Wanted, usize)> {
    let wrong = |param: &'static str, message: String| {
        Err(Error::new(ErrorKind::InvalidRequest, message).with_param(param))
    };
    let count = query.lines.unwrap_or(USUAL_LINES);
    if !(1..=MOST_LINES).contains(&count) {
        return wrong("lines", format!("lines is {count}; allowed is 1 to {MOST_LINES}"));
    }
    let level = match query.level.as_deref() {
        None | Some("trace") => Level::TRACE,
        Some("error") => Level::ERROR,
        Some("warn") => Level::WARN,
        Some("info") => Level::INFO,
        Some("debug") => Level::DEBUG,
        Some(other) => {
            let message = format!("level is {other:?}; allowed is error, warn, info or debug");
            return wrong("level", message);
        }
    };
    Ok((Wanted { level, correlation_id: query.correlation_id.clone() }, count))
}

impl Wanted {
    fn has(&self, line: &LogLine) -> bool {
        // Errors are the lowest level, and lines of an unknown level are left out.
        line.level.parse::<Level>().is_ok_and(|level| level <= self.level)
            && self
                .correlation_id
                .as_ref()
                .is_none_or(|id| line.fields.get("correlation_id") == Some(id))
    }
}

/// The approximate memory that a line takes.
fn size(line: &LogLine) -> usize {
    const OVERHEAD: usize = 64;
    let fields: usize = line.fields.iter().map(|(k, v)| k.len() + v.len() + OVERHEAD).sum();
    size_of::<LogLine>() + line.level.len() + line.target.len() + line.message.len() + fields
}

/// The fields of a span or an event.
#[derive(Clone, Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, mut value: String) {
        if value.len() > MOST_VALUE_BYTES {
            let end = (0..=MOST_VALUE_BYTES).rev().find(|at| value.is_char_boundary(*at));
            value.truncate(end.unwrap_or(0));
            value.push('…');
        }
        match field.name() {
            "message" => self.message = value,
            name => match self.others.iter().position(|(known, _)| *known == name) {
                Some(at) => self.others[at].1 = value,
                None if self.others.len() < MOST_FIELDS => self.others.push((name, value)),
                None => {}
            },
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A value whose formatting fails is shown as far as it got.
        let _ = write!(text, "{value:?}");
        self.put(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
}

impl<S> Layer<S> for LogRing
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = BTreeMap::new();
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let mut add = |fields: &Fields| {
            let others = fields.others.iter();
            all.extend(others.map(|(name, value)| ((*name).to_owned(), value.clone())));
        };
        for span in spans {
            if let Some(fields) = span.extensions().get::<Fields>() {
                add(fields);
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        add(&own);
        self.push(LogLine {
            at_ms: WallTime::now().as_millis(),
            level: event.metadata().level().as_str().to_ascii_lowercase(),
            target: event.metadata().target().to_owned(),
            message: own.message,
            fields: all,
        });
    }
}

#[cfg(test)]
mod tests;
