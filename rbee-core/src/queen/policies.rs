//! The policy in force and those before it: checked, tried, put in force, put back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Queen, decisions::Decision, fresh_seed, mailbox::Message, policy::guarded, time_since,
};
use crate::{
    Ask, Change, ClusterView, Error, ErrorKind, Explanation, Job, JobId, LeastLoaded, ModelRef,
    Now, PolicyHealth, PolicyLanguage, PolicyOrigin, PolicyRecord, PolicySource, Registry, Request,
    Result, Scheduler, WallTime,
};

/// The longest text of a policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 << 10;

/// Recent jobs that a policy is tried on before it comes into force.
const RECENT_TRIALS: usize = 32;
/// Models of the fleet that it is tried on.
const MODEL_TRIALS: usize = 16;
/// How long all trials may take together.
const TRIALS_PATIENCE: Duration = Duration::from_secs(10);

/// The policy in force.
#[derive(Clone, Debug)]
pub struct PolicyStatus {
    /// What people know it by.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Its number, where it is a recorded one.
    pub version: Option<u64>,
    /// Its text; none for a policy that is compiled in.
    pub source: Option<PolicySource>,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    pub hash: Option<String>,
    /// How it fares.
    pub health: PolicyHealth,
    /// It cannot be changed while the queen runs.
    pub is_fixed: bool,
}

/// A policy that was read and tried, and that nothing was found against.
#[derive(Clone, Debug)]
pub struct PolicyTrial {
    /// What people know it by.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// What it would decide now, for recent jobs and for a job of each model.
    pub decisions: Vec<TrialDecision>,
}

/// What a policy would decide.
#[derive(Clone, Debug)]
pub struct TrialDecision {
    /// The job it was asked about.
    pub job: Arc<Job>,
    /// It is one that was really submitted.
    pub is_recent: bool,
    /// The decision, and how it came about.
    pub explanation: Explanation,
}

/// Makes a scheduler of a text.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] that names line, column and what is wrong; [`ErrorKind::Unsupported`] where this build
/// has no policies that are written as text (feature `rhai`).
pub(super) fn compile(source: &PolicySource, built_in: &LeastLoaded) -> Result<Arc<dyn Scheduler>> {
    if source.text.len() > MAX_POLICY_BYTES {
        let message = format!(
            "the policy has {} bytes; allowed are at most {MAX_POLICY_BYTES}",
            source.text.len()
        );
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    #[cfg(feature = "rhai")]
    {
        let scheduler = crate::RhaiScheduler::from_source(source.clone())?;
        Ok(Arc::new(scheduler.with_builtin(built_in.clone())))
    }
    #[cfg(not(feature = "rhai"))]
    let _ = built_in;
    #[cfg(not(feature = "rhai"))]
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("this build reads no policies in {} (feature rhai)", source.language.as_str()),
    ))
}

