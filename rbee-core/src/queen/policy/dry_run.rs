//! The dry run of a policy before it is used: on recent jobs, and on a job for each model.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Policy, run_blocking};
use crate::{
    cluster::ClusterView,
    engine::guarded,
    error::{Error, ErrorKind, Result},
    job::Job,
    model_ref::ModelRef,
    policy_source::PolicySource,
    queen::fresh_seed,
    request::Request,
    scheduler::{Ask, Explanation, Scheduler},
    sim::{Fleet, JobSketch},
    time::{Now, Time, WallTime},
};

/// The number of recent jobs in a dry run.
const RECENT_DRY_RUNS: usize = 32;
/// The maximum number of models of the fleet in a dry run.
const MODEL_DRY_RUNS: usize = 16;
/// The time limit of a whole dry run.
const DRY_RUN_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a successful dry run of a policy.
#[derive(Clone, Debug)]
pub struct PolicyDryRun {
    /// The name of the policy, for people.
    pub name: String,
    /// A sentence that says what the policy does.
    pub description: String,
    /// The decisions that it would make now, about recent jobs and about a job for each model.
    pub decisions: Vec<DryRunDecision>,
}

/// A decision that a policy would make.
#[derive(Clone, Debug)]
pub struct DryRunDecision {
    /// The job that the decision is about.
    pub job: Arc<Job>,
    /// True if the job was really submitted.
    pub is_recent: bool,
    /// The decision, with its reasons.
    pub explanation: Explanation,
}

impl Policy<'_> {
    /// Compiles a policy and does a dry run, without activating it: on recent jobs, and on a job for each model, with
    /// the present fleet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the policy does not compile, with line and column, or fails in the dry run,
    /// with the job that it failed on.
    pub async fn check(self, source: PolicySource) -> Result<PolicyDryRun> {
        let scheduler = self.compile(source).await?;
        self.dry_run(scheduler).await
    }

    /// Compiles a policy and does a dry run on a described fleet, a described job, or both. The present fleet, or a job
    /// for each of its models, is used for what is `None`.
    ///
    /// # Errors
    /// As for [`check`](Self::check), and [`ErrorKind::InvalidRequest`] for an invalid description.
    pub async fn check_on(
        self,
        source: PolicySource,
        fleet: Option<Fleet>,
        job: Option<JobSketch>,
    ) -> Result<PolicyDryRun> {
        if fleet.is_none() && job.is_none() {
            return self.check(source).await;
        }
        let scheduler = self.compile(source).await?;
        let cluster = match &fleet {
            Some(fleet) => fleet.view()?,
            None => self.queen.cluster().await?,
        };
        let now = match &fleet {
            // Nothing has happened on a described fleet yet.
            Some(_) => Now { at: Time::default(), wall: WallTime::now() },
            None => self.queen.now(),
        };
        let questions = match job {
            Some(mut sketch) => {
                // A described fleet may have a model whose name is an alias here.
                let is_known = cluster.with_model(&sketch.model).next().is_some()
                    || cluster.hives().any(|hive| hive.models.contains_key(&sketch.model));
                if !is_known {
                    sketch.model = self.queen.models().resolve(sketch.model.as_str())?;
                }
                let job = Arc::new(sketch.job(&self.queen.shared.settings, fresh_seed())?);
                vec![(false, Ask::first(job, now, fresh_seed()))]
            }
            None => self.model_questions(&cluster, now)?,
        };
        run_blocking(move || ask_all(&*scheduler, questions, now, &cluster)).await?
    }

    /// [`check_on`](Self::check_on) with the descriptions as texts in YAML; see [`Fleet`] and [`JobSketch`] for their
    /// contents.
    ///
    /// # Errors
    /// As for [`check_on`](Self::check_on); [`ErrorKind::Unsupported`] if this build cannot read YAML (feature
    /// `rules`).
    pub async fn check_described(
        self,
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
        self.check_on(source, fleet, job).await
    }

    /// Asks a scheduler about recent jobs and about a job for each model of the present fleet.
    pub(super) async fn dry_run(self, scheduler: Arc<dyn Scheduler>) -> Result<PolicyDryRun> {
        let cluster = self.queen.cluster().await?;
        let now = self.queen.now();
        let recent = self.queen.shared.decisions.recent(RECENT_DRY_RUNS).into_iter();
        let mut questions: Vec<(bool, Ask)> = recent.map(|ask| (true, ask)).collect();
        questions.extend(self.model_questions(&cluster, now)?);
        run_blocking(move || ask_all(&*scheduler, questions, now, &cluster)).await?
    }

    /// A question about a job for each model of the fleet.
    fn model_questions(self, cluster: &ClusterView, now: Now) -> Result<Vec<(bool, Ask)>> {
        let models = models(cluster).into_iter();
        let questions = models.map(|model| {
            let request = Request::completion(model.as_str(), "dry run");
            let job = request.into_job(model, &self.queen.shared.settings, fresh_seed())?;
            Ok((false, Ask::first(Arc::new(job), now, fresh_seed())))
        });
        questions.collect()
    }
}

