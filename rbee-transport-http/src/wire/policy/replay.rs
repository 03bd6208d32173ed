//! The replay of past jobs under two policies.

use std::collections::BTreeMap;

use rbee_core::{HiveId, WorkerId, scheduler::PolicyLanguage};
use serde::{Deserialize, Serialize};

/// A policy, and the time span to replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyReplayRequest {
    /// `rhai` or `yaml`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// The text; 256 KiB at most.
    pub source: String,
    /// How far to look back, in milliseconds; one day by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// The results of two policies for the same jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyReplay {
    /// How far the replay looks back, in milliseconds.
    pub since_ms: u64,
    /// When the first of the jobs arrived, in milliseconds of the Unix epoch.
    #[serde(default)]
    pub from_ms: u64,
    /// True if there are older jobs in that time span; no more are replayed at once (setting `replay_jobs`).
    #[serde(default)]
    pub cut: bool,
    /// Of the jobs, those that never started or failed before they ran; they are replayed with the median of their
    /// model.
    #[serde(default)]
    pub estimated: usize,
    /// Of the jobs, those that an older version recorded, without prefixes, deadline and longest answer.
    #[serde(default)]
    pub without_outline: usize,
    /// Recorded jobs that were ignored.
    pub passed_over: usize,
    /// The same, by reason: the code of the error, `CANCELLED` before they ran, or `NOT_ENDED`.
    #[serde(default)]
    pub left_out: BTreeMap<String, usize>,
    /// The result of the policy in force.
    pub current: ReplayOutcome,
    /// The result of the other policy.
    pub candidate: ReplayOutcome,
}

/// The result of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayOutcome {
    /// Jobs.
    pub jobs: usize,
    /// Jobs that ended properly.
    pub completed: usize,
    /// Jobs that never started, by the code of the error.
    pub rejected: BTreeMap<String, usize>,
    /// Jobs that started and ended with an error, by its code.
    pub failed: BTreeMap<String, usize>,
    /// How long they waited for their first start.
    pub waits: WaitsView,
    /// The same for interactive jobs, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_interactive: Option<WaitsView>,
    /// The same for batch jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_batch: Option<WaitsView>,
    /// The same by tenant.
    #[serde(default)]
    pub waits_by_tenant: BTreeMap<String, WaitsView>,
    /// Workers started.
    pub spawns: usize,
    /// Workers stopped, to make room or for another reason.
    #[serde(default)]
    pub stops: usize,
    /// Workers stopped to make room.
    pub evictions: usize,
    /// Replicas started because queues stayed long.
    #[serde(default)]
    pub scale_ups: usize,
    /// Replicas stopped again.
    #[serde(default)]
    pub scale_backs: usize,
    /// Workers stopped because they were idle for too long.
    #[serde(default)]
    pub expired: usize,
    /// Models downloaded.
    #[serde(default)]
    pub downloads: usize,
    /// Decisions that the policy failed to make.
    pub policy_faults: usize,
    /// True if it failed too often in a row: from then on the built-in policy decided everything.
    #[serde(default)]
    pub policy_suspended: bool,
    /// Jobs whose prompt has prefixes.
    #[serde(default)]
    pub prefixed: usize,
    /// Of those, the ones that ran on a worker with the beginning of the prompt cached.
    #[serde(default)]
    pub prefix_hits: usize,
    /// Prefixes of all prompts.
    #[serde(default)]
    pub prefix_keys: u64,
    /// Of those, the ones that were cached on the job's worker.
    #[serde(default)]
    pub prefix_keys_warm: u64,
    /// Worker time saved by this, in milliseconds.
    #[serde(default)]
    pub prefill_saved_ms: u64,
    /// Virtual time from the first arrival to the last end, in milliseconds.
    pub elapsed_ms: u64,
    /// What every worker did.
    pub workers: Vec<WorkerLoadView>,
}

/// How long jobs waited, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitsView {
    /// Jobs that were started.
    #[serde(default)]
    pub jobs: usize,
    /// The 50th percentile.
    pub p50_ms: u64,
    /// The 90th percentile.
    pub p90_ms: u64,
    /// The 99th percentile.
    pub p99_ms: u64,
    /// The maximum.
    pub max_ms: u64,
}

/// The work of one worker in a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerLoadView {
    /// The worker.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub worker: WorkerId,
    /// Its hive.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// Its model.
    pub model: String,
    /// Concurrent runs.
    #[serde(default)]
    pub slots: u32,
    /// True if it was started in the replay; the others belong to the fleet at its start.
    #[serde(default)]
    pub started: bool,
    /// Jobs it began.
    pub jobs: usize,
    /// Time in which its slots were in use, summed over the slots, in milliseconds.
    pub busy_ms: u64,
}
