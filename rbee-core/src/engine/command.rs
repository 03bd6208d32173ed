//! The orders of an operator, and their answers.

use serde::{Deserialize, Serialize};

use crate::{
    id::{HiveId, TenantId, WorkerId},
    load_request::LoadRequest,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::Damage,
    registry::TenantRecord,
    worker_spec::WorkerSpec,
};

/// A command of an operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Start a worker with this id.
    Load {
        /// The id, chosen by the caller.
        worker: WorkerId,
        /// The hive.
        hive: HiveId,
        /// What to start.
        spec: WorkerSpec,
        /// Idle workers of that hive to stop first.
        evict: Vec<WorkerId>,
        /// Never evict it.
        pin: bool,
    },
    /// Start a worker of a model, or find the one that runs or is being started. The policy decides what the request
    /// leaves open, and a model that is not on the hive's disk is fetched first. Answered with
    /// [`CommandOutput::Worker`].
    LoadModel(LoadRequest),
    /// Fetch a model to the disk of a hive. Answered with [`CommandOutput::Model`].
    Provision {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Check the files of a model on a hive. Answered with [`CommandOutput::Damage`].
    Verify {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Remove a model from the disk of a hive. Refused if a worker there has it loaded or loads it.
    RemoveModel {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Drain a hive (true): stop every worker as soon as its runs have ended, and start none there. Or end the drain
    /// (false).
    DrainHive(HiveId, bool),
    /// Stop a worker as soon as its runs have ended.
    Unload(WorkerId),
    /// Pin a worker, so that it is never evicted, or unpin it.
    Pin(WorkerId, bool),
    /// Set up a tenant, or change its limits or keys.
    PutTenant(Box<TenantRecord>),
    /// Remove a tenant that has no jobs.
    RemoveTenant(TenantId),
    /// Admit no more jobs. [`Effect::Drained`](super::Effect::Drained) comes when the last one has ended.
    Drain,
}

/// The answer to an operator's command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandOutput {
    /// It is done and has no result.
    Done,
    /// The worker that runs or is being started.
    Worker(WorkerId),
    /// The model on the disk.
    Model(Box<ModelOnDisk>),
    /// The files that are damaged.
    Damage(Vec<Damage>),
}
