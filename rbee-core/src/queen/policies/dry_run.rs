//! Trying a policy before it is used: on the last jobs, and on a job of each model.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::aside;
use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    job::Job,
    model_ref::ModelRef,
    queen::{Queen, fresh_seed, policy::guarded, time_since},
    request::Request,
    scheduler::{Ask, Explanation, Scheduler},
    time::{Now, WallTime},
};

/// Recent jobs that a policy is tried on before it comes into force.
const RECENT_DRY_RUNS: usize = 32;
/// Models of the fleet that it is tried on.
const MODEL_DRY_RUNS: usize = 16;
/// How long all trials may take together.
const DRY_RUN_TIMEOUT: Duration = Duration::from_secs(10);

/// A policy that was read and tried, and that nothing was found against.
#[derive(Clone, Debug)]
pub struct PolicyDryRun {
    /// What people know it by.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// What it would decide now, for recent jobs and for a job of each model.
    pub decisions: Vec<DryRunDecision>,
}

/// What a policy would decide.
#[derive(Clone, Debug)]
pub struct DryRunDecision {
    /// The job it was asked about.
    pub job: Arc<Job>,
    /// It is one that was really submitted.
    pub is_recent: bool,
    /// The decision, and how it came about.
    pub explanation: Explanation,
}

impl Queen {
    pub(super) async fn try_out(&self, scheduler: Arc<dyn Scheduler>) -> Result<PolicyDryRun> {
        let cluster = self.cluster().await?;
        let now = Now { at: time_since(self.shared.began), wall: WallTime::now() };
        let recent = self.shared.decisions.recent(RECENT_DRY_RUNS).into_iter();
        let mut questions: Vec<(bool, Ask)> = recent.map(|ask| (true, ask)).collect();
        questions.extend(self.questions(&cluster, now)?);
        aside(move || try_all(&*scheduler, questions, now, &cluster)).await?
    }

    /// A question about a job for each model of the fleet.
    pub(in crate::queen) fn questions(
        &self,
        cluster: &ClusterView,
        now: Now,
    ) -> Result<Vec<(bool, Ask)>> {
        let models = models(cluster).into_iter();
        let questions = models.map(|model| {
            let request = Request::completion(model.as_str(), "trial");
            let job = request.into_job(model, &self.shared.settings, fresh_seed())?;
            Ok((false, Ask::first(Arc::new(job), now, fresh_seed())))
        });
        questions.collect()
    }
}

/// The models of this fleet, a bounded number of them.
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

pub(in crate::queen) fn try_all(
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
            // Explaining may take longer; the decision itself has to come as soon as it will have to.
            scheduler.place(&ask, cluster)?;
            let explanation = scheduler.explain(&ask, cluster);
            explanation.placement.clone().map(|_| explanation)
        };
        // That the machine is busy for a moment is not held against it.
        let explanation = guarded(decide).or_else(|_| guarded(decide));
        let explanation = explanation.map_err(|error| {
            let what = if is_recent { "recent job" } else { "job for model" };
            let which = if is_recent { ask.job.id.to_string() } else { ask.job.model.to_string() };
            let message = format!("the policy fails on a trial, {what} {which}: {error}");
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

    /// Has time for reasons, and so many decisions first that take too long.
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
    fn a_policy_has_no_more_time_for_its_trials_than_for_decisions() {
        let job = Request::completion("m", "x");
        let job = job.into_job("m".parse().unwrap(), &Settings::default(), 1).unwrap();
        let ask = Ask::first(Arc::new(job), Now::default(), 1);
        let tried = |late| {
            let slow = Slow { late, asked: AtomicUsize::new(0) };
            let questions = vec![(false, ask.clone())];
            try_all(&slow, questions, Now::default(), &ClusterView::default())
        };
        let error = tried(usize::MAX).unwrap_err();
        assert!(error.message().contains("job for model m: "), "{error}");
        assert!(error.message().contains("longer than 50ms"), "{error}");
        let trial = tried(1).expect("one that was late once may have met a busy moment");
        assert_eq!(trial.decisions.len(), 1);
    }
}
