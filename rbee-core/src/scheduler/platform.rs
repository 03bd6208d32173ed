//! The policy of a platform: built in, and fixed.

use super::{
    Scheduler,
    decision::{Ask, Explanation, Placement},
    info::SchedulerInfo,
    least_loaded::LeastLoaded,
};
use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
};

/// The policy for a fleet that several tenants share. It places jobs as [`LeastLoaded`] does, and rejects jobs whose
/// tenant has no tokens left today. It cannot be changed while the queen runs.
///
/// The queue itself shares the slots among tenants, by weight.
///
/// ```
/// use rbee_core::{scheduler::PlatformPolicy, Scheduler};
///
/// assert!(PlatformPolicy::default().info().source.is_none(), "there is no text to change");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformPolicy {
    placing: LeastLoaded,
}

impl PlatformPolicy {
    /// Places jobs with this policy.
    pub fn new(placing: LeastLoaded) -> Self {
        Self { placing }
    }

    /// The error if the job's tenant has used up its tokens of today. The number of its jobs was checked when this one
    /// was admitted, and includes this one.
    fn over_quota(ask: &Ask, cluster: &ClusterView) -> Option<Error> {
        // A job that has begun is finished: its tokens are counted, and its reader has some of them.
        if ask.attempts > 0 || ask.must_match.is_some() {
            return None;
        }
        let tenant = cluster.tenant(ask.job.tenant.as_ref()?)?;
        let limit = tenant.limits.daily_tokens.filter(|limit| tenant.used_today >= *limit)?;
        let day = 24 * 60 * 60 * 1000;
        let left = day - ask.now.wall.as_millis() % day;
        let message = format!(
            "tenant {} has used {} of its {limit} tokens of today",
            tenant.id, tenant.used_today
        );
        let error = Error::for_client(ErrorKind::QuotaExceeded, message);
        Some(error.with_retry_after(std::time::Duration::from_millis(left)))
    }
}

impl Scheduler for PlatformPolicy {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        match Self::over_quota(ask, cluster) {
            Some(error) => Ok(Placement::Reject(error)),
            None => self.placing.place(ask, cluster),
        }
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        match Self::over_quota(ask, cluster) {
            Some(error) => Explanation {
                steps: vec![format!("quota: {error}")],
                placement: Ok(Placement::Reject(error)),
                candidates: Vec::new(),
            },
            None => self.placing.explain(ask, cluster),
        }
    }

    fn info(&self) -> SchedulerInfo {
        let does = "least loaded within each tenant's quota; it cannot be changed";
        SchedulerInfo::new("platform").with_description(does)
    }
}
