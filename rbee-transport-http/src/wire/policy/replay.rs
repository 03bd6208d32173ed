//! What two policies make of the same jobs.

use std::collections::BTreeMap;

use rbee_core::{HiveId, WorkerId, scheduler::PolicyLanguage};
use serde::{Deserialize, Serialize};

/// A policy, and the time to replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyReplayRequest {
    /// `rhai` or `yaml`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub language: PolicyLanguage,
    /// The text; 256 KiB at most.
    pub source: String,
    /// How far to look back, in milliseconds. A day where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// What two policies make of the same jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyReplay {
    /// How far was to be looked back, in milliseconds.
    pub since_ms: u64,
    /// When the first of the jobs came, in milliseconds of the Unix epoch.
    #[serde(default)]
    pub from_ms: u64,
    /// There are older jobs in that time; no more are replayed at once (setting `replay_jobs`).
    #[serde(default)]
    pub cut: bool,
    /// Of the jobs, those that waited in vain or failed before they ran; they are replayed with the median of their model.
    #[serde(default)]
    pub estimated: usize,
    /// Of the jobs, those that an older version recorded, without prefixes, deadline and longest answer.
    #[serde(default)]
    pub without_outline: usize,
    /// Recorded jobs that were passed over.
    pub passed_over: usize,
    /// The same, by what became of them: the code of the error, `CANCELLED` before they ran, or `NOT_ENDED`.
    #[serde(default)]
    pub left_out: BTreeMap<String, usize>,
    /// What the policy in force makes of them.
    pub current: ReplayOutcome,
    /// What the other one does.
    pub candidate: ReplayOutcome,
}

/// What a policy makes of the jobs of the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayOutcome {
    /// Jobs.
    pub jobs: usize,
    /// Those that ended properly.
    pub completed: usize,
    /// Those that never started, by the code of the error.
    pub rejected: BTreeMap<String, usize>,
    /// Those that started and ended with an error, by its code.
    pub failed: BTreeMap<String, usize>,
    /// How long they waited for their first start.
    pub waits: WaitsView,
    /// The same for interactive ones, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_interactive: Option<WaitsView>,
    /// The same for batch ones.
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
    /// Replicas started because queues lasted.
    #[serde(default)]
    pub scale_ups: usize,
    /// Replicas stopped again.
    #[serde(default)]
    pub scale_backs: usize,
    /// Workers stopped because they were idle for longer than they are kept.
    #[serde(default)]
    pub expired: usize,
    /// Models downloaded.
    #[serde(default)]
    pub downloads: usize,
    /// Decisions that the policy failed to make.
    pub policy_faults: usize,
    /// It failed too often in a row: from then on the built-in policy decided everything.
    #[serde(default)]
    pub policy_suspended: bool,
    /// Jobs whose prompt has prefixes.
    #[serde(default)]
    pub prefixed: usize,
    /// Of those, the ones that ran where the beginning of the prompt was computed already.
    #[serde(default)]
    pub prefix_hits: usize,
    /// Prefixes of all prompts.
    #[serde(default)]
    pub prefix_keys: u64,
    /// Of those, the ones that were computed already where the job ran.
    #[serde(default)]
    pub prefix_keys_warm: u64,
    /// Time that this has spared the workers, in milliseconds.
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
    /// Half of them at most so long.
    pub p50_ms: u64,
    /// Nine of ten.
    pub p90_ms: u64,
    /// Ninety-nine of a hundred.
    pub p99_ms: u64,
    /// All.
    pub max_ms: u64,
}

/// What a worker did in a replay.
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
    /// Runs it does at once.
    #[serde(default)]
    pub slots: u32,
    /// It was started in the replay; the others are those of the fleet.
    #[serde(default)]
    pub started: bool,
    /// Jobs it began.
    pub jobs: usize,
    /// Time its slots were in use, all together, in milliseconds.
    pub busy_ms: u64,
}
