//! The rows of a [`MemoryRegistry`](super::MemoryRegistry) and what each change does to them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    error::Result,
    event::Outcome,
    id::{Epoch, HiveId, JobId, QueenId, TenantId, WorkerId},
    job::{JobState, JobStatus},
    model_ref::ModelRef,
    registry::{
        Change, HiveRecord, JobFilter, JobRecord, ModelRecord, POLICIES_KEPT, PolicyFilter,
        PolicyRecord, Snapshot, TenantRecord, WorkerRecord, rules,
    },
    time::WallTime,
};

/// A run of a queen whose rows nobody has taken over.
struct OwnerLease {
    queen: QueenId,
    lease: Duration,
    until: WallTime,
    released: bool,
}

impl OwnerLease {
    fn is_alive(&self, now: WallTime) -> bool {
        !self.released && now < self.until
    }
}

pub(super) struct Store {
    last_epoch: u64,
    lives: BTreeMap<Epoch, OwnerLease>,
    jobs: HashMap<JobId, JobRecord>,
    by_order: BTreeSet<(u64, JobId)>,
    /// In the order of their ends.
    ended: VecDeque<JobId>,
    ended_kept: usize,
    /// The size of their answers, in bytes, and the most of it that is kept.
    answers: usize,
    answers_kept: usize,
    hives: BTreeMap<HiveId, (Epoch, HiveRecord)>,
    models: BTreeMap<(HiveId, ModelRef), ModelRecord>,
    workers: BTreeMap<(HiveId, WorkerId), WorkerRecord>,
    tenants: BTreeMap<TenantId, TenantRecord>,
    /// Tokens by day and tenant.
    usage: BTreeMap<(u64, TenantId), u64>,
    policies: BTreeMap<u64, PolicyRecord>,
}

