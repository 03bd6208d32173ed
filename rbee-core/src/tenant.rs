//! Tenants: the users of a shared fleet, their limits and their usage.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    id::TenantId,
    model_ref::{ModelRef, find_alias},
    priority::Priority,
    time::WallTime,
};

/// The limits of a tenant. `None` is no limit of its own: the limit of
/// [`default_limits`](crate::Settings::default_limits) applies, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Tokens per day (UTC), of prompts and answers.
    pub daily_tokens: Option<u64>,
    /// Concurrent jobs, waiting and running.
    pub concurrent_jobs: Option<u32>,
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, of prompts and answers.
    pub tokens_per_minute: Option<u32>,
    /// The priorities that its requests may have.
    pub priorities: Option<BTreeSet<Priority>>,
    /// The models that it may use, by alias or reference. An alias allows the model that it currently stands for.
    pub models: Option<BTreeSet<String>>,
    /// Its weight in the shares of a fully used fleet. 1 by default.
    pub weight: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            daily_tokens: None,
            concurrent_jobs: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            priorities: None,
            models: None,
            weight: 1,
        }
    }
}

impl TenantLimits {
    /// The most models or priorities that can be listed.
    const MOST_NAMES: usize = 256;

    /// These limits, and `others` for those that are not set here. The weight is not a limit, and stays.
    ///
    /// ```
    /// use rbee_core::tenant::TenantLimits;
    ///
    /// let default = TenantLimits {
    ///     daily_tokens: Some(1_000),
    ///     concurrent_jobs: Some(4),
    ///     ..TenantLimits::default()
    /// };
    /// let own = TenantLimits { concurrent_jobs: Some(8), weight: 3, ..TenantLimits::default() };
    /// let held_to = own.or(&default);
    /// assert_eq!((held_to.daily_tokens, held_to.concurrent_jobs), (Some(1_000), Some(8)));
    /// assert_eq!(held_to.weight, 3);
    /// ```
    pub fn or(&self, others: &Self) -> Self {
        Self {
            daily_tokens: self.daily_tokens.or(others.daily_tokens),
            concurrent_jobs: self.concurrent_jobs.or(others.concurrent_jobs),
            requests_per_minute: self.requests_per_minute.or(others.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(others.tokens_per_minute),
            priorities: self.priorities.as_ref().or(others.priorities.as_ref()).cloned(),
            models: self.models.as_ref().or(others.models.as_ref()).cloned(),
            weight: self.weight,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] that names the limit, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name: &'static str, value: String, allowed: &str| {
            let message = format!("{name} is {value}; allowed is {allowed}");
            Err(Error::new(ErrorKind::InvalidRequest, message).with_param(name))
        };
        if !(1..=1_000_000).contains(&self.weight) {
            return refuse("weight", self.weight.to_string(), "1 to 1000000");
        }
        for (name, value) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
        ] {
            if value == Some(0) {
                return refuse(name, "0".into(), "at least 1, or none");
            }
        }
        if self.priorities.as_ref().is_some_and(BTreeSet::is_empty) {
            return refuse("priorities", "empty".into(), "interactive, batch or both, or none");
        }
        match self.models.as_ref().map(BTreeSet::len) {
            Some(count) if count == 0 || count > Self::MOST_NAMES => {
                refuse("models", format!("a list of {count}"), "1 to 256 models, or none")
            }
            _ => Ok(()),
        }
    }

    /// Checks that every model resolves to a reference.
    pub(crate) fn check_models(&self, resolve: impl Fn(&str) -> Result<ModelRef>) -> Result<()> {
        self.models.iter().flatten().try_for_each(|name| {
            resolve(name).map(drop).map_err(|error| error.with_param("models"))
        })
    }

    /// The same limits, with the references of all aliases added to the models: jobs carry references.
    pub(crate) fn with_references(mut self, aliases: &BTreeMap<String, ModelRef>) -> Self {
        if let Some(models) = &mut self.models {
            let meant = models.iter().filter_map(|name| find_alias(aliases, name));
            let meant = meant.map(|(_, model)| model.to_string());
            models.extend(meant.collect::<Vec<_>>());
        }
        self
    }
}

/// An API key of a tenant, without the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The SHA-256 of the key, in lower-case hexadecimal.
    pub hash: String,
    /// A description of its purpose.
    pub label: String,
    /// The time of issue.
    pub created_at: WallTime,
}

/// The scheduler's view of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Its name.
    pub id: TenantId,
    /// Its limits: its own ones, and the default limits for those that it does not set.
    pub limits: Arc<TenantLimits>,
    /// Tokens it has used today (UTC).
    pub used_today: u64,
    /// Its current jobs, waiting and running.
    pub live_jobs: u32,
}

impl TenantView {
    /// The tokens that it may still use today; `None` if there is no limit.
    pub fn remaining_today(&self) -> Option<u64> {
        self.limits.daily_tokens.map(|limit| limit.saturating_sub(self.used_today))
    }

    /// True if its tokens of today are used up, or it has more concurrent jobs than allowed. The job that is about to
    /// be placed counts as one of its jobs.
    pub fn is_over_quota(&self) -> bool {
        self.remaining_today() == Some(0)
            || self.limits.concurrent_jobs.is_some_and(|limit| self.live_jobs > limit)
    }

    /// True if its tokens of today are used up, or one more job would exceed its concurrent jobs.
    pub fn is_at_quota(&self) -> bool {
        self.is_over_quota()
            || self.limits.concurrent_jobs.is_some_and(|limit| self.live_jobs == limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_placed_is_among_those_its_tenant_has_and_one_that_comes_in_is_not() {
        let limits = TenantLimits {
            daily_tokens: Some(10),
            concurrent_jobs: Some(4),
            ..TenantLimits::default()
        };
        let (id, limits) = (TenantId::new("acme").unwrap(), Arc::new(limits));
        let view = |used_today, live_jobs| {
            let view = TenantView { id: id.clone(), limits: limits.clone(), used_today, live_jobs };
            (view.is_over_quota(), view.is_at_quota())
        };
        assert_eq!(view(0, 3), (false, false));
        assert_eq!(view(0, 4), (false, true));
        assert_eq!(view(0, 5), (true, true));
        assert_eq!(view(10, 1), (true, true));
    }
}