fn hash(source: &PolicySource) -> String {
    let digest = Sha256::digest(source.text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in force when the queen starts: the policy that the application brings, or the newest recorded one where
/// the application brings none that is written as text, or one that was recorded already before.
pub(super) async fn first(
    registry: &dyn Registry,
    epoch: crate::Epoch,
    own: Arc<dyn Scheduler>,
    built_in: &LeastLoaded,
    is_fixed: bool,
) -> Result<(Arc<dyn Scheduler>, Option<u64>)> {
    if is_fixed {
        return Ok((own, None));
    }
    let recorded = registry.policies().await?;
    let newest_own = recorded.iter().rev().find(|one| one.origin == PolicyOrigin::Application);
    match own.source() {
        Some(source) if newest_own.is_none_or(|before| before.hash != hash(&source)) => {
            let record = record(registry, epoch, source, PolicyOrigin::Application).await?;
            Ok((own, Some(record.version)))
        }
        source => {
            let Some(newest) = recorded.last() else { return Ok((own, None)) };
            if source.is_some_and(|source| hash(&source) == newest.hash) {
                return Ok((own, Some(newest.version)));
            }
            match compile(&newest.source, built_in) {
                Ok(scheduler) => Ok((scheduler, Some(newest.version))),
                Err(error) => {
                    tracing::error!(version = newest.version, %error, "the recorded policy is not understood; the application's own is in force");
                    Ok((own, None))
                }
            }
        }
    }
}

/// Writes the next version.
async fn record(
    registry: &dyn Registry,
    epoch: crate::Epoch,
    source: PolicySource,
    origin: PolicyOrigin,
) -> Result<PolicyRecord> {
    let newest = registry.policies().await?.last().map_or(0, |newest| newest.version);
    let record = PolicyRecord {
        version: newest + 1,
        at: WallTime::now(),
        hash: hash(&source),
        origin,
        source,
    };
    registry.record(epoch, &[Change::PolicyPut(Box::new(record.clone()))]).await?;
    // Another queen of the same store may have taken the number in the meantime.
    let stored = registry.policies().await?;
    if stored.iter().any(|one| one.version == record.version && one.hash == record.hash) {
        return Ok(record);
    }
    let message = "another queen changed the policy at the same moment; look at it, and try again";
    Err(Error::new(ErrorKind::Conflict, message))
}

impl Queen {
    /// The policy in force, and how it fares.
    pub fn policy(&self) -> PolicyStatus {
        let in_force = self.shared.reign.look();
        let source = in_force.scheduler.source();
        PolicyStatus {
            name: in_force.scheduler.name(),
            description: in_force.scheduler.description(),
            version: in_force.version,
            hash: source.as_ref().map(hash),
            source,
            health: in_force.health,
            is_fixed: self.is_policy_fixed(),
        }
    }

    fn is_policy_fixed(&self) -> bool {
        self.shared.fixed_policy
    }

    /// Every version that is kept, the newest last. The newest is the one in force, unless the application brought
    /// another that is not written as text.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>> {
        self.shared.registry.policies().await
    }

    /// Reads a policy and tries it, and puts nothing in force: on the last jobs, and on a job of each model, with the
    /// fleet as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where it is not understood, with line and column, or fails a trial, with the
    /// question that it failed.
    pub async fn check_policy(&self, source: PolicySource) -> Result<PolicyTrial> {
        let scheduler = self.compile(source).await?;
        self.try_out(scheduler).await
    }

    /// Puts a policy in force, for every decision from now on and after a restart. It is checked and tried
    /// [first](Self::check_policy); where anything is wrong the old one stays.
    ///
    /// # Errors
    /// As for [`check_policy`](Self::check_policy); [`ErrorKind::PermissionDenied`] where the policy is fixed,
    /// [`ErrorKind::Storage`] where the version could not be recorded.
    pub async fn set_policy(
        &self,
        source: PolicySource,
        origin: PolicyOrigin,
    ) -> Result<PolicyStatus> {
        if self.is_policy_fixed() {
            let message = "the policy is built in and cannot be changed (mode platform)";
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        let _alone = self.shared.policy_change.lock().await;
        let scheduler = self.compile(source.clone()).await?;
        self.try_out(scheduler.clone()).await?;
        let epoch = self.look(|engine| engine.epoch()).await?;
        let record = record(&*self.shared.registry, epoch, source, origin).await?;
        let message =
            |reply| Message::SetPolicy { scheduler, version: Some(record.version), reply };
        self.shared.mailbox.ask(message).await??;
        tracing::info!(version = record.version, hash = %record.hash, origin = origin.as_str(), "the policy was changed");
        Ok(self.policy())
    }

    /// Puts an earlier version back in force, as a new one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it is not kept, and as for [`set_policy`](Self::set_policy).
    pub async fn roll_back_policy(&self, version: u64) -> Result<PolicyStatus> {
        let recorded = self.policies().await?;
        let Some(found) = recorded.into_iter().find(|one| one.version == version) else {
            let message = format!("there is no version {version} of the policy");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        self.set_policy(found.source, PolicyOrigin::Rollback).await
    }

    /// How the job came to where it is: every decision about it that is still kept, with its reasons.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where none is kept.
    pub async fn why(&self, job: JobId) -> Result<Vec<Decision>> {
        let kept = self.shared.decisions.of(job);
        if kept.is_empty() {
            let message = format!(
                "no decision about job {job} is kept; those of the last jobs are (setting decisions_kept)"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        aside(move || kept.into_iter().map(super::decisions::Kept::explain).collect()).await
    }

    pub(super) async fn compile(&self, source: PolicySource) -> Result<Arc<dyn Scheduler>> {
        let built_in = self.shared.built_in.clone();
        aside(move || compile(&source, &built_in)).await?
    }

    async fn try_out(&self, scheduler: Arc<dyn Scheduler>) -> Result<PolicyTrial> {
        let cluster = self.cluster().await?;
        let now = Now { at: time_since(self.shared.began), wall: WallTime::now() };
        let mut jobs = BTreeSet::new();
        let recent = self.shared.decisions.recent(RECENT_TRIALS).into_iter();
        let recent = recent.filter(|ask| jobs.insert(ask.job.id)).map(|ask| (true, ask));
        let mut questions: Vec<(bool, Ask)> = recent.collect();
        questions.extend(self.questions(&cluster, now)?);
        aside(move || try_all(&*scheduler, questions, now, &cluster)).await?
    }
}

impl Queen {
    /// A question about a job for each model of the fleet.
    pub(super) fn questions(&self, cluster: &ClusterView, now: Now) -> Result<Vec<(bool, Ask)>> {
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
        if models.len() == MODEL_TRIALS {
            break;
        }
        models.insert(model.clone());
    }
    models
}

pub(super) fn try_all(
    scheduler: &dyn Scheduler,
    questions: Vec<(bool, Ask)>,
    now: Now,
    cluster: &ClusterView,
) -> Result<PolicyTrial> {
    let began = Instant::now();
    let mut decisions = Vec::new();
    for (is_recent, ask) in questions {
        let ask = Ask { now, ..ask };
        let explanation = guarded(|| {
            if scheduler.admits() {
                scheduler.admit(&ask, cluster)?;
            }
            let explanation = scheduler.explain(&ask, cluster);
            explanation.placement.clone().map(|_| explanation)
        });
        let explanation = explanation.map_err(|error| {
            let what = if is_recent { "recent job" } else { "job for model" };
            let which = if is_recent { ask.job.id.to_string() } else { ask.job.model.to_string() };
            let message = format!("the policy fails on a trial, {what} {which}: {error}");
            Error::new(ErrorKind::InvalidRequest, message).with_source(error)
        })?;
        decisions.push(TrialDecision { job: ask.job, is_recent, explanation });
        if began.elapsed() > TRIALS_PATIENCE {
            break;
        }
    }
    Ok(PolicyTrial { name: scheduler.name(), description: scheduler.description(), decisions })
}

/// Runs what may take its time off the async threads.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| {
        Error::new(ErrorKind::Internal, "the scheduler's code panicked").with_source(cause)
    })
}

impl PolicySource {
    /// The same policy in another language: rules can be had as the script that they mean.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where it cannot be had in that language.
    pub fn in_language(&self, wanted: PolicyLanguage) -> Result<Arc<str>> {
        if self.language == wanted {
            return Ok(self.text.clone());
        }
        #[cfg(feature = "rhai")]
        if self.language == PolicyLanguage::Yaml {
            return Ok(crate::rules_to_rhai(&self.text)?.into());
        }
        let message = format!(
            "the policy is written in {}, and cannot be had in {}",
            self.language.as_str(),
            wanted.as_str()
        );
        Err(Error::new(ErrorKind::InvalidRequest, message))
    }

    /// A policy whose language is told by the name of its file: `.rhai`, `.yaml` or `.yml`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for any other name.
    pub fn named(file: &str, text: impl Into<Arc<str>>) -> Result<Self> {
        let extension = file.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let language = match extension.as_str() {
            "rhai" => PolicyLanguage::Rhai,
            "yaml" | "yml" => PolicyLanguage::Yaml,
            _ => {
                let message = format!(
                    "the policy {file:?} is in no known language; allowed are names that end in .rhai, .yaml or .yml"
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        };
        Ok(Self { language, text: text.into() })
    }
}
