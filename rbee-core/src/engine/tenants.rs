//! Tenants: what each may use, what it has used, and whether one more job of it is within its limits.
//!
//! Checks change nothing; what is admitted is charged in one place, and corrected when the job has ended and what it
//! really used is known. A bucket may run into debt thereby, which is why it is no limiter of a library: those take what
//! is to be taken in advance, or not at all.

mod bucket;
mod together;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    ApiKey, ClusterView, Error, ErrorKind, Job, Mode, ModelRef, Now, Outcome, Result, Sampling,
    Settings, Task, TenantId, TenantLimits, TenantRecord, TenantView, WallTime,
};

use bucket::Bucket;

/// Tokens that a job is expected to write that says nothing of it.
const USUAL_ANSWER: u64 = 256;
/// Bytes of a text to a token, as a rule.
const BYTES_PER_TOKEN: u64 = 4;
/// Tenants that nobody has set up and that have no jobs: so many are remembered at most.
const MOST_STRANGERS: usize = 10_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What is changed of a tenant, once it is recorded.
#[derive(Clone, Debug)]
pub(super) enum TenantChange {
    Put(TenantRecord),
    Gone(TenantId),
}

#[derive(Debug)]
struct Account {
    limits: Arc<TenantLimits>,
    keys: Vec<ApiKey>,
    /// It is in the store, because somebody has set it up.
    is_recorded: bool,
    /// Tokens used on the present day.
    used: u64,
    live: u32,
    requests: Bucket,
    tokens: Bucket,
}

#[derive(Debug, Default)]
pub(super) struct Tenants {
    accounts: BTreeMap<TenantId, Account>,
    /// Those that are in no store and have no jobs.
    strangers: BTreeSet<TenantId>,
    /// The UTC day that the usage is of.
    day: u64,
}

/// Tokens that a job is expected to use.
pub(super) fn expected_tokens(job: &Job) -> u64 {
    let prompt = job.task.text_bytes() as u64 / BYTES_PER_TOKEN;
    let answer = match &job.task {
        Task::Generate { sampling: Sampling { max_tokens, .. }, .. } => {
            max_tokens.map_or(USUAL_ANSWER, u64::from)
        }
        Task::Embed { .. } => 0,
    };
    (prompt + answer).max(1)
}

/// Tokens that a job has used: prompt and answer of a complete one, as the store counts them.
fn used_tokens(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Complete { usage, .. } => {
            u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens)
        }
        Outcome::Failed(_) | Outcome::Cancelled => 0,
    }
}

impl Tenants {
    /// May this job be admitted, as far as its tenant is concerned? Nothing is charged.
    pub(super) fn check(&mut self, now: Now, job: &Job, settings: &Settings) -> Result<()> {
        self.turn_the_day(now.wall);
        let Some(id) = &job.tenant else {
            return match settings.mode {
                Mode::Home => Ok(()),
                Mode::Platform => Err(Error::new(
                    ErrorKind::PermissionDenied,
                    "the request names no tenant; in the mode platform every request needs the key of one",
                )),
            };
        };
        match self.accounts.get(id) {
            Some(account) => account.check(now, id, job),
            None => allowed(id, job, &settings.default_limits),
        }
    }

    /// The job is admitted. Gives the tokens it was charged for.
    pub(super) fn charge(
        &mut self,
        now: Now,
        job: &Job,
        settings: &Settings,
        view: &mut ClusterView,
    ) -> u64 {
        let expected = expected_tokens(job);
        let Some(id) = &job.tenant else { return expected };
        let account = self.account(id, settings);
        account.live += 1;
        account.requests.add(now.at, account.limits.requests_per_minute, 1.0);
        account.tokens.add(now.at, account.limits.tokens_per_minute, expected as f64);
        self.strangers.remove(id);
        self.show(id, view);
        expected
    }

    /// A job of an earlier life runs again: it counts, and was paid for.
    pub(super) fn resume(&mut self, job: &Job, settings: &Settings, view: &mut ClusterView) {
        let Some(id) = &job.tenant else { return };
        self.account(id, settings).live += 1;
        self.strangers.remove(id);
        self.show(id, view);
    }

    /// What the job used is known.
    pub(super) fn used(
        &mut self,
        now: Now,
        job: &Job,
        charged: u64,
        outcome: &Outcome,
        view: &mut ClusterView,
    ) {
        let Some(id) = &job.tenant else { return };
        self.turn_the_day(now.wall);
        let Some(account) = self.accounts.get_mut(id) else { return };
        let used = used_tokens(outcome);
        account.used = account.used.saturating_add(used);
        let correction = used as f64 - charged as f64;
        account.tokens.add(now.at, account.limits.tokens_per_minute, correction);
        self.show(id, view);
    }

    /// The job is over, and its end recorded.
    pub(super) fn ended(&mut self, job: &Job, view: &mut ClusterView) {
        let Some(id) = &job.tenant else { return };
        let Some(account) = self.accounts.get_mut(id) else { return };
        account.live = account.live.saturating_sub(1);
        if account.live == 0 && !account.is_recorded {
            self.strangers.insert(id.clone());
        }
        self.show(id, view);
        while self.strangers.len() > MOST_STRANGERS
            && let Some(stranger) = self.strangers.pop_first()
        {
            self.accounts.remove(&stranger);
            view.remove_tenant(&stranger);
        }
    }

    /// What the store says of all tenants.
    pub(super) fn restore(
        &mut self,
        now: Now,
        records: Vec<TenantRecord>,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        self.turn_the_day(now.wall);
        for record in records {
            let (id, used) = (record.id.clone(), record.used_tokens);
            self.apply(TenantChange::Put(record), settings, view);
            if let Some(account) = self.accounts.get_mut(&id) {
                account.used = account.used.max(used);
            }
            self.show(&id, view);
        }
    }

