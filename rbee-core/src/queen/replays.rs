//! Policies on other fleets than the present one, and on the jobs of the past.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Queen, fresh_seed,
    policies::{PolicyDryRun, aside, try_all},
    time_since,
};
use crate::{
    error::{Error, ErrorKind, Result},
    policy_source::PolicySource,
    registry::JobFilter,
    scheduler::{Ask, Scheduler},
    sim::{Fleet, JobSketch, Recording, Replay, ReplayReport, Trace},
    tenant::TenantLimits,
    time::{Now, WallTime},
};

/// Jobs that are read at once.
const PAGE: usize = 1_000;
/// How long a replay waits for the one before it: long enough for one whose caller has just gone away.
const TURN: Duration = Duration::from_secs(5);

/// What a policy would have made of the jobs of the past, beside the one in force.
#[derive(Clone, Debug)]
pub struct PolicyReplay {
    /// The time that was asked for, from now backwards.
    pub since: Duration,
    /// When the first of the jobs came.
    pub from: WallTime,
    /// There are older jobs in that time; no more are replayed at once (setting `replay_jobs`).
    pub is_cut: bool,
    /// Of the jobs, those that waited in vain or failed before they ran; they are replayed with the median of their model.
    pub estimated: usize,
    /// Of the jobs, those that an older version recorded, without prefixes, deadline and longest answer.
    pub without_outline: usize,
    /// Recorded jobs that were passed over, by what became of them: see [`Recorded::left_out`](crate::sim::Recorded).
    pub left_out: BTreeMap<String, usize>,
    /// What the policy in force makes of them.
    pub current: ReplayReport,
    /// What the other one does.
    pub candidate: ReplayReport,
}

impl PolicyReplay {
    /// Recorded jobs that were passed over.
    pub fn passed_over(&self) -> usize {
        self.left_out.values().sum()
    }
}

impl Queen {
    /// Reads a policy and tries it on a described fleet, or a described job, or both; what is not described is as it is
    /// now.
    ///
    /// # Errors
    /// As for [`check_policy`](Self::check_policy), and [`ErrorKind::InvalidRequest`] for what the description gets wrong.
    pub async fn check_policy_on(
        &self,
        source: PolicySource,
        fleet: Option<Fleet>,
        job: Option<JobSketch>,
    ) -> Result<PolicyDryRun> {
        if fleet.is_none() && job.is_none() {
            return self.check_policy(source).await;
        }
        let scheduler = self.compile(source).await?;
        let cluster = match &fleet {
            Some(fleet) => fleet.view()?,
            None => self.cluster().await?,
        };
        let now = match &fleet {
            // Nothing has happened on a described fleet yet.
            Some(_) => Now { at: crate::time::Time::default(), wall: WallTime::now() },
            None => Now { at: time_since(self.shared.began), wall: WallTime::now() },
        };
        let questions = match job {
            Some(mut sketch) => {
                // A described fleet may have a model under the very name that is an alias here.
                let is_known = cluster.with_model(&sketch.model).next().is_some()
                    || cluster.hives().any(|hive| hive.models.contains_key(&sketch.model));
                if !is_known {
                    sketch.model = self.resolve(sketch.model.as_str())?;
                }
                let job = Arc::new(sketch.job(&self.shared.settings, fresh_seed())?);
                vec![(false, Ask::first(job, now, fresh_seed()))]
            }
            None => self.questions(&cluster, now)?,
        };
        aside(move || try_all(&*scheduler, questions, now, &cluster)).await?
    }

