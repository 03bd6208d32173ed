//! The admission of jobs: a repeat of a known job gets that job, the policy is asked if it has an opinion, and a job
//! within the limits joins the queue.

use super::{policy_breaker::PolicyFunction, *};
use crate::{
    error::{ErrorKind, Result},
    id::Ticket,
    job::check_repeat,
    model_ref::ModelSource,
    registry::{Change, JobOutline, JobRecord},
    scheduler::{Admission, Ask},
    settings::KeepRequests,
};

/// The error for an answer to another question.
const NO_ADMISSION: &str = "asked whether to admit a job, the policy answered where it goes";

/// A job that the policy must decide about before it may join the queue.
#[derive(Debug)]
pub(super) struct Candidate {
    job: Arc<Job>,
    policy: PolicyGeneration,
    /// The submissions that wait for the answer: the first brought the job, the others are repeats. Empty if nobody
    /// waits any more; then the job does not join.
    submissions: Vec<u64>,
    batch: Option<u64>,
}

/// Jobs that were submitted together, and are admitted one by one as the policy answers.
#[derive(Debug, Default)]
struct Batch {
    to_come: usize,
    joined: Vec<JobId>,
}

/// Jobs that the policy must decide about before they may join the queue. Each question is answered, or reported as not
/// asked because the policy is busy, so there are as many entries as open questions.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    candidates: BTreeMap<Ticket, Candidate>,
    /// Candidates that a submission waits for.
    tickets: IdMap<JobId, Ticket>,
    batches: BTreeMap<u64, Batch>,
}

/// The other jobs of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Jobs ahead of it that are not in the queue yet.
    pub(super) to_come: usize,
    /// Jobs of the same model and tenant that are in the queue already.
    pub(super) queued: usize,
}

impl Admissions {
    pub(super) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Removes and returns the candidate of this question, if it is about one.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<Candidate> {
        let candidate = self.candidates.remove(&ticket)?;
        self.forget(&candidate, ticket);
        Some(candidate)
    }

    fn forget(&mut self, candidate: &Candidate, ticket: Ticket) {
        if self.tickets.get(&candidate.job.id) == Some(&ticket) {
            self.tickets.remove(&candidate.job.id);
        }
    }

    /// The candidate of this job, if a submission waits for it.
    fn of(&mut self, job: JobId) -> Option<&mut Candidate> {
        self.tickets.get(&job).and_then(|ticket| self.candidates.get_mut(ticket))
    }

    fn knows(&self, job: JobId) -> bool {
        self.tickets.contains_key(&job)
    }

    /// Returns the submissions that wait for the candidate; from now on none does.
    fn abandon(&mut self, job: JobId) -> Vec<u64> {
        let ticket = self.tickets.remove(&job);
        let candidate = ticket.and_then(|ticket| self.candidates.get_mut(&ticket));
        candidate.map(|candidate| std::mem::take(&mut candidate.submissions)).unwrap_or_default()
    }
}

/// The answer if a job with this id exists already.
fn answer_to_repeat(job: &Job, before: &Job) -> Result<Submitted> {
    if job.idempotency.is_none() {
        let message = format!("job {} exists already", job.id);
        return Err(Error::for_client(ErrorKind::InvalidRequest, message));
    }
    check_repeat(job, before.idempotency.as_deref()).map(|()| Submitted::Before)
}

/// The questions of admission to the policy, and how the policy fares.
#[derive(Debug, Default)]
pub(super) struct PolicyState {
    pub(super) admissions: Admissions,
    pub(super) breaker: policy_breaker::PolicyBreaker,
}

