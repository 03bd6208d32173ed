//! What the queen logs, and what she finds when she examines everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Events of the log.
pub mod log_event {
    /// A [`LogLine`](super::LogLine).
    pub const LINE: &str = "line";
}

/// Which log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// At most so many of the last ones; 1 to 1,000, 100 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// `error`, `warn`, `info` or `debug`: these and worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Only those of this correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Go on as a stream of server-sent events.
    #[serde(default)]
    pub follow: bool,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When.
    pub at_ms: u64,
    /// How bad.
    pub level: String,
    /// Which part of the program.
    pub target: String,
    /// What happened.
    pub message: String,
    /// What belongs to it, those of the enclosing spans included.
    pub fields: BTreeMap<String, String>,
}

/// How a check ended; the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Check {
    /// What: `queen`, `database`, `hive local`, `worker …`.
    pub subject: String,
    /// Which property: `version`, `devices`, `disk`, `port`, `answers`.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub message: String,
}

/// What the queen finds when she examines everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Doctor {
    /// The worst of all.
    pub verdict: Verdict,
    /// One after the other.
    pub checks: Vec<Check>,
}
