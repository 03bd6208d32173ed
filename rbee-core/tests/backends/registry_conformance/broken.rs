//! Registries that break one rule each.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rbee_core::{
    Error, ErrorKind, HiveId, JobId, MemoryRegistry, Outcome, Registry, Result, WorkerId,
    async_trait,
    id::{Epoch, QueenId},
    job::{JobStatus, LiveJob},
    registry::{
        Change, JobFilter, JobRecord, ModelRecord, PolicyFilter, PolicyRecord, Snapshot,
        WorkerRecord,
    },
    time::WallTime,
};

macro_rules! flaws {
    ($($flaw:ident => $complaint:literal,)*) => {
        /// The fault of a [`Broken`] registry.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Flaw { $($flaw,)* }

        impl Flaw {
            /// Each fault, with words of the sentence that the suite must fail with.
            pub(crate) const ALL: &[(Flaw, &str)] = &[$((Flaw::$flaw, $complaint),)*];
        }
    };
}

flaws! {
    LosesAtomicity => "nothing may be written",
    SwallowsFencing => "must be FENCED",
    WritesOverFences => "must be FENCED",
    RepeatsEpochs => "an epoch must be above",
    WritesChunksAnywhere => "the wrong chunks are stored",
    LetsASecondEndOverwrite => "must stay as it is",
    KeepsRequests => "the request must be kept or erased",
    ErasesRequestsEarly => "must be handed over whole",
    ErasesOutlines => "the outline must be kept",
    KeepsOutputs => "the token chunks must be kept or erased",
    KeepsNoVectors => "the vectors must be kept or erased",
    SaysNothingOfAnswers => "must state if the answer was kept",
    ForgetsDetailsOfErrors => "with all its fields",
    ForgetsThatItTookOver => "must stay marked as taken over",
    DoesNotTakeOver => "must be handed over",
    DoesNotTakeOverAtRenewal => "must be handed over",
    HandsOverTwice => "nothing may be handed over",
    TakesFromTheLiving => "while its owner is alive",
    NeverReleases => "must be FENCED",
    ShufflesTheQueue => "in the order of the queue",
    CountsUsageTwice => "must be counted once",
    CountsCompleteJobsAlone => "must be counted once",
    CountsNoUsage => "must be counted once",
    RefusesTheUnknown => "could not",
    RefusesEmptyRecords => "a record without changes must succeed",
    ReplacesNumerics => "must stay",
    CountsNoRestarts => "must have one more restart",
    ForgetsTheFirstStart => "the time of the first start",
    ReversesChanges => "must be handed over",
    KeepsModelsOfGoneHives => "without the one that is gone",
    KeepsMarksOfGoneWorkers => "without those that are gone",
    ListsOldestFirst => "newest first",
    IgnoresTheTenantFilter => "the wrong jobs were listed",
    IgnoresTheLimit => "a page of 3",
    AlwaysListsText => "must leave out",
    LetsTheSupersededPutTenants => "must be FENCED",
    ForgetsPolicies => "a version must stay as it was first put",
}

/// A [`MemoryRegistry`] with one fault.
#[derive(Debug)]
pub(crate) struct Broken {
    inner: MemoryRegistry,
    flaw: Flaw,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    lives: Vec<(QueenId, Epoch)>,
    last_ends: HashMap<JobId, (Outcome, WallTime)>,
    last_taken: Snapshot,
    numerics: HashMap<JobId, std::sync::Arc<str>>,
    last_starts: HashMap<JobId, WallTime>,
    models: HashMap<HiveId, ModelRecord>,
    workers: HashMap<WorkerId, WorkerRecord>,
}

