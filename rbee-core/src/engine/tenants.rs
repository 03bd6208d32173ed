//! Tenants: what each may use, what it has used, and whether one more job is within its limits.
//!
//! Checks change nothing. An admitted job is charged in one place, and the charge is corrected when the job has ended
//! and its real usage is known. A bucket may go into debt that way, so no rate-limiter library fits: those take the
//! cost in advance, or not at all.

mod account;
mod batch;
mod bucket;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    id::TenantId,
    job::Job,
    registry::TenantRecord,
    settings::{Mode, Settings},
    task::{Sampling, Task},
    time::{Now, WallTime},
};

use account::{Account, Recorded, allowed};

/// The expected length of an answer, in tokens, for a job that sets no limit.
const USUAL_ANSWER: u64 = 256;
/// The usual number of bytes in a token.
const BYTES_PER_TOKEN: u64 = 4;
/// The most tenants without a record and without jobs that are remembered.
const MOST_STRANGERS: usize = 10_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A change of a tenant, applied once it is recorded.
#[derive(Clone, Debug)]
pub(super) enum TenantChange {
    Put(TenantRecord),
    Gone(TenantId),
}

#[derive(Debug, Default)]
pub(super) struct Tenants {
    accounts: BTreeMap<TenantId, Account>,
    /// Tenants that are not in the store and have no jobs.
    strangers: BTreeSet<TenantId>,
    /// The UTC day of the usage.
    day: u64,
}

/// The estimated tokens of a job's prompt, used if nobody has counted them.
pub(super) fn prompt_tokens(job: &Job) -> u64 {
    job.task.text_bytes() as u64 / BYTES_PER_TOKEN
}

/// The longest answer that a job allows, in tokens.
pub(super) fn longest_answer(job: &Job) -> Option<u32> {
    match &job.task {
        Task::Generate { sampling: Sampling { max_tokens, .. }, .. } => *max_tokens,
        Task::Embed { .. } | Task::Rerank { .. } => Some(0),
    }
}

/// Tokens that a job is expected to use.
pub(super) fn expected_tokens(job: &Job) -> u64 {
    (prompt_tokens(job) + longest_answer(job).map_or(USUAL_ANSWER, u64::from)).max(1)
}

impl Tenants {
    /// Checks that the tenant may use the job's model, at its priority, at all.
    pub(super) fn allow(&self, job: &Job, settings: &Settings) -> Result<()> {
        let Some(id) = &job.tenant else {
            return match settings.mode {
                Mode::Home => Ok(()),
                Mode::Platform => Err(Error::for_client(
                    ErrorKind::PermissionDenied,
                    "the request names no tenant; in the mode platform every request needs the key of one",
                )),
            };
        };
        let account = self.accounts.get(id);
        allowed(id, job, account.map_or(&settings.default_limits, |account| &account.limits))
    }

    /// Checks that the job is within the tenant's limits. Charges nothing.
    pub(super) fn check(&self, now: Now, job: &Job, settings: &Settings) -> Result<()> {
        let Some(id) = &job.tenant else { return Ok(()) };
        match self.accounts.get(id) {
            Some(account) => account.check(now, id, job),
            None => Account::new(self.day, settings).check(now, id, job),
        }
    }

    /// Charges an admitted job with its expected usage until more is known.
    pub(super) fn charge(
        &mut self,
        now: Now,
        job: &Job,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        let Some(id) = &job.tenant else { return };
        let expected = expected_tokens(job);
        let account = self.account(id, settings);
        account.begin(now, expected);
        account.requests.add(now.at, account.limits.requests_per_minute, 1.0);
        account.tokens.add(now.at, account.limits.tokens_per_minute, expected as f64);
        self.strangers.remove(id);
        self.show(id, view);
    }

    /// A job of a previous run runs again: it counts as live, and is charged already.
    pub(super) fn resume(
        &mut self,
        now: Now,
        job: &Job,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        let Some(id) = &job.tenant else { return };
        let account = self.account(id, settings);
        account.begin(now, expected_tokens(job));
        self.strangers.remove(id);
        self.show(id, view);
    }

