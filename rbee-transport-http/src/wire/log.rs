//! How a daemon logs: set by the process that starts it.

use std::str::FromStr;

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => {
                let message = format!("the log format is {text:?}; allowed are text and json");
                Err(Error::new(ErrorKind::Config, message))
            }
        }
    }
}

/// The log level and format.
///
/// The level is `error`, `warn`, `info`, `debug` or `trace`, and applies to rbee's own crates; others log only
/// warnings, unless they are named: `info,rbee_core=debug`.
///
/// ```
/// use rbee_transport_http::server::{LogFormat, LogStyle};
///
/// let style = LogStyle::new(LogFormat::Json, "info,rbee_core=debug")?;
/// assert!(LogStyle::new(LogFormat::Text, "loud").is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStyle {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

impl Default for LogStyle {
    /// `info`, as text for people.
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}
