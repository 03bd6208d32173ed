//! The replay of recorded jobs through a policy, next to the active one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Policy, run_blocking};
use crate::{
    error::{Error, ErrorKind, Result},
    policy_source::PolicySource,
    registry::JobFilter,
    scheduler::Scheduler,
    settings::Mode,
    sim::{Fleet, Recording, Replay, ReplayReport, Trace},
    tenant::TenantLimits,
    time::WallTime,
};

/// The number of jobs that are read from the registry at once.
const PAGE: usize = 1_000;
/// The time limit for waiting until a previous replay ends: long enough for one whose caller has just gone away.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a replay: what a policy would have done with the recorded jobs, next to the active one.
#[derive(Clone, Debug)]
pub struct PolicyReplay {
    /// The length of the replayed period, which ends now.
    pub since: Duration,
    /// The time at which the first of the jobs was submitted.
    pub from: WallTime,
    /// True if the period has older jobs that are not replayed, because their number is limited (setting
    /// `replay_jobs`).
    pub is_cut: bool,
    /// The number of jobs that never started or failed before they ran. They are replayed with the median of their
    /// model.
    pub estimated: usize,
    /// The number of jobs that an older version of rbee recorded, without prefixes, deadline and maximum answer length.
    pub without_outline: usize,
    /// The number of recorded jobs that were ignored, by their outcome; see
    /// [`Recorded::left_out`](crate::sim::Recorded).
    pub left_out: BTreeMap<String, usize>,
    /// The result of the active policy.
    pub current: ReplayReport,
    /// The result of the given policy.
    pub candidate: ReplayReport,
}

impl PolicyReplay {
    /// The number of recorded jobs that were ignored.
    pub fn ignored(&self) -> usize {
        self.left_out.values().sum()
    }
}

impl Policy<'_> {
    /// Runs the jobs of the last `since` through a policy and through the active one, in virtual time, on the present
    /// fleet with every worker idle. The jobs arrive, run and produce tokens as they did. Nothing is changed.
    ///
    /// The replay ends soon after its future is dropped.
    ///
    /// # Errors
    /// As for [`check`](Self::check); [`ErrorKind::NotFound`] if no job of that period can be replayed,
    /// [`ErrorKind::Conflict`] while another replay runs, [`ErrorKind::JobTimeout`] if it takes longer than the setting
    /// `replay_limit` allows.
    pub async fn replay(self, source: PolicySource, since: Duration) -> Result<PolicyReplay> {
        let permit = self.replay_permit().await?;
        let candidate = as_replayed(self.compile(source).await?);
        let current = as_replayed(self.scheduler());
        let (recording, is_cut) = self.jobs_since(since).await?;
        let mut replay = Replay::new(self.fleet_at_rest().await?, Trace::default());
        let settings = self.queen.settings();
        replay.settings = settings.clone();
        // Quotas are not checked again; only the share of each tenant matters here.
        let share =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        replay.settings.mode = Mode::Home;
        replay.settings.default_limits = share(&replay.settings.default_limits);
        let tenants = self.queen.tenants().list().await?;
        replay.tenants =
            tenants.into_iter().map(|tenant| (tenant.id, share(&tenant.limits))).collect();
        replay.built_in = self.queen.shared.built_in.clone();
        // The caller may go away; the blocking task does not notice that by itself.
        let stop = self.queen.shared.kill.child_token();
        let _dropped = stop.clone().drop_guard();
        let (began, limit) = (Instant::now(), settings.replay_limit);
        let check_stop = move || {
            if stop.is_cancelled() {
                let message = "the caller cancelled the replay";
                return Err(Error::new(ErrorKind::Cancelled, message));
            }
            if began.elapsed() > limit {
                let message = format!(
                    "the replay took longer than {limit:?} (setting replay_limit); a shorter period has fewer jobs"
                );
                return Err(Error::new(ErrorKind::JobTimeout, message));
            }
            Ok(())
        };
        let run = move || {
            let _permit = permit;
            let recorded = recording.finish();
            if recorded.trace.arrivals.is_empty() {
                let message = format!(
                    "no job of the last {since:?} can be replayed; none has ended properly"
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            let from = recorded.trace.start;
            replay.trace = recorded.trace;
            let run = |scheduler: &dyn Scheduler| {
                replay.run_while(scheduler, &check_stop).map_err(|error| match error.kind() {
                    ErrorKind::Internal => error.context("the replay did not finish"),
                    _ => error,
                })
            };
            Ok(PolicyReplay {
                since,
                from,
                is_cut,
                estimated: recorded.estimated,
                without_outline: recorded.without_outline,
                left_out: recorded.left_out,
                current: run(&*current)?,
                candidate: run(&*candidate)?,
            })
        };
        run_blocking(run).await?
    }

    /// The permit for a replay. Only one runs at a time, because each needs a processor and the memory of all its jobs.
    async fn replay_permit(self) -> Result<OwnedSemaphorePermit> {
        match timeout(QUEUE_TIMEOUT, self.queen.shared.replays.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let message = "another replay is running; one runs at a time";
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    /// The present fleet, without the prefixes that the workers have cached: the replayed jobs come before them.
    async fn fleet_at_rest(self) -> Result<Fleet> {
        let mut fleet = Fleet::of(&self.queen.cluster().await?);
        for worker in fleet.hives.iter_mut().flat_map(|hive| &mut hive.workers) {
            worker.warm.clear();
        }
        Ok(fleet)
    }

    /// The newest jobs of that period, and `true` if there are more.
    async fn jobs_since(self, since: Duration) -> Result<(Recording, bool)> {
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let from = WallTime::from_millis(WallTime::now().as_millis().saturating_sub(since));
        let most = self.queen.settings().replay_jobs;
        let mut recording = Recording::default();
        let mut before = None;
        let mut read = 0;
        loop {
            let filter = JobFilter { before, limit: PAGE, ..JobFilter::default() };
            let mut page = self.queen.jobs(&filter).await?;
            let is_last =
                page.len() < PAGE || page.last().is_none_or(|record| record.submitted_at < from);
            page.retain(|record| record.submitted_at >= from);
            let room = most - read;
            let is_cut = page.len() > room || (page.len() == room && !is_last);
            page.truncate(room);
            before = page.last().map(|record| record.order);
            read += page.len();
            recording = run_blocking(move || {
                page.iter().for_each(|record| recording.add(record));
                recording
            })
            .await?;
            if is_cut || is_last {
                return Ok((recording, is_cut));
            }
        }
    }
}

/// The form of a policy that a replay uses.
fn as_replayed(scheduler: Arc<dyn Scheduler>) -> Arc<dyn Scheduler> {
    scheduler.for_replay().unwrap_or(scheduler)
}
