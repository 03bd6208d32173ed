//! What the daemon says of itself.

use std::io::{self, IsTerminal};

use rbee_core::{Error, ErrorKind, Result};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, fmt::format::FmtSpan, layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Which lines there are. A bare level is that of rbee's own parts; others only warn, unless they are named.
///
/// # Errors
/// [`ErrorKind::Config`] for what is no level.
pub(crate) fn levels(text: &str) -> Result<Targets> {
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

const OURS: [&str; 5] =
    ["queen_rbee", "rbee_core", "rbee_transport_http", "llm_worker_rbee", "quickstart"];

/// Writes log lines to standard error from now on, and to whatever else is given.
///
/// # Errors
/// [`ErrorKind::Config`] where the level is none, or something in this process logs already.
pub fn start<L>(format: LogFormat, level: &str, also: L) -> Result<()>
where
    L: Layer<Registry> + Send + Sync + 'static,
{
    let targets = levels(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .with_span_events(FmtSpan::NONE)
            .boxed(),
        LogFormat::Text => {
            lines.with_ansi(io::stderr().is_terminal()).with_target(false).compact().boxed()
        }
    };
    let subscriber = tracing_subscriber::registry()
        .with(also.with_filter(targets.clone()))
        .with(lines.with_filter(targets));
    subscriber.try_init().map_err(taken)
}

/// Keeps log lines from now on, and writes none.
///
/// # Errors
/// As [`start`].
pub fn keep<L>(level: &str, kept: L) -> Result<()>
where
    L: Layer<Registry> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::registry().with(kept.with_filter(levels(level)?));
    subscriber.try_init().map_err(taken)
}

fn taken(cause: tracing_subscriber::util::TryInitError) -> Error {
    Error::new(ErrorKind::Config, "something in this process writes the log already")
        .with_source(cause)
}