    /// The same, with the descriptions as texts in YAML: see [`Fleet`] and [`JobSketch`] for what stands in them.
    ///
    /// # Errors
    /// As for [`check_policy_on`](Self::check_policy_on); [`ErrorKind::Unsupported`] where this build reads no YAML
    /// (feature `rules`).
    pub async fn check_policy_described(
        &self,
        source: PolicySource,
        fleet: Option<&str>,
        job: Option<&str>,
    ) -> Result<PolicyDryRun> {
        #[cfg(feature = "rules")]
        let (fleet, job) =
            (fleet.map(Fleet::from_yaml).transpose()?, job.map(JobSketch::from_yaml).transpose()?);
        #[cfg(not(feature = "rules"))]
        let (None, None) = (fleet, job) else {
            let message = "this build reads no descriptions in YAML (feature rules)";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        #[cfg(not(feature = "rules"))]
        let (fleet, job) = (None, None);
        self.check_policy_on(source, fleet, job).await
    }

    /// Runs the jobs of the last `since` through a policy and through the one in force, in virtual time, on the fleet as
    /// it is now with every worker idle: they arrive, run and write as they did. Nothing is changed.
    ///
    /// It ends soon after its future is dropped.
    ///
    /// # Errors
    /// As for [`check_policy`](Self::check_policy); [`ErrorKind::NotFound`] where no job of that time can be replayed,
    /// [`ErrorKind::Conflict`] while another replay runs, [`ErrorKind::JobTimeout`] where it takes longer than the
    /// setting `replay_limit` allows.
    pub async fn replay_policy(
        &self,
        source: PolicySource,
        since: Duration,
    ) -> Result<PolicyReplay> {
        let turn = self.turn().await?;
        let candidate = as_replayed(self.compile(source).await?);
        let current = as_replayed(self.scheduler());
        let (recording, is_cut) = self.jobs_since(since).await?;
        let mut replay = Replay::new(self.fleet_at_rest().await?, Trace::default());
        replay.settings = self.settings().clone();
        // Whose quota held then is not asked again; what counts here is who has which share.
        let share =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        replay.settings.mode = crate::settings::Mode::Home;
        replay.settings.default_limits = share(&replay.settings.default_limits);
        let tenants = self.tenants().await?;
        replay.tenants = tenants.into_iter().map(|of| (of.id, share(&of.limits))).collect();
        replay.built_in = self.shared.built_in.clone();
        // Whoever asked may go away; what runs aside does not know of it by itself.
        let stop = self.shared.kill.child_token();
        let _dropped = stop.clone().drop_guard();
        let (began, limit) = (Instant::now(), self.settings().replay_limit);
        let may_go_on = move || {
            if stop.is_cancelled() {
                let message = "the replay was given up by whoever asked for it";
                return Err(Error::new(ErrorKind::Cancelled, message));
            }
            if began.elapsed() > limit {
                let message = format!(
                    "the replay took longer than {limit:?} (setting replay_limit); a shorter time to look back at has fewer jobs"
                );
                return Err(Error::new(ErrorKind::JobTimeout, message));
            }
            Ok(())
        };
        let run = move || {
            let _turn = turn;
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
                replay.run_while(scheduler, &may_go_on).map_err(|error| match error.kind() {
                    ErrorKind::Internal => error.context("the replay did not come to its end"),
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
        aside(run).await?
    }

    /// The right to replay: one at a time, for each takes a processor and the memory of all its jobs.
    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        match timeout(TURN, self.shared.replays.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                let message = "another replay is running; one runs at a time";
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    /// The fleet as it is now. What the workers keep computed is of the jobs that are to come.
    async fn fleet_at_rest(&self) -> Result<Fleet> {
        let mut fleet = Fleet::of(&self.cluster().await?);
        for worker in fleet.hives.iter_mut().flat_map(|hive| &mut hive.workers) {
            worker.warm.clear();
        }
        Ok(fleet)
    }

    /// The newest jobs of that time, and whether there are more.
    async fn jobs_since(&self, since: Duration) -> Result<(Recording, bool)> {
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let from = WallTime::from_millis(WallTime::now().as_millis().saturating_sub(since));
        let most = self.settings().replay_jobs;
        let mut recording = Recording::default();
        let mut before = None;
        let mut read = 0;
        loop {
            let filter = JobFilter { before, limit: PAGE, ..JobFilter::default() };
            let mut page = self.jobs(&filter).await?;
            let is_last =
                page.len() < PAGE || page.last().is_none_or(|record| record.submitted_at < from);
            page.retain(|record| record.submitted_at >= from);
            let room = most - read;
            let is_cut = page.len() > room || (page.len() == room && !is_last);
            page.truncate(room);
            before = page.last().map(|record| record.order);
            read += page.len();
            recording = aside(move || {
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

/// The policy as a replay asks it.
fn as_replayed(scheduler: Arc<dyn Scheduler>) -> Arc<dyn Scheduler> {
    scheduler.for_replay().unwrap_or(scheduler)
}
