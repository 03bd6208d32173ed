//! The policy: what is in force, what a text would do, how a decision came about, and where a model would fit.

use rbee_core::{HiveId, WorkerId, registry::PolicyOrigin, scheduler::PolicyLanguage};
use serde::{Deserialize, Serialize};

use super::ErrorInfo;

mod replay;

pub use replay::{PolicyReplay, PolicyReplayRequest, ReplayOutcome, WaitsView, WorkerLoadView};

/// `GET` ([`PolicyQuery`]): the policy in force ([`PolicyView`]); `PUT` ([`PolicyText`]) puts another in force, `DELETE` the
/// one that the application brings, or the built-in one.
pub const POLICY: &str = "/v1/policy";
/// `POST` ([`PolicyCheck`]): what a policy would decide ([`PolicyDryRun`]); nothing is changed.
pub const POLICY_CHECK: &str = "/v1/policy/check";
/// `POST` ([`PolicyReplayRequest`]): what a policy would have made of the jobs of the past ([`PolicyReplay`]).
pub const POLICY_REPLAY: &str = "/v1/policy/replay";
/// `GET`: the JSON schema of rules in YAML, for editors.
pub const POLICY_SCHEMA: &str = "/v1/policy/schema";
/// `GET`: the versions that are kept ([`Listing`](super::queen::Listing) of [`PolicyVersion`]), the newest last.
pub const POLICY_VERSIONS: &str = "/v1/policy/versions";
/// `GET` ([`PolicyQuery`]): one version with its text ([`PolicyVersion`]).
pub const POLICY_VERSION: &str = "/v1/policy/versions/{id}";
/// `POST` ([`PolicyRollback`]): put an earlier version back in force ([`PolicyView`]).
pub const POLICY_ROLLBACK: &str = "/v1/policy/rollback";
/// `GET`: how a job came to where it is ([`Listing`](super::queen::Listing) of [`DecisionView`]).
pub const JOB_WHY: &str = "/v1/jobs/{id}/why";
/// `POST` ([`EstimateRequest`]): where a model would fit ([`Estimate`]); nothing is started.
pub const ESTIMATE: &str = "/v1/estimate";

/// How the text is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default, deny_unknown_fields)]
pub struct PolicyQuery {
    /// The language: rules in YAML can be had as the Rhai script that they mean.
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
    /// What people know it by.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Its number, where it is a recorded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What it is written in; none where it is compiled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub language: Option<PolicyLanguage>,
    /// Its text; none where it is compiled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// It cannot be changed.
    pub fixed: bool,
    /// Decisions that it failed to make since it came into force; the built-in policy made them.
    pub faults: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<PolicyFault>,
    /// Decisions that the built-in policy made because too many questions waited for this one already: no faults of it.
    #[serde(default)]
    pub passed_over: u64,
    /// It failed too often in a row: the built-in policy decides everything until the policy is changed.
    pub suspended: bool,
}

/// A decision that a policy failed to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyFault {
    /// When, in milliseconds of the Unix epoch.
    pub at_ms: u64,
    /// What went wrong, with the line of the script.
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
    /// What people know it by.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Its decisions: about recent jobs and a job for each model.
    pub decisions: Vec<DecisionView>,
}

/// A decision, with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionView {
    /// When the question was put, in milliseconds of the Unix epoch; none in a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The job, where it is one that was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The model it is for.
    pub model: String,
    /// Attempts that it had made before.
    pub attempts: u32,
    /// The policy that decided.
    pub policy: String,
    /// Its number, where it is a recorded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The built-in policy decided, because the chosen one could not.
    pub fallback: bool,
    /// What was decided.
    pub decision: Choice,
    /// It was not carried out: it did not fit the fleet, or the job, as they were when it came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What the policy looked at, step by step.
    pub steps: Vec<String>,
    /// Every candidate it looked at, with what became of it.
    pub candidates: Vec<CandidateView>,
}

/// What a policy can decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Choice {
    /// Run on this worker.
    Assign {
        /// The worker; tenants are not told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        worker: Option<WorkerId>,
    },
    /// Start a worker.
    Spawn {
        /// Where.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        hive: HiveId,
        /// On which devices.
        devices: Vec<u32>,
        /// Idle workers that are stopped to make room.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        evict: Vec<WorkerId>,
    },
    /// Start a worker; where, tenants are not told.
    Start,
    /// Wait until something changes.
    Wait,
    /// The job ends with this error.
    Reject {
        /// The error.
        error: ErrorInfo,
    },
    /// The job may join the queue.
    Admit {
        /// Its rank among those of its model, tenant and priority: the lower the sooner.
        rank: i64,
    },
    /// The job may not join the queue.
    Refuse {
        /// The error.
        error: ErrorInfo,
    },
    /// The policy failed; the built-in one decided in its place.
    Fault {
        /// What went wrong.
        error: ErrorInfo,
    },
    /// The answer is not there yet.
    Pending,
}

/// Something that a job could have gone to.
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
    /// Since when it was in force, in milliseconds of the Unix epoch.
    pub at_ms: u64,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    pub hash: String,
    /// Where it came from: `application`, `operator`, `rollback` or `reset`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub origin: PolicyOrigin,
    /// What it is written in.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// It is the one in force.
    pub in_force: bool,
    /// Its text; left out of lists, and none for a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Which version to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// Its number.
    pub version: u64,
}

/// A model, and where it is to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EstimateRequest {
    /// The model, a reference or an alias.
    pub model: String,
    /// This machine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// These devices alone, by index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Runs at once. 4 where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How long the sequences are, in tokens. 4,096 where not given, or the model's own context where that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
}

/// Where a model would fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Estimate {
    /// The model, with aliases resolved.
    pub model: String,
    /// It fits somewhere, now or when idle workers are stopped.
    pub fits: bool,
    /// Every device of every machine.
    pub devices: Vec<DeviceEstimate>,
}

/// Whether a model fits on a device. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEstimate {
    /// The machine.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// The device.
    pub device: u32,
    /// What it is.
    pub name: String,
    /// The model's files are on the machine's disk.
    pub on_disk: bool,
    /// What a worker is expected to take; 0 where nothing is known of the model.
    pub expected: u64,
    /// What must be free for it, with head room.
    pub required: u64,
    /// What is free and not promised.
    pub free: u64,
    /// What the device has in all.
    pub total: u64,
    /// What idle workers would give back.
    pub evictable: u64,
    /// What is missing, even where they do.
    pub shortfall: u64,
    /// `fits`, `fits_after_eviction`, `later`, `too_small`, `unknown` or `unavailable`.
    pub verdict: String,
    /// Idle workers that would be stopped.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub evict: Vec<WorkerId>,
    /// Why it is not available, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