impl Store {
    pub(super) fn new(ended_kept: usize, answers_kept: usize) -> Self {
        Self {
            last_epoch: 0,
            lives: BTreeMap::new(),
            jobs: HashMap::new(),
            by_order: BTreeSet::new(),
            ended: VecDeque::new(),
            ended_kept,
            answers: 0,
            answers_kept,
            hives: BTreeMap::new(),
            models: BTreeMap::new(),
            workers: BTreeMap::new(),
            tenants: BTreeMap::new(),
            usage: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }

    pub(super) fn open(&mut self, queen: &QueenId, lease: Duration, now: WallTime) -> Snapshot {
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        self.lives.retain(|_, life| life.queen != *queen);
        let life = OwnerLease { queen: queen.clone(), lease, until: now + lease, released: false };
        self.lives.insert(epoch, life);
        self.take_over(epoch, now)
    }

    pub(super) fn renew(&mut self, epoch: Epoch, now: WallTime) -> Result<Snapshot> {
        self.check_life(epoch)?;
        if let Some(life) = self.lives.get_mut(&epoch) {
            life.until = now + life.lease;
        }
        Ok(self.take_over(epoch, now))
    }

    pub(super) fn release(&mut self, epoch: Epoch) {
        let Some(life) = self.lives.get_mut(&epoch).filter(|life| !life.released) else {
            return;
        };
        life.released = true;
        for job in self.jobs.values_mut().filter(|job| job.owner == epoch) {
            if let JobStatus::Live(live) = &job.status
                && live.worker().is_some()
            {
                job.attempts = job.attempts.saturating_sub(1);
                job.status = live.clone().requeued().into();
            }
        }
    }

    fn check_life(&self, epoch: Epoch) -> Result<()> {
        match self.lives.get(&epoch) {
            Some(life) if !life.released => Ok(()),
            _ => Err(rules::life_is_over(epoch)),
        }
    }

    /// Ends every other run that is not alive, and gives rows without a living owner to this run.
    fn take_over(&mut self, epoch: Epoch, now: WallTime) -> Snapshot {
        self.lives.retain(|other, life| *other == epoch || life.is_alive(now));
        let lives = &self.lives;
        let mut jobs: Vec<JobRecord> = self
            .jobs
            .values_mut()
            .filter(|job| job.status.state().is_live() && !lives.contains_key(&job.owner))
            .map(|job| {
                job.owner = epoch;
                job.restarts += u32::from(job.status.state() == JobState::Running);
                job.taken_over = true;
                job.clone()
            })
            .collect();
        jobs.sort_by_key(|job| (job.order, job.id));
        let hives: Vec<HiveRecord> = self
            .hives
            .values_mut()
            .filter(|(owner, _)| !lives.contains_key(owner))
            .map(|(owner, hive)| {
                *owner = epoch;
                hive.clone()
            })
            .collect();
        let taken = |hive: &HiveId| hives.iter().any(|record| record.id == *hive);
        let models = self.models.values();
        let models = models.filter(|model| taken(&model.hive)).cloned().collect();
        let workers = self.workers.values();
        let workers = workers.filter(|worker| taken(&worker.hive)).cloned().collect();
        let first_day = rules::first_day_kept(now);
        self.usage.retain(|(day, _), _| *day >= first_day);
        Snapshot { epoch, jobs, models, workers, hives, tenants: self.tenants(now) }
    }

    fn tenants(&self, now: WallTime) -> Vec<TenantRecord> {
        let used = |id: &TenantId| {
            let key = (rules::day(now), id.clone());
            self.usage.get(&key).copied().unwrap_or(0)
        };
        self.tenants
            .values()
            .map(|tenant| TenantRecord { used_tokens: used(&tenant.id), ..tenant.clone() })
            .collect()
    }

    pub(super) fn record(&mut self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        self.check_life(epoch)?;
        // Rows that these changes create belong to this run, and rows that they remove belonged to it. So the state
        // before the first change decides about all changes, and nothing must be undone.
        changes.iter().try_for_each(|change| self.check_owner(epoch, change))?;
        for change in changes {
            self.apply(epoch, change);
        }
        Ok(())
    }

    fn check_owner(&self, epoch: Epoch, change: &Change) -> Result<()> {
        let job = |id: &JobId| match self.jobs.get(id) {
            Some(job) if job.owner != epoch => {
                Err(rules::not_the_owner(format_args!("job {id}"), job.owner, epoch))
            }
            _ => Ok(()),
        };
        let hive = |id: &HiveId| match self.hives.get(id) {
            Some((owner, _)) if *owner != epoch => {
                Err(rules::not_the_owner(format_args!("hive {id}"), owner, epoch))
            }
            _ => Ok(()),
        };
        match change {
            Change::JobQueued(record) => job(&record.id),
            Change::JobRunning { job: id, .. }
            | Change::JobRequeued { job: id, .. }
            | Change::JobTokens { job: id, .. }
            | Change::JobVectors { job: id, .. }
            | Change::JobEnded { job: id, .. } => job(id),
            Change::HivePut(record) => hive(&record.id),
            Change::HiveGone(id)
            | Change::ModelGone { hive: id, .. }
            | Change::WorkerGone { hive: id, .. } => hive(id),
            Change::ModelPut(record) => hive(&record.hive),
            Change::WorkerPut(record) => hive(&record.hive),
            Change::JobErased { .. }
            | Change::TenantPut(_)
            | Change::TenantGone(_)
            | Change::PolicyPut(_) => Ok(()),
        }
    }

    fn apply(&mut self, epoch: Epoch, change: &Change) {
        match change {
            Change::JobQueued(record) => self.job_queued(epoch, record),
            Change::JobRunning { job, worker, attempt, at, numerics, format } => {
                self.with_live(job, |record, live| {
                    record.attempts = *attempt;
                    if record.chunks.is_empty() {
                        record.numerics = Some(numerics.clone());
                        record.format = *format;
                    }
                    live.started(*worker, *at).into()
                })
            }
            Change::JobRequeued { job, attempts } => self.with_live(job, |record, live| {
                record.attempts = *attempts;
                live.requeued().into()
            }),
            Change::JobTokens { job, at, chunks } => self.with_live(job, |record, live| {
                if record.tokens_generated == *at {
                    record.chunks.extend_from_slice(chunks);
                    record.tokens_generated = count(record.chunks.len());
                    record.restarts = 0;
                }
                live.into()
            }),
            Change::JobVectors { job, vectors } => self.with_live(job, |record, live| {
                record.vectors = Some(vectors.clone());
                live.into()
            }),
            Change::JobEnded { job, outcome, at, used_tokens, keep_request, keep_output } => {
                self.job_ended(*job, outcome, (*at, *used_tokens), *keep_request, *keep_output);
            }
            Change::JobErased { job } => self.job_erased(job),
            Change::HivePut(record) => {
                self.hives.insert(record.id.clone(), (epoch, HiveRecord::clone(record)));
            }
            Change::HiveGone(id) => {
                self.hives.remove(id);
                self.models.retain(|(hive, _), _| hive != id);
                self.workers.retain(|(hive, _), _| hive != id);
            }
            Change::ModelPut(record) => {
                if self.hives.contains_key(&record.hive) {
                    let key = (record.hive.clone(), record.model.clone());
                    self.models.insert(key, record.clone());
                }
            }
            Change::ModelGone { hive, model } => {
                self.models.remove(&(hive.clone(), model.clone()));
            }
            Change::WorkerPut(record) => {
                if self.hives.contains_key(&record.hive) {
                    let key = (record.hive.clone(), record.worker);
                    self.workers.insert(key, record.clone());
                }
            }
            Change::WorkerGone { hive, worker } => {
                self.workers.remove(&(hive.clone(), *worker));
            }
            Change::TenantPut(record) => {
                self.tenants.insert(record.id.clone(), record.clone());
            }
            Change::TenantGone(id) => _ = self.tenants.remove(id),
            Change::PolicyPut(record) => {
                self.policies.entry(record.version).or_insert_with(|| PolicyRecord::clone(record));
                while self.policies.len() as u64 > POLICIES_KEPT {
                    self.policies.pop_first();
                }
            }
        }
    }

    pub(super) fn policies(&self, filter: &PolicyFilter) -> Vec<PolicyRecord> {
        let wanted =
            |record: &&PolicyRecord| filter.version.is_none_or(|version| record.version == version);
        // A limit that does not fit selects all jobs.
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let newest_first = self.policies.values().rev().filter(wanted).take(limit);
        let mut found: Vec<_> = newest_first.cloned().collect();
        found.reverse();
        found
    }

    fn job_queued(&mut self, epoch: Epoch, record: &JobRecord) {
        if self.jobs.contains_key(&record.id) {
            return;
        }
        let mut record = record.clone();
        record.owner = epoch;
        if record.status.state().is_live() {
            record.tokens_generated = count(record.chunks.len());
        } else {
            self.ended.push_back(record.id);
            self.answers += answer_bytes(&record);
        }
        self.by_order.insert((record.order, record.id));
        self.jobs.insert(record.id, record);
        self.drop_oldest();
    }

    /// Changes a job that exists and has not ended; ignores any other.
    fn with_live(
        &mut self,
        id: &JobId,
        change: impl FnOnce(&mut JobRecord, crate::job::LiveJob) -> JobStatus,
    ) {
        if let Some(record) = self.jobs.get_mut(id)
            && let JobStatus::Live(live) = &record.status
        {
            let live = live.clone();
            record.status = change(record, live);
        }
    }

    fn job_ended(
        &mut self,
        id: JobId,
        outcome: &Outcome,
        (at, used_tokens): (WallTime, u64),
        keep_request: bool,
        keep_output: bool,
    ) {
        let mut tenant = None;
        let mut ended = None;
        self.with_live(&id, |record, live| {
            if !keep_request {
                record.request = None;
            }
            if !keep_output {
                (record.chunks, record.vectors) = (Vec::new(), None);
            }
            record.output_kept = keep_output;
            if let Outcome::Complete { usage, .. } = outcome {
                record.tokens_generated = usage.completion_tokens;
            }
            tenant = record.tenant.clone();
            ended = Some(answer_bytes(record));
            live.ended(outcome.clone(), at).into()
        });
        let Some(answer) = ended else { return };
        self.answers += answer;
        if let Some(tenant) = tenant {
            let used = self.usage.entry((rules::day(at), tenant)).or_default();
            *used = used.saturating_add(used_tokens);
        }
        self.ended.push_back(id);
        self.drop_oldest();
    }

    fn job_erased(&mut self, id: &JobId) {
        let Some(record) = self.jobs.get_mut(id).filter(|job| !job.status.state().is_live()) else {
            return;
        };
        self.answers -= answer_bytes(record);
        record.request = None;
        (record.chunks, record.vectors) = (Vec::new(), None);
        record.output_kept = false;
    }

    fn drop_oldest(&mut self) {
        while self.ended.len() > self.ended_kept || self.answers > self.answers_kept {
            let Some(oldest) = self.ended.pop_front() else { return };
            if let Some(job) = self.jobs.remove(&oldest) {
                self.answers -= answer_bytes(&job);
                self.by_order.remove(&(job.order, job.id));
            }
        }
    }

    pub(super) fn jobs(&self, filter: &JobFilter) -> Vec<JobRecord> {
        let fits = |job: &&JobRecord| {
            filter.id.is_none_or(|id| id == job.id)
                && (filter.tenant.is_none() || filter.tenant == job.tenant)
                && (filter.states.is_empty() || filter.states.contains(&job.status.state()))
                && filter.before.is_none_or(|before| job.order < before)
        };
        let shown = |job: &JobRecord| {
            let mut job = job.clone();
            if !filter.with_text {
                job.request = None;
                (job.chunks, job.vectors) = (Vec::new(), None);
            }
            job
        };
        let newest_first = self.by_order.iter().rev();
        newest_first
            .filter_map(|(_, id)| self.jobs.get(id))
            .filter(fits)
            .take(filter.limit.clamp(1, 1_000))
            .map(shown)
            .collect()
    }
}

/// The size of a job's answer, in bytes.
fn answer_bytes(job: &JobRecord) -> usize {
    let chunks = job.chunks.iter().map(|chunk| {
        let logprobs = chunk.logprobs.as_ref().map_or(0, |logprobs| logprobs.memory_bytes());
        size_of_val(chunk) + chunk.text.len() + logprobs
    });
    let vectors = job.vectors.iter().flat_map(|vectors| vectors.iter());
    chunks.chain(vectors.map(|vector| size_of_val(&vector[..]))).sum()
}

/// More token chunks than a u32 can count would not fit into memory.
fn count(chunks: usize) -> u32 {
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::CorrelationId, job::LiveJob, priority::Priority};