    /// Carries out what was recorded.
    pub(super) fn apply(
        &mut self,
        change: TenantChange,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        match change {
            TenantChange::Put(record) => {
                let account = self.account(&record.id, settings);
                account.limits = Arc::new(record.limits);
                account.keys = record.keys;
                account.is_recorded = true;
                self.strangers.remove(&record.id);
                self.show(&record.id, view);
            }
            TenantChange::Gone(id) => {
                self.accounts.remove(&id);
                view.remove_tenant(&id);
            }
        }
    }

    /// What is recorded of the tenant now.
    pub(super) fn record(&self, id: &TenantId) -> Option<TenantRecord> {
        let account = self.accounts.get(id).filter(|account| account.is_recorded)?;
        Some(TenantRecord {
            id: id.clone(),
            limits: (*account.limits).clone(),
            keys: account.keys.clone(),
            used_tokens: account.used,
        })
    }

    /// All that are recorded, by name.
    pub(super) fn records(&self) -> impl Iterator<Item = TenantRecord> {
        self.accounts.keys().filter_map(|id| self.record(id))
    }

    pub(super) fn live_jobs(&self, id: &TenantId) -> u32 {
        self.accounts.get(id).map_or(0, |account| account.live)
    }

    /// Its share beside those of others.
    pub(super) fn weight(&self, id: Option<&TenantId>) -> u32 {
        let account = id.and_then(|id| self.accounts.get(id));
        account.map_or(1, |account| account.limits.weight.max(1))
    }

    /// Has every tenant no jobs?
    pub(super) fn are_quiet(&self) -> bool {
        self.accounts.values().all(|account| account.live == 0)
    }

    fn account(&mut self, id: &TenantId, settings: &Settings) -> &mut Account {
        self.accounts.entry(id.clone()).or_insert_with(|| Account {
            limits: Arc::new(settings.default_limits.clone()),
            keys: Vec::new(),
            is_recorded: false,
            used: 0,
            live: 0,
            requests: Bucket::default(),
            tokens: Bucket::default(),
        })
    }

    /// At midnight everybody begins anew.
    fn turn_the_day(&mut self, wall: WallTime) {
        let day = wall.as_millis() / DAY_MS;
        if day != self.day {
            self.day = day;
            self.accounts.values_mut().for_each(|account| account.used = 0);
        }
    }

    fn show(&self, id: &TenantId, view: &mut ClusterView) {
        if let Some(account) = self.accounts.get(id) {
            view.put_tenant(TenantView {
                id: id.clone(),
                limits: account.limits.clone(),
                used_today: account.used,
                live_jobs: account.live,
            });
        }
    }
}

impl Account {
    fn check(&self, now: Now, id: &TenantId, job: &Job) -> Result<()> {
        let limits = &self.limits;
        allowed(id, job, limits)?;
        let refuse = |kind, after: Duration, message: String| {
            Err(Error::new(kind, message).with_retry_after(after.max(Duration::from_secs(1))))
        };
        if let Some(limit) = limits.daily_tokens
            && self.used >= limit
        {
            let midnight = Duration::from_millis(DAY_MS - now.wall.as_millis() % DAY_MS);
            let message = format!(
                "tenant {id} has used {} tokens today; allowed are {limit} a day (UTC)",
                self.used
            );
            return refuse(ErrorKind::QuotaExceeded, midnight, message);
        }
        if let Some(limit) = limits.concurrent_jobs
            && self.live >= limit
        {
            let message =
                format!("tenant {id} has {} jobs at once; allowed are {limit}", self.live);
            return refuse(ErrorKind::QuotaExceeded, Duration::ZERO, message);
        }
        if let Some(limit) = limits.requests_per_minute
            && let Some(after) = self.requests.wait(now.at, limit, 1.0)
        {
            let message = format!("tenant {id} asks more than {limit} times a minute");
            return refuse(ErrorKind::RateLimited, after, message);
        }
        if let Some(limit) = limits.tokens_per_minute
            && let Some(after) = self.tokens.wait(now.at, limit, expected_tokens(job) as f64)
        {
            let message = format!("tenant {id} uses more than {limit} tokens a minute");
            return refuse(ErrorKind::RateLimited, after, message);
        }
        Ok(())
    }
}

/// Is this model, at this priority, for the tenant at all?
fn allowed(id: &TenantId, job: &Job, limits: &TenantLimits) -> Result<()> {
    let refuse = |param, message: String| {
        Err(Error::new(ErrorKind::PermissionDenied, message).with_param(param))
    };
    if let Some(allowed) = &limits.priorities
        && !allowed.contains(&job.priority)
    {
        let allowed: Vec<_> = allowed.iter().map(|priority| priority.as_str()).collect();
        let message = format!(
            "priority {} is not for tenant {id}; allowed is {}",
            job.priority,
            allowed.join(", ")
        );
        return refuse("priority", message);
    }
    let is_it = |name: &String| {
        name.parse::<ModelRef>().is_ok_and(|model| job.model == model || job.model.is_of(&model))
    };
    if let Some(allowed) = &limits.models
        && !allowed.contains(job.model.as_str())
        && !allowed.iter().any(is_it)
    {
        let shown: Vec<_> = allowed.iter().take(8).map(String::as_str).collect();
        let message =
            format!("model {} is not for tenant {id}; allowed is {}", job.model, shown.join(", "));
        return refuse("model", message);
    }
    Ok(())
}
