//! Tenants: who shares a fleet, what each may use, and what it has used.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Priority, TenantId};

/// What a tenant may use. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Tokens on one day (UTC), of prompts and answers.
    pub daily_tokens: Option<u64>,
    /// Jobs at once, waiting and running.
    pub concurrent_jobs: Option<u32>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, of prompts and answers.
    pub tokens_per_minute: Option<u32>,
    /// The priorities that its requests may have.
    pub priorities: Option<BTreeSet<Priority>>,
    /// The models that it may use, by alias or reference.
    pub models: Option<BTreeSet<String>>,
    /// Its share of a fleet that is fully used, beside the shares of the others. 1 by default.
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

/// A tenant, as a scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Its name.
    pub id: TenantId,
    /// What it may use.
    pub limits: Arc<TenantLimits>,
    /// Tokens it has used today (UTC).
    pub used_today: u64,
    /// Jobs it has now, waiting and running.
    pub live_jobs: u32,
}

impl TenantView {
    /// Tokens it may still use today; `None` where there is no limit.
    pub fn remaining_today(&self) -> Option<u64> {
        self.limits.daily_tokens.map(|limit| limit.saturating_sub(self.used_today))
    }

    /// Are its tokens of today, or its jobs at once, used up?
    pub fn is_over_quota(&self) -> bool {
        self.remaining_today() == Some(0)
            || self.limits.concurrent_jobs.is_some_and(|limit| self.live_jobs >= limit)
    }
}
