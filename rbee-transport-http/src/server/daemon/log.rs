//! The log of a daemon.

#[cfg(feature = "json-logs")]
mod json_fields;

use std::io::{self, IsTerminal};

use rbee_core::{Error, ErrorKind, Result};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Identity, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::wire::{LogFormat, LogStyle};

impl LogStyle {
    /// This format and level.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the level is invalid.
    pub fn new(format: LogFormat, level: impl Into<String>) -> Result<Self> {
        let style = Self { format, level: level.into() };
        levels(&style.level).map(|_| style)
    }

    /// Writes log lines to standard error from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the level is invalid, or something in this process logs already.
    pub fn start(&self) -> Result<()> {
        self.start_with(Identity::new())
    }

    /// As [`start`](Self::start), and also passes the lines to another layer.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<L>(&self, also: L) -> Result<()>
    where
        L: Layer<Registry> + Send + Sync + 'static,
    {
        let targets = levels(&self.level)?;
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        // One filter for both layers: a filter for each of them would be asked at every step of every span.
        let subscriber = tracing_subscriber::registry().with(also).with(targets);
        let lines = match self.format {
            #[cfg(not(feature = "json-logs"))]
            LogFormat::Json => {
                let message = "log_format is json, and this program was built without it; build it with the feature \
                               `json-logs`";
                return Err(Error::new(ErrorKind::Config, message));
            }
            #[cfg(feature = "json-logs")]
            LogFormat::Json => lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(true)
                .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NONE)
                .fmt_fields(json_fields::JsonFields)
                .boxed(),
            LogFormat::Text => {
                lines.with_ansi(io::stderr().is_terminal()).with_target(false).compact().boxed()
            }
        };
        subscriber.with(lines).try_init().map_err(taken)
    }

    /// Passes log lines to this layer from now on, and writes none.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_only<L>(&self, kept: L) -> Result<()>
    where
        L: Layer<Registry> + Send + Sync + 'static,
    {
        let targets = levels(&self.level)?;
        tracing_subscriber::registry().with(kept).with(targets).try_init().map_err(taken)
    }
}

fn levels(text: &str) -> Result<Targets> {
    let wrong = || {
        let message = format!(
            "log_level is {text:?}; allowed is error, warn, info, debug or trace, and PART=LEVEL after commas, like \
             info,rbee_core=debug"
        );
        Error::new(ErrorKind::Config, message)
    };
    let mut targets = Targets::new().with_default(tracing::Level::WARN);
    for directive in text.split(',').map(str::trim) {
        targets = match directive.split_once('=') {
            Some((part, level)) if !part.is_empty() => {
                targets.with_target(part, level.parse::<tracing::Level>().map_err(|_| wrong())?)
            }
            Some(_) => return Err(wrong()),
            None => {
                let level = directive.parse::<tracing::Level>().map_err(|_| wrong())?;
                OURS.iter().fold(targets, |targets, part| targets.with_target(*part, level))
            }
        };
    }
    Ok(targets)
}

/// rbee's own crates, by their log targets.
const OURS: [&str; 6] = [
    "queen_rbee",
    "rbee_hive",
    "llm_worker_rbee",
    "rbee_core",
    "rbee_transport_http",
    "quickstart",
];

fn taken(cause: tracing_subscriber::util::TryInitError) -> Error {
    Error::new(ErrorKind::Config, "something in this process writes the log already")
        .with_source(cause)
}
