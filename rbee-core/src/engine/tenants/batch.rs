//! Limits that jobs exceed together although each single one is within them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Tenants,
    account::{Account, refuse},
    expected_tokens,
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::TenantId,
    job::Job,
    settings::Settings,
    tenant::TenantLimits,
    time::Now,
};

/// The number of jobs, and of the tokens that they are expected to use.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    jobs: u32,
    tokens: u64,
    /// The tokens of all but the last job.
    before_last: u64,
}

impl Tenants {
    /// Checks that these jobs may be admitted together. What each may do by itself is not checked. Charges nothing.
    pub(in crate::engine) fn check_batch(
        &self,
        now: Now,
        jobs: &[Arc<Job>],
        settings: &Settings,
    ) -> Result<()> {
        let mut sums = BTreeMap::<&TenantId, Sum>::new();
        for job in jobs {
            if let Some(tenant) = &job.tenant {
                let sum = sums.entry(tenant).or_default();
                sum.jobs = sum.jobs.saturating_add(1);
                sum.before_last = sum.tokens;
                sum.tokens = sum.tokens.saturating_add(expected_tokens(job));
            }
        }
        sums.into_iter().try_for_each(|(tenant, sum)| match self.accounts.get(tenant) {
            Some(account) => account.check_sum(now, tenant, sum),
            None => Account::new(self.day, settings).check_sum(now, tenant, sum),
        })
    }
}

/// Checks that they are not more than the tenant may ever have.
fn check_ever(id: &TenantId, sum: Sum, limits: &TenantLimits) -> Result<()> {
    let jobs = sum.jobs;
    let refuse = |kind, allowed: String| {
        let message = format!("the request makes {jobs} jobs; tenant {id} is allowed {allowed}");
        Err(Error::for_client(kind, message))
    };
    match limits {
        TenantLimits { concurrent_jobs: Some(limit), .. } if jobs > *limit => {
            refuse(ErrorKind::QuotaExceeded, format!("{limit} at once"))
        }
        TenantLimits { requests_per_minute: Some(limit), .. } if jobs > *limit => {
            refuse(ErrorKind::RateLimited, format!("{limit} a minute"))
        }
        TenantLimits { daily_tokens: Some(limit), .. } if sum.before_last >= *limit => {
            refuse(ErrorKind::QuotaExceeded, format!("{limit} tokens a day (UTC)"))
        }
        _ => Ok(()),
    }
}

impl Account {
    fn check_sum(&self, now: Now, id: &TenantId, sum: Sum) -> Result<()> {
        check_ever(id, sum, &self.limits)?;
        let Sum { jobs, tokens, before_last } = sum;
        let (used, expected) = (self.usage.today(), self.expected.saturating_add(before_last));
        if let Some(limit) = self.limits.daily_tokens
            && used.saturating_add(expected) >= limit
        {
            let message = format!(
                "tenant {id} has used {used} tokens today, and its jobs under way and those of the request are expected \
                 to use {expected} more; allowed are {limit} a day (UTC)"
            );
            // The end of its other jobs makes no difference if the day's tokens are not enough without them.
            let after = match used.saturating_add(before_last) >= limit {
                true => Self::rest_of_day(now),
                false => self.life(now),
            };
            return refuse(ErrorKind::QuotaExceeded, message, Some(after));
        }
        if let Some(limit) = self.limits.concurrent_jobs
            && self.live.saturating_add(jobs) > limit
        {
            let message = format!(
                "tenant {id} has {} jobs at once, and the request makes {jobs} more; allowed are {limit}",
                self.live
            );
            // They usually end one after the other.
            let over = self.live.saturating_add(jobs).saturating_sub(limit);
            let after = (self.life(now) / self.live.max(1)).saturating_mul(over);
            return refuse(ErrorKind::QuotaExceeded, message, Some(after));
        }
        if let Some(limit) = self.limits.requests_per_minute
            && let Some(after) = self.requests.wait(now.at, limit, f64::from(jobs))
        {
            let message = format!("tenant {id} makes more than {limit} requests a minute");
            return refuse(ErrorKind::RateLimited, message, Some(after));
        }
        if let Some(limit) = self.limits.tokens_per_minute
            && let Some(after) = self.tokens.wait(now.at, limit, tokens as f64)
        {
            let message = format!("tenant {id} uses more than {limit} tokens a minute");
            return refuse(ErrorKind::RateLimited, message, Some(after));
        }
        Ok(())
    }
}