    fn queued(id: JobId, order: u64, epoch: Epoch) -> JobRecord {
        JobRecord {
            id,
            tenant: None,
            model: "m".parse().unwrap(),
            priority: Priority::Batch,
            status: LiveJob::queued().into(),
            order,
            submitted_at: WallTime::default(),
            attempts: 0,
            restarts: 0,
            correlation_id: CorrelationId::random(),
            idempotency: None,
            owner: epoch,
            request: None,
            outline: None,
            numerics: None,
            format: crate::answer::AnswerFormat::default(),
            chunks: Vec::new(),
            vectors: None,
            output_kept: false,
            taken_over: false,
            tokens_generated: 0,
        }
    }

    #[test]
    fn the_jobs_that_ended_first_are_dropped_first_and_live_ones_never() {
        let mut store = Store::new(2, usize::MAX);
        let queen = QueenId::random();
        let epoch = store.open(&queen, Duration::from_secs(1), WallTime::default()).epoch;
        let ids: Vec<JobId> = (0..5).map(|_| JobId::random()).collect();
        for (order, id) in (0..).zip(&ids) {
            let record = queued(*id, order, epoch);
            store.record(epoch, &[Change::JobQueued(Box::new(record))]).unwrap();
        }
        for n in [3, 1, 2, 0] {
            let end = Change::JobEnded {
                job: ids[n],
                outcome: Outcome::Cancelled,
                at: WallTime::default(),
                used_tokens: 0,
                keep_request: false,
                keep_output: false,
            };
            store.record(epoch, &[end]).unwrap();
        }
        let left: Vec<JobId> = store.jobs(&JobFilter::default()).iter().map(|job| job.id).collect();
        assert_eq!(left, [ids[4], ids[2], ids[0]]);
        assert_eq!(store.by_order.len(), 3);
    }

