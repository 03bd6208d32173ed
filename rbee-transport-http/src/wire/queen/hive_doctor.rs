//! The checks of one hive, its log, and its removal.

use rbee_core::HiveId;
use serde::{Deserialize, Serialize};

use super::operation::Verdict;

/// The checks of one hive and its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HiveDoctor {
    /// The hive.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// How it is reached: `http://host:port`, `ssh user@host`.
    pub address: String,
    /// The worst of all checks.
    pub verdict: Verdict,
    /// The checks, in the order in which they were made.
    pub checks: Vec<HiveCheck>,
}

impl HiveDoctor {
    /// The checks with their worst verdict.
    pub fn new(hive: HiveId, address: impl Into<String>, checks: Vec<HiveCheck>) -> Self {
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
        Self { hive, address: address.into(), verdict, checks }
    }
}

/// One check of a hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HiveCheck {
    /// The thing: `host key`, `directory`, `GPU`, `answers`.
    pub check: String,
    /// The result.
    pub verdict: Verdict,
    /// The finding.
    pub message: String,
    /// How long it took, if that is of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What to do; absent if nothing is to be done, or if the finding says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl HiveCheck {
    /// A check without a time or a fix.
    pub fn new(check: impl Into<String>, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, message: message.into(), duration_ms: None, fix: None }
    }
}

/// Which lines of a hive's log to return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct HiveLogQuery {
    /// The most lines, counted from the end: 1 to 1,000; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
}

/// What the removal of a hive that is reached by SSH leaves on its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct RemoveHive {
    /// Remove nothing from the machine.
    #[serde(default)]
    pub keep_files: bool,
    /// Remove also the models that were downloaded there.
    #[serde(default)]
    pub models: bool,
}

/// What was removed from the machine of a hive, and what is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovedHive {
    /// What was removed.
    pub removed: Vec<RemovedPath>,
    /// What is still there.
    pub kept: Vec<KeptPath>,
}

/// A path that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovedPath {
    /// The path on the machine.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A path that is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptPath {
    /// The path on the machine.
    pub path: String,
    /// Why it was not removed.
    pub reason: String,
}
