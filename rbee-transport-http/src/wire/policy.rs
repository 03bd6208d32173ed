//! The policy: the one in force, dry runs, explanations of decisions, and memory estimates.

use rbee_core::{HiveId, WorkerId, registry::PolicyOrigin, scheduler::PolicyLanguage};
use serde::{Deserialize, Serialize};

use super::ErrorInfo;

mod replay;

pub use replay::{PolicyReplay, PolicyReplayRequest, ReplayOutcome, WaitsView, WorkerLoadView};

/// `GET` ([`PolicyQuery`]): the policy in force ([`PolicyView`]); `PUT` ([`PolicyText`]) puts another in force,
/// `DELETE` the application's policy, or the built-in one.
pub const POLICY: &str = "/v1/policy";
/// `POST` ([`PolicyCheck`]): what a policy would decide ([`PolicyDryRun`]); nothing is changed.
pub const POLICY_CHECK: &str = "/v1/policy/check";
/// `POST` ([`PolicyReplayRequest`]): what a policy would have decided for past jobs ([`PolicyReplay`]).
pub const POLICY_REPLAY: &str = "/v1/policy/replay";
/// `GET`: the JSON schema of rules in YAML, for editors.
pub const POLICY_SCHEMA: &str = "/v1/policy/schema";
/// `GET`: the versions that are kept ([`Listing`](super::queen::Listing) of [`PolicyVersion`]), the newest last.
pub const POLICY_VERSIONS: &str = "/v1/policy/versions";
/// `GET` ([`PolicyQuery`]): one version with its text ([`PolicyVersion`]).
pub const POLICY_VERSION: &str = "/v1/policy/versions/{id}";
/// `POST` ([`PolicyRollback`]): put a previous version back in force ([`PolicyView`]).
pub const POLICY_ROLLBACK: &str = "/v1/policy/rollback";
/// `GET`: the decisions about a job ([`Listing`](super::queen::Listing) of [`DecisionView`]).
pub const JOB_WHY: &str = "/v1/jobs/{id}/why";
/// `POST` ([`EstimateRequest`]): where a model would fit ([`Estimate`]); nothing is started.
pub const ESTIMATE: &str = "/v1/estimate";

/// The requested form of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default, deny_unknown_fields)]
pub struct PolicyQuery {
    /// The language: rules in YAML are also available as the equivalent Rhai script.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub as_language: Option<PolicyLanguage>,
}

/// A policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// `rhai` or `yaml`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// The text; 256 KiB at most.
    pub source: String,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// A one-sentence description.
    pub description: String,
    /// Its version number, if it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Its language; absent if it is compiled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub language: Option<PolicyLanguage>,
    /// Its text; absent if it is compiled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// True if it cannot be changed.
    pub fixed: bool,
    /// Decisions that it failed to make since it came into force; the built-in policy made them.
    pub faults: u64,
    /// The last of these faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<PolicyFault>,
    /// Decisions that the built-in policy made because too many questions already waited for this one; not counted as
    /// faults.
    #[serde(default)]
    pub passed_over: u64,
    /// True if it failed too often in a row: the built-in policy decides everything until the policy is changed.
    pub suspended: bool,
}

/// A decision that a policy failed to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyFault {
    /// When, in milliseconds of the Unix epoch.
    pub at_ms: u64,
    /// The error, with the line of the script.
    pub message: String,
}

/// A policy to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyCheck {
    /// `rhai` or `yaml`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// The text; 256 KiB at most.
    pub source: String,
    /// A fleet to try it on instead of the present one, described in YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// A job to try it on instead of the recent ones, described in YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// What a policy would decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyDryRun {
    /// Its name.
    pub name: String,
    /// A one-sentence description.
    pub description: String,
    /// Its decisions: about recent jobs and a job for each model.
    pub decisions: Vec<DecisionView>,
}

/// A decision, with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionView {
    /// When the policy was asked, in milliseconds of the Unix epoch; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The job, if it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The model of the job.
    pub model: String,
    /// Attempts of the job before this decision.
    pub attempts: u32,
    /// The policy that decided.
    pub policy: String,
    /// Its version number, if it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// True if the built-in policy decided because the chosen one could not.
    pub fallback: bool,
    /// The decision.
    pub decision: Choice,
    /// True if it was not carried out: it no longer matched the fleet or the job when it came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The steps of the policy.
    pub steps: Vec<String>,
    /// Every candidate of the policy, with its result.
    pub candidates: Vec<CandidateView>,
}

/// A decision of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Choice {
    /// Run on this worker.
    Assign {
        /// The worker; hidden from tenants.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        worker: Option<WorkerId>,
    },
    /// Start a worker.
    Spawn {
        /// The hive.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        hive: HiveId,
        /// The devices.
        devices: Vec<u32>,
        /// Idle workers that are stopped to make room.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        evict: Vec<WorkerId>,
    },
    /// Start a worker; the hive is hidden from tenants.
    Start,
    /// Wait until something changes.
    Wait,
    /// End the job with this error.
    Reject {
        /// The error.
        error: ErrorInfo,
    },
    /// Let the job join the queue.
    Admit {
        /// Its rank among the jobs of its model, tenant and priority; the lowest runs first.
        rank: i64,
    },
    /// Refuse to let the job join the queue.
    Refuse {
        /// The error.
        error: ErrorInfo,
    },
    /// The policy failed; the built-in one decided instead.
    Fault {
        /// The error of the policy.
        error: ErrorInfo,
    },
    /// The policy has not decided yet.
    Pending,
}

/// A worker or hive that was considered for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CandidateView {
    /// `worker` or `hive`.
    pub kind: String,
    /// Its name.
    pub id: String,
    /// `chosen`, `eligible` or `refused`.
    pub verdict: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A version of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyVersion {
    /// Its number.
    pub version: u64,
    /// When it came into force, in milliseconds of the Unix epoch.
    pub at_ms: u64,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    pub hash: String,
    /// Its origin: `application`, `operator`, `rollback` or `reset`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub origin: PolicyOrigin,
    /// Its language.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// True if it is in force.
    pub in_force: bool,
    /// Its text; absent in lists, and for a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The version to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// Its number.
    pub version: u64,
}

/// A model, and where it would have to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EstimateRequest {
    /// The model, a reference or an alias.
    pub model: String,
    /// Only this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// Only these devices, by index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Concurrent runs; 4 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The length of the sequences, in tokens; 4,096 by default, or the model's own context if that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
}

/// Where a model would fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Estimate {
    /// The model, with aliases resolved.
    pub model: String,
    /// True if it fits somewhere, now or once idle workers are stopped.
    pub fits: bool,
    /// Every device of every machine.
    pub devices: Vec<DeviceEstimate>,
}

/// How a model fits on a device. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEstimate {
    /// The machine.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// The device.
    pub device: u32,
    /// The name of the device.
    pub name: String,
    /// True if the model's files are on the machine's disk.
    pub on_disk: bool,
    /// What a worker is expected to take; 0 if the model is unknown.
    pub expected: u64,
    /// What must be free for it, with headroom.
    pub required: u64,
    /// What is free and not reserved.
    pub free: u64,
    /// The total memory of the device.
    pub total: u64,
    /// What stopping idle workers would free.
    pub evictable: u64,
    /// What is missing even if they are stopped.
    pub shortfall: u64,
    /// `fits`, `fits_after_eviction`, `later`, `too_small`, `incompatible` (no engine of the hive can read the model),
    /// `unknown` or `unavailable`.
    pub verdict: String,
    /// Idle workers that would be stopped.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub evict: Vec<WorkerId>,
    /// Why it is not available, or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
