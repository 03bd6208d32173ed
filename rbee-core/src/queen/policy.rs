//! The scheduling policy of a queen: the active one, its versions, and the explanations of its decisions.

mod change;
mod dry_run;
mod replay;
mod source;
mod start;

use std::sync::Arc;

use super::{
    Queen,
    decision_history::{Decision, HistoryEntry},
    fresh_seed,
};
use crate::{
    engine::guarded,
    error::{Error, ErrorKind, Result},
    id::JobId,
    policy_source::PolicySource,
    queen::PolicyHealth,
    registry::{POLICIES_KEPT, PolicyFilter, PolicyRecord},
    request::Request,
    scheduler::{Ask, Explanation, Scheduler},
};

pub use dry_run::{DryRunDecision, PolicyDryRun};
pub use replay::PolicyReplay;
pub use source::MAX_POLICY_BYTES;

pub(super) use start::{ApplicationPolicy, first};

/// The active policy, as [`Policy::status`] shows it.
#[derive(Clone, Debug)]
pub struct PolicyStatus {
    /// The name of the policy, for people.
    pub name: String,
    /// A sentence that says what the policy does.
    pub description: String,
    /// The number of the version; `None` if it is not recorded.
    pub version: Option<u64>,
    /// The text of the policy; `None` for a policy that is compiled in.
    pub source: Option<PolicySource>,
    /// The SHA-256 of the text, in lower-case hexadecimal.
    pub hash: Option<String>,
    /// The figures of its faults.
    pub health: PolicyHealth,
    /// True if the policy cannot be changed while the queen runs.
    pub is_fixed: bool,
}

/// The scheduling policy of a queen; see [`Queen::policy`].
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    pub(super) queen: &'a Queen,
}

impl Policy<'_> {
    /// The scheduler that decides where jobs run.
    pub fn scheduler(self) -> Arc<dyn Scheduler> {
        self.queen.shared.active_policy.snapshot().scheduler
    }

    /// The active policy, and its health.
    pub fn status(self) -> PolicyStatus {
        let active = self.queen.shared.active_policy.snapshot();
        let info = active.scheduler.info();
        PolicyStatus {
            name: info.name,
            description: info.description,
            version: active.version,
            hash: info.source.as_ref().map(start::hash),
            source: info.source,
            health: active.health,
            is_fixed: self.queen.shared.fixed_policy,
        }
    }

    /// The recorded versions, the newest last: at most the last [`POLICIES_KEPT`]. [`status`](Self::status) has the
    /// number of the active one, if it is recorded.
    pub async fn versions(self) -> Result<Vec<PolicyRecord>> {
        self.queen.shared.registry.policies(&PolicyFilter::default()).await
    }

    /// One recorded version, with its text.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not recorded any more, or never was.
    pub async fn version(self, version: u64) -> Result<PolicyRecord> {
        let missing = || {
            let message = format!(
                "there is no version {version} of the policy; the last {POLICIES_KEPT} are kept"
            );
            Error::new(ErrorKind::NotFound, message)
        };
        let found = self.queen.shared.registry.policies(&PolicyFilter::one(version)).await?;
        found.into_iter().next().ok_or_else(missing)
    }

    /// The place where the active policy would send this request now, with the reasons. Nothing is submitted.
    ///
    /// # Errors
    /// As [`Queen::submit`] for a request that is not allowed.
    pub async fn explain(self, request: Request) -> Result<Explanation> {
        let job = Arc::new(self.queen.check(request).await?);
        let cluster = self.queen.cluster().await?;
        let ask = Ask::first(job, self.queen.now(), fresh_seed());
        let scheduler = self.scheduler();
        run_blocking(move || guarded(|| Ok(scheduler.explain(&ask, &cluster)))).await?
    }

    /// The decisions about a job that are still kept, each with its reasons, in the order in which they were made.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none is kept.
    pub async fn why(self, job: JobId) -> Result<Vec<Decision>> {
        let kept = self.queen.shared.decisions.of(job);
        if kept.is_empty() {
            let message = format!(
                "no decision about job {job} is kept; those of the last jobs are (setting decisions_kept)"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        run_blocking(move || kept.into_iter().map(HistoryEntry::explain).collect()).await
    }

    /// Compiles a policy off the async threads.
    async fn compile(self, source: PolicySource) -> Result<Arc<dyn Scheduler>> {
        let built_in = self.queen.shared.built_in.clone();
        run_blocking(move || source::compile(&source, &built_in)).await?
    }
}

/// Runs work that may be slow off the async threads.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| {
        Error::new(ErrorKind::Internal, "the scheduler's code panicked").with_source(cause)
    })
}
