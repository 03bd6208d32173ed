//! Policies on other fleets than the present one, and on the jobs of the past.

use std::{sync::Arc, time::Duration};

use super::{
    Queen, fresh_seed,
    policies::{PolicyTrial, aside, try_all},
    time_since,
};
use crate::{
    Ask, Error, ErrorKind, JobFilter, JobRecord, Now, PolicySource, Result, Scheduler,
    TenantLimits, WallTime,
    sim::{Fleet, JobSketch, Replay, ReplayReport, Trace},
};

/// The most jobs that are replayed: the newest.
const MOST_JOBS: usize = 100_000;
/// Jobs that are read at once.
const PAGE: usize = 1_000;

/// What a policy would have made of the jobs of the past, beside the one in force.
#[derive(Clone, Debug)]
pub struct PolicyReplay {
    /// The time that was looked at, from now backwards.
    pub since: Duration,
    /// Recorded jobs that were passed over, because they did not end properly.
    pub passed_over: usize,
    /// What the policy in force makes of them.
    pub current: ReplayReport,
    /// What the other one does.
    pub candidate: ReplayReport,
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
    ) -> Result<PolicyTrial> {
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
            Some(_) => Now { at: crate::Time::default(), wall: WallTime::now() },
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
    /// (feature `rhai`).
    pub async fn check_policy_described(
        &self,
        source: PolicySource,
        fleet: Option<&str>,
        job: Option<&str>,
    ) -> Result<PolicyTrial> {
        #[cfg(feature = "rhai")]
        let (fleet, job) =
            (fleet.map(Fleet::from_yaml).transpose()?, job.map(JobSketch::from_yaml).transpose()?);
        #[cfg(not(feature = "rhai"))]
        let (None, None) = (fleet, job) else {
            let message = "this build reads no descriptions in YAML (feature rhai)";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        #[cfg(not(feature = "rhai"))]
        let (fleet, job) = (None, None);
        self.check_policy_on(source, fleet, job).await
    }

    /// Runs the jobs of the last `since` through a policy and through the one in force, in virtual time, on the fleet as
    /// it is now with every worker idle: they arrive, run and write as they did. Nothing is changed.
    ///
    /// # Errors
    /// As for [`check_policy`](Self::check_policy); [`ErrorKind::NotFound`] where no job has ended in that time.
    pub async fn replay_policy(
        &self,
        source: PolicySource,
        since: Duration,
    ) -> Result<PolicyReplay> {
        let candidate = self.compile(source).await?;
        let (trace, passed_over) = Trace::from_records(&self.jobs_since(since).await?);
        if trace.arrivals.is_empty() {
            let message = format!(
                "no job has ended properly in the last {since:?}; there is nothing to replay"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let current = self.scheduler();
        let mut replay = Replay::new(Fleet::of(&self.cluster().await?), trace);
        replay.settings = self.settings().clone();
        // Whose quota held then is not asked again; what counts here is who has which share.
        let share =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        replay.settings.mode = crate::Mode::Home;
        replay.settings.default_limits = share(&replay.settings.default_limits);
        let tenants = self.tenants().await?;
        replay.tenants = tenants.into_iter().map(|of| (of.id, share(&of.limits))).collect();
        let run = move || {
            let run = |scheduler: &dyn Scheduler| {
                replay.run(scheduler).map_err(|why| {
                    Error::new(
                        ErrorKind::Internal,
                        format!("the replay did not come to its end: {why}"),
                    )
                })
            };
            Ok::<_, Error>((run(&*current)?, run(&*candidate)?))
        };
        let (current, candidate) = aside(run).await??;
        Ok(PolicyReplay { since, passed_over, current, candidate })
    }

    async fn jobs_since(&self, since: Duration) -> Result<Vec<JobRecord>> {
        let from = WallTime::from_millis(
            WallTime::now()
                .as_millis()
                .saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        );
        let mut found = Vec::new();
        let mut before = None;
        while found.len() < MOST_JOBS {
            let filter = JobFilter { before, limit: PAGE, ..JobFilter::default() };
            let page = self.jobs(&filter).await?;
            before = page.last().map(|record| record.order);
            let is_last =
                page.len() < PAGE || page.last().is_none_or(|record| record.submitted_at < from);
            found.extend(page.into_iter().filter(|record| record.submitted_at >= from));
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}