impl Broken {
    pub(crate) fn new(inner: MemoryRegistry, flaw: Flaw) -> Self {
        Self { inner, flaw, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// The changes as the fault makes them, before they are passed on.
    async fn twist(&self, changes: &[Change]) -> Vec<Change> {
        let mut twisted = Vec::new();
        for change in changes {
            let mut change = change.clone();
            match (self.flaw, &mut change) {
                (Flaw::KeepsRequests, Change::JobEnded { keep_request, .. }) => {
                    *keep_request = true;
                }
                (Flaw::KeepsOutputs, Change::JobEnded { keep_output, .. }) => *keep_output = true,
                (Flaw::ErasesRequestsEarly, Change::JobQueued(record)) => record.request = None,
                (Flaw::WritesChunksAnywhere, Change::JobTokens { job, at, .. }) => {
                    let stored = self.inner.jobs(&JobFilter::one(*job)).await.unwrap();
                    *at = stored.first().map_or(*at, |job| job.chunks.len() as u32);
                }
                (
                    Flaw::CountsCompleteJobsAlone,
                    Change::JobEnded {
                        outcome: Outcome::Failed(_) | Outcome::Cancelled,
                        used_tokens,
                        ..
                    },
                ) => *used_tokens = 0,
                _ => {}
            }
            twisted.push(change);
        }
        if self.is(Flaw::ReversesChanges) {
            twisted.reverse();
        }
        twisted
    }

    fn remember(&self, change: &Change) {
        let mut memory = self.memory();
        match change {
            Change::JobEnded { job, outcome, at, .. } => {
                memory.last_ends.insert(*job, (outcome.clone(), *at));
            }
            Change::JobRunning { job, numerics, at, .. } => {
                memory.numerics.insert(*job, numerics.clone());
                memory.last_starts.insert(*job, *at);
            }
            Change::ModelPut(record) => {
                memory.models.insert(record.hive.clone(), record.clone());
            }
            Change::WorkerPut(record) => {
                memory.workers.insert(record.worker, record.clone());
            }
            _ => {}
        }
    }

    async fn is_unknown(&self, change: &Change) -> bool {
        match change {
            Change::JobRunning { job, .. } | Change::JobEnded { job, .. } => {
                let stored = self.inner.jobs(&JobFilter::one(*job)).await.unwrap();
                stored.is_empty()
            }
            _ => false,
        }
    }

    /// The snapshot as the fault makes it.
    fn twist_snapshot(&self, mut found: Snapshot, renewal: bool) -> Snapshot {
        let forgets =
            self.is(Flaw::DoesNotTakeOver) || (renewal && self.is(Flaw::DoesNotTakeOverAtRenewal));
        if forgets {
            found.jobs.clear();
            found.hives.clear();
        }
        if self.is(Flaw::HandsOverTwice) {
            let mut memory = self.memory();
            if renewal && found.jobs.is_empty() {
                found.jobs = memory.last_taken.jobs.clone();
            }
            memory.last_taken = found.clone();
        }
        if self.is(Flaw::ShufflesTheQueue) {
            found.jobs.reverse();
        }
        if self.is(Flaw::KeepsModelsOfGoneHives) {
            found.models = self.memory().models.values().cloned().collect();
            found.models.retain(|model| found.hives.iter().any(|hive| hive.id == model.hive));
        }
        if self.is(Flaw::KeepsMarksOfGoneWorkers) {
            found.workers = self.memory().workers.values().cloned().collect();
            found.workers.retain(|worker| found.hives.iter().any(|hive| hive.id == worker.hive));
        }
        for tenant in &mut found.tenants {
            match self.flaw {
                Flaw::CountsUsageTwice => tenant.used_tokens *= 2,
                Flaw::CountsNoUsage => tenant.used_tokens = 0,
                _ => {}
            }
        }
        for job in &mut found.jobs {
            self.twist_job(job);
        }
        found
    }

    fn twist_job(&self, job: &mut JobRecord) {
        let memory = self.memory();
        match self.flaw {
            Flaw::LetsASecondEndOverwrite => {
                if let JobStatus::Ended(ended) = &mut job.status
                    && let Some((outcome, at)) = memory.last_ends.get(&job.id)
                {
                    ended.outcome = outcome.clone();
                    ended.completed_at = *at;
                }
            }
            Flaw::KeepsNoVectors => job.vectors = None,
            Flaw::SaysNothingOfAnswers => job.output_kept = false,
            Flaw::ForgetsThatItTookOver if matches!(job.status, JobStatus::Ended(_)) => {
                job.taken_over = false;
            }
            Flaw::ForgetsDetailsOfErrors => {
                if let JobStatus::Ended(ended) = &mut job.status
                    && let Outcome::Failed(error) = &mut ended.outcome
                {
                    *error = Error::new(error.kind(), error.message().to_owned());
                }
            }
            Flaw::ErasesOutlines if matches!(job.status, JobStatus::Ended(_)) => job.outline = None,
            Flaw::CountsNoRestarts if job.restarts < 3 => job.restarts = 0,
            Flaw::ReplacesNumerics => {
                let last = memory.numerics.get(&job.id).cloned();
                job.numerics = last.or(job.numerics.take());
            }
            Flaw::ForgetsTheFirstStart => {
                if let (JobStatus::Live(live), Some(at)) =
                    (&job.status, memory.last_starts.get(&job.id))
                {
                    job.status = LiveJob::from_parts(live.worker(), Some(*at)).into();
                }
            }
            _ => {}
        }
    }

    /// The epoch that the store holds as current, if this registry gives the same number to all.
    fn real(&self, epoch: Epoch) -> Epoch {
        match self.flaw {
            Flaw::RepeatsEpochs => self.memory().lives.last().map_or(epoch, |life| life.1),
            _ => epoch,
        }
    }

    /// The epochs that may write, if there are any.
    fn anyone(&self) -> Vec<Epoch> {
        self.memory().lives.iter().map(|life| life.1).collect()
    }
}

#[async_trait]
impl Registry for Broken {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        if self.is(Flaw::TakesFromTheLiving) {
            for epoch in self.anyone() {
                self.inner.release(epoch).await?;
            }
        }
        let mut found = self.inner.open(queen, lease).await?;
        self.memory().lives.push((queen.clone(), found.epoch));
        if self.is(Flaw::RepeatsEpochs) {
            found.epoch = Epoch(1);
        }
        Ok(self.twist_snapshot(found, false))
    }

    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        let epoch = self.real(epoch);
        if self.is(Flaw::RefusesEmptyRecords) && changes.is_empty() {
            self.inner.record(epoch, &[]).await?;
            return Err(rbee_core::Error::new(ErrorKind::InvalidRequest, "nothing to record"));
        }
        if self.is(Flaw::RefusesTheUnknown) {
            for change in changes {
                if self.is_unknown(change).await {
                    return Err(rbee_core::Error::new(ErrorKind::NotFound, "no such row"));
                }
            }
        }
        let changes = self.twist(changes).await;
        if self.is(Flaw::LosesAtomicity) && !changes.is_empty() {
            for change in &changes {
                self.inner.record(epoch, std::slice::from_ref(change)).await?;
            }
            return Ok(());
        }
        let written = self.inner.record(epoch, &changes).await;
        if written.is_ok() {
            changes.iter().for_each(|change| self.remember(change));
        }
        match (self.flaw, written) {
            (Flaw::SwallowsFencing, _) => Ok(()),
            (Flaw::WritesOverFences, Err(_)) => {
                for other in self.anyone() {
                    if self.inner.record(other, &changes).await.is_ok() {
                        break;
                    }
                }
                Ok(())
            }
            (Flaw::LetsTheSupersededPutTenants, Err(_))
                if matches!(*changes, [Change::TenantPut(_)]) =>
            {
                Ok(())
            }
            (_, written) => written,
        }
    }

    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        let found = self.inner.renew(self.real(epoch)).await?;
        Ok(self.twist_snapshot(found, true))
    }

    async fn release(&self, epoch: Epoch) -> Result<()> {
        if self.is(Flaw::NeverReleases) {
            return Ok(());
        }
        self.inner.release(self.real(epoch)).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        let mut asked = filter.clone();
        match self.flaw {
            Flaw::IgnoresTheTenantFilter => asked.tenant = None,
            Flaw::IgnoresTheLimit => asked.limit = 1_000,
            Flaw::AlwaysListsText => asked.with_text = true,
            _ => {}
        }
        let mut listed = self.inner.jobs(&asked).await?;
        if self.is(Flaw::ListsOldestFirst) {
            listed.reverse();
        }
        for job in &mut listed {
            self.twist_job(job);
        }
        Ok(listed)
    }

    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        let mut policies = self.inner.policies(filter).await?;
        if self.is(Flaw::ForgetsPolicies) {
            policies.reverse();
            policies.truncate(1);
        }
        Ok(policies)
    }
}
