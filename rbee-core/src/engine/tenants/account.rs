//! What one tenant may use and has used, and whether one more job is within that.

use std::{sync::Arc, time::Duration};

use super::{DAY_MS, bucket::Bucket, expected_tokens, usage::Usage};
use crate::{
    engine::admit::longer,
    error::{Error, ErrorKind, Result},
    id::TenantId,
    job::Job,
    model_ref::ModelRef,
    settings::Settings,
    tenant::{ApiKey, TenantLimits, TenantView},
    time::{Now, Time},
};

#[derive(Debug)]
pub(super) struct Account {
    /// The effective limits: its own, and the default ones for what it does not set.
    pub(super) limits: Arc<TenantLimits>,
    /// Its record in the store, if it was set up.
    pub(super) recorded: Option<Recorded>,
    pub(super) usage: Usage,
    pub(super) live: u32,
    /// Tokens that its live jobs are expected to use.
    pub(super) expected: u64,
    /// Since when it has had live jobs without a pause; `None` while it has none.
    pub(super) live_since: Option<Time>,
    /// How long a job of it is live, smoothed.
    life: Option<Duration>,
    pub(super) requests: Bucket,
    pub(super) tokens: Bucket,
}

#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) limits: TenantLimits,
    pub(super) keys: Vec<ApiKey>,
}

impl Account {
    /// The account of a tenant without a record.
    pub(super) fn new(day: u64, settings: &Settings) -> Self {
        let mut usage = Usage::default();
        usage.turn(day);
        Self {
            limits: Arc::new(settings.default_limits.clone()),
            recorded: None,
            usage,
            live: 0,
            expected: 0,
            live_since: None,
            life: None,
            requests: Bucket::default(),
            tokens: Bucket::default(),
        }
    }

    pub(super) fn record(&mut self, recorded: Option<Recorded>, settings: &Settings) {
        let defaults = &settings.default_limits;
        let limits =
            recorded.as_ref().map_or_else(|| defaults.clone(), |own| own.limits.or(defaults));
        self.limits = Arc::new(limits);
        self.recorded = recorded;
    }

    /// Learns from a job that has ended how long jobs are live.
    pub(super) fn lived(&mut self, life: Duration) {
        self.life = Some(self.life.map_or(life, |mean| (mean * 15 + life) / 16));
    }

    /// One more job is live.
    pub(super) fn begin(&mut self, now: Now, expected: u64) {
        self.live += 1;
        self.live_since.get_or_insert(now.at);
        self.expected = self.expected.saturating_add(expected);
    }

    /// One job fewer is live.
    pub(super) fn end(&mut self) {
        self.live = self.live.saturating_sub(1);
        if self.live == 0 {
            self.live_since = None;
        }
    }

    /// How long a job is live. As long as none has ended, the only thing that is known about it is how long jobs have
    /// been live so far.
    pub(super) fn life(&self, now: Now) -> Duration {
        self.life.unwrap_or_else(|| self.live_since.map_or(Duration::ZERO, |since| now.at - since))
    }

    /// The time to the end of the day.
    pub(super) fn rest_of_day(now: Now) -> Duration {
        Duration::from_millis(DAY_MS - now.wall.as_millis() % DAY_MS)
    }

    pub(super) fn view(&self, id: &TenantId) -> TenantView {
        TenantView {
            id: id.clone(),
            limits: self.limits.clone(),
            used_today: self.usage.today(),
            live_jobs: self.live,
        }
    }

    /// Checks that one more job is within the limits. If several refuse it, returns the refusal with the longest wait.
    pub(super) fn check(&self, now: Now, id: &TenantId, job: &Job) -> Result<()> {
        let refusals = [
            self.check_day(now, id),
            self.check_at_once(now, id),
            self.check_requests(now, id),
            self.check_tokens(now, id, job),
        ];
        refusals.into_iter().fold(Ok(()), longer)
    }

    fn check_day(&self, now: Now, id: &TenantId) -> Result<()> {
        let Some(limit) = self.limits.daily_tokens else { return Ok(()) };
        let used = self.usage.today();
        if used >= limit {
            let message = format!(
                "tenant {id} has used {used} tokens today; allowed are {limit} a day (UTC)"
            );
            // If nothing is allowed, a wait until tomorrow does not help.
            let after = (limit > 0).then(|| Self::rest_of_day(now));
            return refuse(ErrorKind::QuotaExceeded, message, after);
        }
        if used.saturating_add(self.expected) >= limit {
            let message = format!(
                "tenant {id} has used {used} tokens today, and its {} jobs under way are expected to use {} more; \
                 allowed are {limit} a day (UTC)",
                self.live, self.expected
            );
            return refuse(ErrorKind::QuotaExceeded, message, Some(self.life(now)));
        }
        Ok(())
    }

    fn check_at_once(&self, now: Now, id: &TenantId) -> Result<()> {
        let Some(limit) = self.limits.concurrent_jobs.filter(|limit| self.live >= *limit) else {
            return Ok(());
        };
        let message = format!("tenant {id} has {} jobs at once; allowed are {limit}", self.live);
        // They usually end one after the other.
        let after = (limit > 0).then(|| {
            (self.life(now) / self.live.max(1))
                .saturating_mul((self.live - limit).saturating_add(1))
        });
        refuse(ErrorKind::QuotaExceeded, message, after)
    }

    fn check_requests(&self, now: Now, id: &TenantId) -> Result<()> {
        let Some(limit) = self.limits.requests_per_minute else { return Ok(()) };
        let Some(after) = self.requests.wait(now.at, limit, 1.0) else { return Ok(()) };
        let message = format!("tenant {id} makes more than {limit} requests a minute");
        refuse(ErrorKind::RateLimited, message, Some(after))
    }

    fn check_tokens(&self, now: Now, id: &TenantId, job: &Job) -> Result<()> {
        let Some(limit) = self.limits.tokens_per_minute else { return Ok(()) };
        let wait = self.tokens.wait(now.at, limit, expected_tokens(job) as f64);
        let Some(after) = wait else { return Ok(()) };
        let message = format!("tenant {id} uses more than {limit} tokens a minute");
        refuse(ErrorKind::RateLimited, message, Some(after))
    }
}

/// Refuses, with the time to retry; `None` if no time makes a difference.
pub(super) fn refuse(kind: ErrorKind, message: String, after: Option<Duration>) -> Result<()> {
    let error = Error::for_client(kind, message);
    Err(match after {
        Some(after) => error.with_retry_after(after.max(Duration::from_secs(1))),
        None => error,
    })
}

/// Checks that the tenant may use this model, at this priority, at all.
pub(super) fn allowed(id: &TenantId, job: &Job, limits: &TenantLimits) -> Result<()> {
    let refuse = |param, message: String| {
        Err(Error::for_client(ErrorKind::PermissionDenied, message).with_param(param))
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
        name.parse::<ModelRef>().is_ok_and(|model| {
            job.model == model
                || job.model.is_of(&model)
                || model.without_latest().as_ref() == Some(&job.model)
        })
    };
    if let Some(allowed) = &limits.models
        && !allowed.contains(job.model.as_str())
        && !allowed.iter().any(is_it)
    {
        let shown: Vec<_> = allowed.iter().take(8).map(String::as_str).collect();
        let message =
            format!("model {} is not for tenant {id}; allowed is {}", job.model, shown.join(", "));
        // An alias may be shown with what it stands for, which may be a path, so the client gets a shorter message.
        let told = format!("the model is not for tenant {id}");
        return refuse("model", message).map_err(|error| error.with_client_message(told));
    }
    Ok(())
}
