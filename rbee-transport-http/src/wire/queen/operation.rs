//! The logs of the queen, and the results of its health checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Events of the log.
pub mod log_event {
    /// A [`LogLine`](super::LogLine).
    pub const LINE: &str = "line";
}

/// Which log lines to return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The most lines, counted from the end: 1 to 1,000; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// `error`, `warn`, `info` or `debug`: this level and more severe ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Only those of this correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Continue as a stream of server-sent events.
    #[serde(default)]
    pub follow: bool,
}

/// An order to a queen to shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ShutdownOrder {
    /// Leave the hives and their workers to the next queen, instead of stopping them.
    #[serde(default)]
    pub keep_hives: bool,
    /// Do not wait for jobs that have not ended: the next queen continues those that a client can still read.
    #[serde(default)]
    pub now: bool,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was logged.
    pub at_ms: u64,
    /// Its level.
    pub level: String,
    /// The part of the program that logged it.
    pub target: String,
    /// The message.
    pub message: String,
    /// Its fields, and those of the enclosing spans.
    pub fields: BTreeMap<String, String>,
}

/// The result of a check; the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No problem.
    Ok,
    /// It works, but an operator should look at it.
    Warning,
    /// It does not work.
    Failed,
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Check {
    /// The subject: `queen`, `database`, `hive local`, `worker …`.
    pub subject: String,
    /// The property: `version`, `devices`, `disk`, `port`, `answers`.
    pub check: String,
    /// The result.
    pub verdict: Verdict,
    /// The finding, and what to do about it.
    pub message: String,
}

/// The results of the queen's health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Doctor {
    /// The worst of all checks.
    pub verdict: Verdict,
    /// The checks, in order.
    pub checks: Vec<Check>,
}