/// The models of this fleet, at most [`MODEL_DRY_RUNS`].
fn models(cluster: &ClusterView) -> BTreeSet<ModelRef> {
    let loaded = cluster.workers().map(|worker| &worker.info.model);
    let on_disk = cluster.hives().flat_map(|hive| hive.models.keys());
    let mut models = BTreeSet::new();
    for model in loaded.chain(on_disk) {
        if models.len() == MODEL_DRY_RUNS {
            break;
        }
        models.insert(model.clone());
    }
    models
}

/// Asks a scheduler all questions, each with `true` if its job was really submitted, until the time limit.
fn ask_all(
    scheduler: &dyn Scheduler,
    questions: Vec<(bool, Ask)>,
    now: Now,
    cluster: &ClusterView,
) -> Result<PolicyDryRun> {
    let (began, info) = (Instant::now(), scheduler.info());
    let mut decisions = Vec::new();
    for (is_recent, ask) in questions {
        let ask = Ask { now, ..ask };
        let decide = || {
            if info.admits {
                scheduler.admit(&ask, cluster)?;
            }
            // An explanation may take longer, but the decision itself must come within the time limit of a decision.
            scheduler.place(&ask, cluster)?;
            let explanation = scheduler.explain(&ask, cluster);
            explanation.placement.clone().map(|_| explanation)
        };
        // A second try, because the machine may have been busy for a moment.
        let explanation = guarded(decide).or_else(|_| guarded(decide));
        let explanation = explanation.map_err(|error| {
            let what = if is_recent { "recent job" } else { "job for model" };
            let which = if is_recent { ask.job.id.to_string() } else { ask.job.model.to_string() };
            let message = format!("the policy fails in the dry run, {what} {which}: {error}");
            Error::new(ErrorKind::InvalidRequest, message).with_source(error)
        })?;
        decisions.push(DryRunDecision { job: ask.job, is_recent, explanation });
        if began.elapsed() > DRY_RUN_TIMEOUT {
            break;
        }
    }
    Ok(PolicyDryRun { name: info.name, description: info.description, decisions })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{scheduler::Placement, settings::Settings};

    /// A scheduler whose first `late` decisions take too long.
    #[derive(Debug)]
    struct Slow {
        late: usize,
        asked: AtomicUsize,
    }

    impl Scheduler for Slow {
        fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
            match self.asked.fetch_add(1, Ordering::SeqCst) < self.late {
                true => Err(Error::new(ErrorKind::Internal, "it took longer than 50ms")),
                false => Ok(Placement::Wait),
            }
        }
        fn explain(&self, _: &Ask, _: &ClusterView) -> Explanation {
            Explanation {
                placement: Ok(Placement::Wait),
                steps: Vec::new(),
                candidates: Vec::new(),
            }
        }
    }

    #[test]
    fn a_policy_has_no_more_time_in_a_dry_run_than_for_decisions() {
        let job = Request::completion("m", "x");
        let job = job.into_job("m".parse().unwrap(), &Settings::default(), 1).unwrap();
        let ask = Ask::first(Arc::new(job), Now::default(), 1);
        let dry_run = |late| {
            let slow = Slow { late, asked: AtomicUsize::new(0) };
            let questions = vec![(false, ask.clone())];
            ask_all(&slow, questions, Now::default(), &ClusterView::default())
        };
        let error = dry_run(usize::MAX).unwrap_err();
        assert!(error.message().contains("job for model m: "), "{error}");
        assert!(error.message().contains("longer than 50ms"), "{error}");
        let result = dry_run(1).expect("a policy that was late once may have met a busy moment");
        assert_eq!(result.decisions.len(), 1);
    }
}