    /// Corrects the charge of a job: how long it was live, and the tokens it used instead of the expected ones.
    pub(super) fn used(
        &mut self,
        now: Now,
        job: &Job,
        life: Duration,
        (expected, used): (u64, u64),
        view: &mut ClusterView,
    ) {
        let Some(id) = &job.tenant else { return };
        let Some(account) = self.accounts.get_mut(id) else { return };
        account.expected = account.expected.saturating_sub(expected);
        account.usage.add(used);
        account.lived(life);
        let correction = used as f64 - expected as f64;
        account.tokens.add(now.at, account.limits.tokens_per_minute, correction);
        self.show(id, view);
    }

    /// The job is over, and its end is recorded.
    pub(super) fn ended(&mut self, job: &Job, view: &mut ClusterView) {
        let Some(id) = &job.tenant else { return };
        let Some(account) = self.accounts.get_mut(id) else { return };
        account.end();
        if account.live == 0 && account.recorded.is_none() {
            self.strangers.insert(id.clone());
        }
        self.show(id, view);
        self.forget_strangers(view);
    }

    fn forget_strangers(&mut self, view: &mut ClusterView) {
        while self.strangers.len() > MOST_STRANGERS
            && let Some(stranger) = self.strangers.pop_first()
        {
            self.accounts.remove(&stranger);
            view.remove_tenant(&stranger);
        }
    }

    /// Restores all tenants from the store.
    pub(super) fn restore(
        &mut self,
        records: Vec<TenantRecord>,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        for record in records {
            let (id, used) = (record.id.clone(), record.used_tokens);
            self.apply(TenantChange::Put(record), settings, view);
            if let Some(account) = self.accounts.get_mut(&id) {
                account.usage.at_least(used);
            }
            self.show(&id, view);
        }
    }

    /// Applies a change that was recorded.
    pub(super) fn apply(
        &mut self,
        change: TenantChange,
        settings: &Settings,
        view: &mut ClusterView,
    ) {
        match change {
            TenantChange::Put(TenantRecord { id, limits, keys, .. }) => {
                self.account(&id, settings).record(Some(Recorded { limits, keys }), settings);
                self.strangers.remove(&id);
                self.show(&id, view);
            }
            // Its usage of today is remembered in case it comes back.
            TenantChange::Gone(id) => {
                let account = self.account(&id, settings);
                account.record(None, settings);
                if account.live == 0 {
                    self.strangers.insert(id.clone());
                }
                self.show(&id, view);
                self.forget_strangers(view);
            }
        }
    }

    /// The current record of the tenant.
    pub(super) fn record(&self, id: &TenantId) -> Option<TenantRecord> {
        let account = self.accounts.get(id)?;
        let Recorded { limits, keys } = account.recorded.as_ref()?;
        Some(TenantRecord {
            id: id.clone(),
            limits: limits.clone(),
            keys: keys.clone(),
            used_tokens: account.usage.today(),
        })
    }

    /// All recorded tenants, by name.
    pub(super) fn records(&self) -> impl Iterator<Item = TenantRecord> {
        self.accounts.keys().filter_map(|id| self.record(id))
    }

    pub(super) fn live_jobs(&self, id: &TenantId) -> u32 {
        self.accounts.get(id).map_or(0, |account| account.live)
    }

    /// Its weight in the shares.
    pub(super) fn weight(&self, id: Option<&TenantId>) -> u32 {
        let account = id.and_then(|id| self.accounts.get(id));
        account.map_or(1, |account| account.limits.weight.max(1))
    }

    /// True if no tenant has jobs.
    pub(super) fn are_quiet(&self) -> bool {
        self.accounts.values().all(|account| account.live == 0 && account.expected == 0)
    }

    fn account(&mut self, id: &TenantId, settings: &Settings) -> &mut Account {
        self.accounts.entry(id.clone()).or_insert_with(|| Account::new(self.day, settings))
    }

    /// Starts the new day's usage at midnight (UTC), also in the view.
    pub(super) fn turn_the_day(&mut self, wall: WallTime, view: &mut ClusterView) {
        let day = wall.as_millis() / DAY_MS;
        if day == self.day {
            return;
        }
        self.day = day;
        for (id, account) in &mut self.accounts {
            account.usage.turn(day);
            let used = account.usage.today();
            view.edit_tenant(id, |tenant| tenant.used_today = used);
        }
    }

    fn show(&self, id: &TenantId, view: &mut ClusterView) {
        if let Some(account) = self.accounts.get(id) {
            view.put_tenant(account.view(id));
        }
    }
}
