//! Changes of the active policy: setting, rolling back and resetting it.

use std::sync::{Arc, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::{Policy, PolicyStatus, start::record};
use crate::{
    error::{Error, ErrorKind, Result},
    policy_source::{PolicyLanguage, PolicySource},
    queen::{active_policy::PreparedPolicy, inbox::Message},
    registry::PolicyOrigin,
    scheduler::Scheduler,
};

impl Policy<'_> {
    /// Activates a policy for all decisions from now on. The policy is [checked](Self::check) first, with a dry run; if
    /// anything is wrong, the old one stays active. Once the new policy is recorded it becomes active, even if the
    /// caller no longer waits.
    ///
    /// It is active again after a restart, unless the application then has a compiled-in scheduler, or a text that was
    /// not recorded before. A policy with the [origin](PolicyOrigin) `Application` is active again only if the
    /// application still has it.
    ///
    /// # Errors
    /// As for [`check`](Self::check); [`ErrorKind::PermissionDenied`] if the policy is fixed, [`ErrorKind::Storage`] if
    /// the version could not be recorded.
    pub async fn set(self, source: PolicySource, origin: PolicyOrigin) -> Result<PolicyStatus> {
        let guard = self.begin_change().await?;
        let scheduler = self.compile(source.clone()).await?;
        self.dry_run(scheduler.clone()).await?;
        self.change(guard, scheduler, source, origin).await
    }

    /// Activates an earlier version again, as a new version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not kept, and as for [`set`](Self::set).
    pub async fn roll_back(self, version: u64) -> Result<PolicyStatus> {
        let found = self.version(version).await?;
        if found.origin == PolicyOrigin::Reset {
            return self.reset().await;
        }
        self.set(found.source, PolicyOrigin::Rollback).await
    }

    /// Activates the application's own scheduler again, or the built-in policy if the application has set none. This is
    /// recorded as a new version, so that it is also active after a restart.
    ///
    /// ```
    /// use rbee_core::{registry::PolicyOrigin, scheduler::PolicySource, Queen};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    ///
    /// let queen = Queen::builder().build().await?;
    /// # #[cfg(feature = "rhai")] {
    /// let mine = PolicySource::named("mine.rhai", "fn schedule(job, workers, hives) { wait() }")?;
    /// queen.policy().set(mine, PolicyOrigin::Operator).await?;
    /// # }
    /// assert_eq!(queen.policy().reset().await?.name, "least-loaded");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if the policy is fixed, [`ErrorKind::Storage`] if the version could not be
    /// recorded.
    pub async fn reset(self) -> Result<PolicyStatus> {
        let guard = self.begin_change().await?;
        let scheduler =
            self.queen.shared.own_policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let nothing = PolicySource { language: PolicyLanguage::Rhai, text: "".into() };
        self.change(guard, scheduler, nothing, PolicyOrigin::Reset).await
    }

    /// Waits until no other change of the policy is in progress.
    async fn begin_change(self) -> Result<OwnedMutexGuard<()>> {
        if self.queen.shared.fixed_policy {
            let message = "the policy is fixed and cannot be changed (mode platform, or as the application wants it)";
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        Ok(self.queen.shared.policy_change.clone().lock_owned().await)
    }

    /// Records a policy and activates it, both or neither: in a task of its own, so that a caller that goes away does
    /// not leave one without the other. The steps that can fail without the store come first.
    async fn change(
        self,
        guard: OwnedMutexGuard<()>,
        scheduler: Arc<dyn Scheduler>,
        source: PolicySource,
        origin: PolicyOrigin,
    ) -> Result<PolicyStatus> {
        let policy = PreparedPolicy::new(scheduler.clone())?;
        let queen = self.queen.clone();
        let changed = tokio::spawn(async move {
            let _guard = guard;
            let shared = &queen.shared;
            let epoch = queen.inspect(|engine| engine.epoch()).await?;
            let record = record(&*shared.registry, epoch, source, origin).await?;
            let version = Some(record.version);
            shared.inbox.ask(|reply| Message::SetPolicy { policy, version, reply }).await?;
            if origin == PolicyOrigin::Application {
                *shared.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = scheduler;
            }
            tracing::info!(version = record.version, hash = %record.hash, origin = origin.as_str(), "the policy was changed");
            Ok::<_, Error>(queen.policy().status())
        });
        changed.await.unwrap_or_else(|cause| {
            let message = "the task that changes the policy ended before it was done";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })
    }
}
