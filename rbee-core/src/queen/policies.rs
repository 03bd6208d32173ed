//! The policy in force and those before it: checked, tried, put in force, put back.

use std::sync::{Arc, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::{Queen, decision_history::Decision, inbox::Message, policy::Ready};
use crate::{
    error::{Error, ErrorKind, Result},
    id::JobId,
    policy_source::{PolicyLanguage, PolicySource},
    queen::PolicyHealth,
    registry::{PolicyFilter, PolicyOrigin, PolicyRecord},
    scheduler::{LeastLoaded, Scheduler},
};

mod dry_run;
mod start;

pub(super) use dry_run::try_all;
pub use dry_run::{DryRunDecision, PolicyDryRun};
pub(super) use start::{ApplicationPolicy, first};

use start::{hash, record};

/// The longest text of a policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 << 10;

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
        let scheduler = crate::scheduler::RhaiScheduler::from_source(source.clone())?;
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

impl Queen {
    /// The policy in force, and how it fares.
    pub fn policy(&self) -> PolicyStatus {
        let in_force = self.shared.reign.look();
        let info = in_force.scheduler.info();
        PolicyStatus {
            name: info.name,
            description: info.description,
            version: in_force.version,
            hash: info.source.as_ref().map(hash),
            source: info.source,
            health: in_force.health,
            is_fixed: self.is_policy_fixed(),
        }
    }

    fn is_policy_fixed(&self) -> bool {
        self.shared.fixed_policy
    }

    /// The versions that are kept, the newest last: the last [`POLICIES_KEPT`](crate::registry::POLICIES_KEPT). Which of them is in
    /// force, if any is, [`policy`](Self::policy) tells.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>> {
        self.shared.registry.policies(&PolicyFilter::default()).await
    }

    /// One version, with its text.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it is not kept.
    pub async fn policy_version(&self, version: u64) -> Result<PolicyRecord> {
        let missing = || {
            let message = format!(
                "there is no version {version} of the policy; the last {} are kept",
                crate::registry::POLICIES_KEPT
            );
            Error::new(ErrorKind::NotFound, message)
        };
        let found = self.shared.registry.policies(&PolicyFilter::one(version)).await?;
        found.into_iter().next().ok_or_else(missing)
    }

    /// Reads a policy and tries it, and puts nothing in force: on the last jobs, and on a job of each model, with the
    /// fleet as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where it is not understood, with line and column, or fails a trial, with the
    /// question that it failed.
    pub async fn check_policy(&self, source: PolicySource) -> Result<PolicyDryRun> {
        let scheduler = self.compile(source).await?;
        self.try_out(scheduler).await
    }

    /// Puts a policy in force, for every decision from now on. It is checked and tried [first](Self::check_policy); where
    /// anything is wrong the old one stays. Once it is recorded it comes into force, whether or not the caller still waits.
    ///
    /// After a restart it is in force again, unless the application then brings a scheduler that is compiled in, or a
    /// text that was not recorded before; one of the [origin](PolicyOrigin) `Application` is so only as long as the
    /// application brings it.
    ///
    /// # Errors
    /// As for [`check_policy`](Self::check_policy); [`ErrorKind::PermissionDenied`] where the policy is fixed,
    /// [`ErrorKind::Storage`] where the version could not be recorded.
    pub async fn set_policy(
        &self,
        source: PolicySource,
        origin: PolicyOrigin,
    ) -> Result<PolicyStatus> {
        let alone = self.begin_change().await?;
        let scheduler = self.compile(source.clone()).await?;
        self.try_out(scheduler.clone()).await?;
        self.change(alone, scheduler, source, origin).await
    }

    /// Puts an earlier version back in force, as a new one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it is not kept, and as for [`set_policy`](Self::set_policy).
    pub async fn roll_back_policy(&self, version: u64) -> Result<PolicyStatus> {
        let found = self.policy_version(version).await?;
        if found.origin == PolicyOrigin::Reset {
            return self.reset_policy().await;
        }
        self.set_policy(found.source, PolicyOrigin::Rollback).await
    }

    /// Puts back in force what the application brings: its own scheduler, or the built-in policy where it has set none.
    /// It is recorded as a new version, so that it holds after a restart too.
    ///
    /// ```
    /// use rbee_core::{registry::PolicyOrigin, scheduler::PolicySource, Queen};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    ///
    /// let queen = Queen::builder().build().await?;
    /// # #[cfg(feature = "rhai")] {
    /// let mine = PolicySource::named("mine.rhai", "fn schedule(job, workers, hives) { wait() }")?;
    /// queen.set_policy(mine, PolicyOrigin::Operator).await?;
    /// # }
    /// assert_eq!(queen.reset_policy().await?.name, "least-loaded");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] where the policy is fixed, [`ErrorKind::Storage`] where the version could not be
    /// recorded.
    pub async fn reset_policy(&self) -> Result<PolicyStatus> {
        let alone = self.begin_change().await?;
        let scheduler =
            self.shared.own_policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let nothing = PolicySource { language: PolicyLanguage::Rhai, text: "".into() };
        self.change(alone, scheduler, nothing, PolicyOrigin::Reset).await
    }

    /// One change at a time.
    async fn begin_change(&self) -> Result<OwnedMutexGuard<()>> {
        if self.is_policy_fixed() {
            let message = "the policy is fixed and cannot be changed (mode platform, or as the application wants it)";
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        Ok(self.shared.policy_change.clone().lock_owned().await)
    }

    /// Records a policy and puts it in force, both or neither: in a task of its own, so that a caller who goes away does
    /// not leave one without the other. What may fail without the store comes first.
    async fn change(
        &self,
        alone: OwnedMutexGuard<()>,
        scheduler: Arc<dyn Scheduler>,
        source: PolicySource,
        origin: PolicyOrigin,
    ) -> Result<PolicyStatus> {
        let policy = Ready::new(scheduler.clone())?;
        let queen = self.clone();
        let changed = tokio::spawn(async move {
            let _alone = alone;
            let shared = &queen.shared;
            let epoch = queen.look(|engine| engine.epoch()).await?;
            let record = record(&*shared.registry, epoch, source, origin).await?;
            let version = Some(record.version);
            shared.inbox.ask(|reply| Message::SetPolicy { policy, version, reply }).await?;
            if origin == PolicyOrigin::Application {
                *shared.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = scheduler;
            }
            tracing::info!(version = record.version, hash = %record.hash, origin = origin.as_str(), "the policy was changed");
            Ok::<_, Error>(queen.policy())
        });
        changed.await.unwrap_or_else(|cause| {
            let message = "the change of the policy broke off";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })
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
        aside(move || {
            kept.into_iter().map(super::decision_history::HistoryEntry::explain).collect()
        })
        .await
    }

    pub(super) async fn compile(&self, source: PolicySource) -> Result<Arc<dyn Scheduler>> {
        let built_in = self.shared.built_in.clone();
        aside(move || compile(&source, &built_in)).await?
    }
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
        #[cfg(feature = "rules")]
        if self.language == PolicyLanguage::Yaml {
            return Ok(crate::scheduler::rules_to_rhai(&self.text)?.into());
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
