//! Limits that jobs exceed together, though not one of them does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Account, Tenants, expected_tokens};
use crate::{Error, ErrorKind, Job, Now, Result, Settings, TenantId, TenantLimits};

/// How many jobs, and how many tokens they are expected to use.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    jobs: u32,
    tokens: u64,
}

impl Tenants {
    /// May these jobs be admitted beside each other? What each of them may by itself is not looked at. Nothing is charged.
    pub(in crate::engine) fn check_together(
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
                sum.tokens = sum.tokens.saturating_add(expected_tokens(job));
            }
        }
        for (tenant, sum) in sums {
            match self.accounts.get(tenant) {
                Some(account) => {
                    too_many(tenant, sum, &account.limits)?;
                    account.check_sum(now, tenant, sum)?;
                }
                None => too_many(tenant, sum, &settings.default_limits)?,
            }
        }
        Ok(())
    }
}

/// Are they more than the tenant may ever have at once?
fn too_many(id: &TenantId, sum: Sum, limits: &TenantLimits) -> Result<()> {
    let Sum { jobs, .. } = sum;
    let refuse = |kind, limit: u32, what: &str| {
        let message =
            format!("the request makes {jobs} jobs; tenant {id} is allowed {limit} {what}");
        Err(Error::new(kind, message))
    };
    match (limits.concurrent_jobs, limits.requests_per_minute) {
        (Some(limit), _) if jobs > limit => refuse(ErrorKind::QuotaExceeded, limit, "at once"),
        (_, Some(limit)) if jobs > limit => refuse(ErrorKind::RateLimited, limit, "a minute"),
        _ => Ok(()),
    }
}

impl Account {
    fn check_sum(&self, now: Now, id: &TenantId, sum: Sum) -> Result<()> {
        let Sum { jobs, tokens } = sum;
        let refuse = |kind, after: Duration, message: String| {
            Err(Error::new(kind, message).with_retry_after(after.max(Duration::from_secs(1))))
        };
        if let Some(limit) = self.limits.concurrent_jobs
            && self.live.saturating_add(jobs) > limit
        {
            let message = format!(
                "tenant {id} has {} jobs at once, and the request makes {jobs} more; allowed are {limit}",
                self.live
            );
            return refuse(ErrorKind::QuotaExceeded, Duration::ZERO, message);
        }
        if let Some(limit) = self.limits.requests_per_minute
            && let Some(after) = self.requests.wait(now.at, limit, f64::from(jobs))
        {
            let message = format!("tenant {id} asks more than {limit} times a minute");
            return refuse(ErrorKind::RateLimited, after, message);
        }
        if let Some(limit) = self.limits.tokens_per_minute
            && let Some(after) = self.tokens.wait(now.at, limit, tokens as f64)
        {
            let message = format!("tenant {id} uses more than {limit} tokens a minute");
            return refuse(ErrorKind::RateLimited, after, message);
        }
        Ok(())
    }
}