    #[test]
    fn the_jobs_that_ended_first_make_room_for_the_answers_of_others() {
        let chunk =
            crate::registry::TokenChunk { id: None, text: "x".repeat(100).into(), logprobs: None };
        let one = size_of_val(&chunk) + 100;
        let mut store = Store::new(100, 3 * one);
        let epoch =
            store.open(&QueenId::random(), Duration::from_secs(1), WallTime::default()).epoch;
        let ids: Vec<JobId> = (0..5).map(|_| JobId::random()).collect();
        for (order, id) in (0..).zip(&ids) {
            let end = Change::JobEnded {
                job: *id,
                outcome: Outcome::Cancelled,
                at: WallTime::default(),
                used_tokens: 0,
                keep_request: false,
                keep_output: true,
            };
            let tokens = Change::JobTokens { job: *id, at: 0, chunks: vec![chunk.clone()] };
            let queued = Change::JobQueued(Box::new(queued(*id, order, epoch)));
            store.record(epoch, &[queued, tokens, end]).unwrap();
        }
        let left: Vec<JobId> = store.jobs(&JobFilter::default()).iter().map(|job| job.id).collect();
        assert_eq!(left, [ids[4], ids[3], ids[2]], "a record goes with its answer");
        assert_eq!(store.answers, 3 * one);
    }
}