impl Engine {
    /// True if a job with this id is live or being admitted.
    pub(super) fn is_known(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job) || self.policy.admissions.knows(job)
    }

    /// Submits one job.
    pub(super) fn submit(&mut self, now: Now, submission: Submission, out: &mut Out) {
        let Some(submission) = self.without_repeat(submission, out) else {
            return;
        };
        match self.policy.breaker.admits() {
            Some(policy) => self.ask_admission(now, submission, policy, None, out),
            None => self.join(now, submission.n, submission.job, Beside::default(), out),
        }
    }

    /// Submits several jobs: all of them are within the limits, or none joins.
    pub(super) fn submit_all(&mut self, now: Now, submissions: Vec<Submission>, out: &mut Out) {
        // A repeat needs no space in the queue.
        let new = submissions.iter().filter(|one| !self.is_known(one.job.id));
        let new: Vec<Arc<Job>> = new.map(|one| one.job.clone()).collect();
        if let Err(error) = self.check_batch(now, &new) {
            for Submission { n, job, .. } in submissions {
                out.push(Effect::Accept { n, job: job.id, answer: Err(error.clone()) });
            }
            return;
        }
        drop(new);
        let batch = self.number();
        for submission in submissions {
            let Some(submission) = self.without_repeat(submission, out) else { continue };
            match self.policy.breaker.admits() {
                Some(policy) => {
                    self.policy.admissions.batches.entry(batch).or_default().to_come += 1;
                    self.ask_admission(now, submission, policy, Some(batch), out);
                }
                // It was checked above.
                None => self.enqueue(now, submission.n, submission.job, out),
            }
        }
    }

    /// Returns the submission if its job is new. The repeat of a submission under its idempotency key gets the answer
    /// that the job exists, or waits for the first one's answer.
    fn without_repeat(&mut self, mut submission: Submission, out: &mut Out) -> Option<Submission> {
        let (n, id) = (submission.n, submission.job.id);
        let live = self.jobs.get(&id).map(|entry| &*entry.job);
        let candidate = self.policy.admissions.of(id);
        let Some(before) = live.or(candidate.as_ref().map(|candidate| &*candidate.job)) else {
            if !submission.has_seed {
                Arc::make_mut(&mut submission.job).seed = self.random.seeds.next();
            }
            return Some(submission);
        };
        match (answer_to_repeat(&submission.job, before), candidate) {
            (Ok(_), Some(candidate)) => candidate.submissions.push(n),
            (answer, _) => out.push(Effect::Accept { n, job: id, answer }),
        }
        None
    }

    fn ask_admission(
        &mut self,
        now: Now,
        Submission { n, job, .. }: Submission,
        policy: PolicyGeneration,
        batch: Option<u64>,
        out: &mut Out,
    ) {
        let (ticket, random) = (Ticket(self.number()), self.random.rng.next());
        let ask = Ask::first(job.clone(), now, random);
        out.push(Effect::Consult { ticket, question: Question::Admit, ask });
        self.policy.admissions.tickets.insert(job.id, ticket);
        let candidate = Candidate { job, policy, submissions: vec![n], batch };
        self.policy.admissions.candidates.insert(ticket, candidate);
    }

    /// The policy has answered whether the job may join the queue. Without an answer it may.
    pub(super) fn admission_advised(
        &mut self,
        now: Now,
        candidate: Candidate,
        advice: Advice,
        out: &mut Out,
    ) {
        let Candidate { mut job, policy, submissions, batch } = candidate;
        let beside = self.beside(&job, batch);
        let failed = match advice {
            Advice::Admission(admission) => {
                self.policy.breaker.did_well(policy, PolicyFunction::Admit);
                match admission {
                    Admission::Accept { rank } if rank != 0 => Arc::make_mut(&mut job).rank = rank,
                    Admission::Accept { .. } => {}
                    Admission::Refuse(error) => {
                        if !submissions.is_empty() {
                            let note = Note::RefusedByPolicy(job.id, error.clone());
                            out.push(Effect::Note(note));
                        }
                        let error = self.with_retry_after(now, error);
                        return self.refuse(job.id, submissions, &error, out);
                    }
                }
                None
            }
            Advice::NoTime => {
                self.policy.breaker.had_no_time(policy, out);
                None
            }
            Advice::Failed(error) => Some(error),
            Advice::Placement(_) => Some(Error::new(ErrorKind::Internal, NO_ADMISSION)),
        };
        if let Some(error) = failed {
            let told = error.clone().context("asked whether to admit a job");
            out.push(Effect::Note(Note::PolicyFault(told)));
            self.policy.breaker.failed(now, policy, PolicyFunction::Admit, &error, out);
        }
        let id = job.id;
        if let Some(entry) = self.jobs.get(&id) {
            // Another queen had the job under this key too, and this queen took it over in the meantime.
            for n in submissions {
                let answer = answer_to_repeat(&job, &entry.job);
                out.push(Effect::Accept { n, job: id, answer });
            }
            return;
        }
        let mut submissions = submissions.into_iter();
        let Some(first) = submissions.next() else { return };
        match self.admit(now, &job, beside) {
            Err(error) => {
                self.refuse(id, std::iter::once(first).chain(submissions), &error, out);
            }
            Ok(()) => {
                self.enqueue(now, first, job, out);
                if let Some(batch) = batch.and_then(|n| self.policy.admissions.batches.get_mut(&n))
                {
                    batch.joined.push(id);
                }
                for n in submissions {
                    out.push(Effect::Accept { n, job: id, answer: Ok(Submitted::Before) });
                }
            }
        }
    }

    /// Counts the jobs of this job's batch that have joined before it and still wait. One job fewer of the batch is to
    /// come.
    fn beside(&mut self, job: &Job, batch: Option<u64>) -> Beside {
        let Some(n) = batch else { return Beside::default() };
        let Some(batch) = self.policy.admissions.batches.get_mut(&n) else {
            return Beside::default();
        };
        batch.to_come -= 1;
        let waits = |id: &&JobId| {
            self.jobs.get(*id).is_some_and(|entry| {
                matches!(entry.phase, Phase::Queued)
                    && (&entry.job.model, &entry.job.tenant) == (&job.model, &job.tenant)
            })
        };
        let queued = batch.joined.iter().filter(waits).count();
        if batch.to_come == 0 {
            self.policy.admissions.batches.remove(&n);
        }
        Beside { to_come: 0, queued }
    }

    fn refuse(
        &self,
        job: JobId,
        submissions: impl IntoIterator<Item = u64>,
        why: &Error,
        out: &mut Out,
    ) {
        for n in submissions {
            out.push(Effect::Accept { n, job, answer: Err(why.clone()) });
        }
    }

    /// Nobody waits for the answer to this submission any more. A job that nobody waits for does not join the queue; a
    /// job in the queue is left alone.
    pub(super) fn withdraw(&mut self, n: u64, job: JobId) {
        let Some(candidate) = self.policy.admissions.of(job) else { return };
        candidate.submissions.retain(|other| *other != n);
        if candidate.submissions.is_empty() {
            self.policy.admissions.abandon(job);
        }
    }

    /// The client cancels a job.
    pub(super) fn cancel(&mut self, now: Now, job: JobId, out: &mut Out) {
        for n in self.policy.admissions.abandon(job) {
            let message = "the job was cancelled before it had joined the queue";
            let answer = Err(Error::for_client(ErrorKind::Cancelled, message));
            out.push(Effect::Accept { n, job, answer });
        }
        self.end(now, job, Outcome::Cancelled, out);
    }

    fn join(&mut self, now: Now, n: u64, job: Arc<Job>, beside: Beside, out: &mut Out) {
        match self.admit(now, &job, beside) {
            Ok(()) => self.enqueue(now, n, job, out),
            Err(error) => out.push(Effect::Accept { n, job: job.id, answer: Err(error) }),
        }
    }

    /// Admits the job, puts it in the queue, and records it.
    fn enqueue(&mut self, now: Now, n: u64, job: Arc<Job>, out: &mut Out) {
        let id = job.id;
        out.push(Effect::Admitted { n, job: id });
        self.sequence.order += 1;
        let mut record =
            JobRecord::queued(job.clone(), self.sequence.order, now.wall, self.config.epoch);
        record.outline = Some(JobOutline::of(&job, self.config.secret));
        if self.config.settings.keep_requests == KeepRequests::Never {
            record.request = None;
        }
        let record_n = self.number();
        self.storage.pending.insert(record_n, PendingWrite::Accept { n, job: id });
        let changes = vec![Change::JobQueued(Box::new(record))];
        out.push(Effect::Record { n: Some(record_n), changes });
        self.tenants.charge(now, &job, &self.config.settings, &mut self.view);
        let mut timers = JobTimers::default();
        let queue_wait = now.at + self.config.settings.queue_wait(job.priority);
        self.timers.arm_job(&mut timers, queue_wait, JobTimer::QueueWait, id);
        if let Some(deadline) = job.deadline {
            self.timers.arm_job(&mut timers, now.at + deadline, JobTimer::Deadline, id);
        }
        let outlives = job.outlives_its_client();
        let entry = self.insert(now, job, self.sequence.order);
        let keeps_output = outlives || entry.job.stored;
        (entry.timers, entry.bound, entry.keeps_output) = (timers, !outlives, keeps_output);
    }

    /// Checks that this job may be admitted, together with the others of its batch.
    pub(super) fn admit(&mut self, now: Now, job: &Job, beside: Beside) -> Result<()> {
        if self.is_draining() {
            return Err(Error::new(
                ErrorKind::ShuttingDown,
                "the queen is shutting down and takes no more jobs",
            ));
        }
        self.check_store()?;
        if matches!(job.model.source(), ModelSource::Alias(_)) && !self.view.knows_model(&job.model)
        {
            // The queen adds what may have been meant: see `Models::unknown`.
            let message = format!("the model {} is not known here", job.model);
            return Err(Error::for_client(ErrorKind::ModelNotFound, message).with_param("model"));
        }
        self.tenants.allow(job, &self.config.settings)?;
        let limits = self.tenants.check(now, job, &self.config.settings);
        let oldest = self.oldest(now);
        let queue = admit::admit(
            &self.config.settings,
            self.queue_for(job, beside),
            &self.service.throughput,
            oldest,
        );
        admit::longer(limits, queue)?;
        self.check_deadline(job, beside)
    }

    /// The age of the oldest job that has not ended, if that is the best estimate of how long a job takes. All jobs are
    /// looked at only if the oldest one has ended, because every new one is younger.
    fn oldest(&mut self, now: Now) -> Duration {
        if self.service.throughput.has_learned() {
            return Duration::ZERO;
        }
        let is_there = self.oldest.is_some_and(|id| self.jobs.contains_key(&id));
        if !is_there {
            let first = self.jobs.iter().min_by_key(|(_, entry)| (entry.submitted, entry.key.1));
            self.oldest = first.map(|(id, _)| *id);
        }
        let oldest = self.oldest.and_then(|id| self.jobs.get(&id));
        oldest.map_or(Duration::ZERO, |entry| now.at - entry.submitted)
    }

    /// A refusal for want of room or of a limit that passes, with the time to try again. A policy and a worker may give
    /// none; what they have refused for can change when the next job ends.
    pub(super) fn with_retry_after(&mut self, now: Now, error: Error) -> Error {
        let passes = matches!(
            error.kind(),
            ErrorKind::SystemAtCapacity
                | ErrorKind::QuotaExceeded
                | ErrorKind::RateLimited
                | ErrorKind::WorkerBusy
        );
        if !passes || error.retry_after().is_some() {
            return error;
        }
        let oldest = self.oldest(now);
        let after = self.service.throughput.retry_after(1, oldest);
        error.with_retry_after(after)
    }

    /// The state of the queue for this job. The other jobs of its batch take the free slots, and wait if there are
    /// none.
    fn queue_for(&self, job: &Job, beside: Beside) -> admit::Room {
        let batch = beside.to_come + beside.queued;
        let mut free = 0;
        for worker in self.view.available(&job.model) {
            free += worker.free_slots() as usize;
            if free > batch {
                break;
            }
        }
        let wait_beside = batch.saturating_sub(free);
        let held_now = self.lanes.held_by(&job.tenant);
        let held = held_now.saturating_sub(beside.queued) + wait_beside;
        admit::Room {
            waiting: self.waiting().saturating_sub(beside.queued) + wait_beside,
            has_idle_worker: free > batch,
            held,
            tenants: self.lanes.holders() + usize::from(held == 0 && held_now == 0),
        }
    }

    /// Refuses a job that cannot meet its deadline: the jobs of its own lane ahead of it, spread over all slots, and
    /// the job itself would take longer even if each is as short as the shortest recent one. Waiting jobs of other
    /// tenants are not counted, because the shares may let this one go first. As long as nothing is learned, the job is
    /// accepted.
    fn check_deadline(&self, job: &Job, beside: Beside) -> Result<()> {
        let Some(deadline) = job.deadline else { return Ok(()) };
        let lane = LaneId::of(job);
        let (Some(shortest), slots) =
            (self.service.times.shortest(&lane), self.view.slots(&job.model))
        else {
            return Ok(());
        };
        let ahead = (self.lanes.ahead_of_new(&lane, job.rank) + beside.to_come) as u64;
        let Some(rounds) = ahead.checked_div(slots) else { return Ok(()) };
        let itself = shortest.with_answer_up_to(tenants::longest_answer(job)).took;
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let needed = shortest.took.saturating_mul(rounds).saturating_add(itself);
        if needed <= deadline {
            return Ok(());
        }
        let message = format!(
            "the deadline of {deadline:?} cannot be met: {ahead} jobs are ahead of it on {slots} slots, and the shortest \
             recent job took {:?}",
            shortest.took
        );
        Err(Error::new(ErrorKind::DeadlineExceeded, message)
            .with_client_message(format!("the deadline of {deadline:?} cannot be met")))
    }
}
