//! The policy of a platform: built in, and not to be changed.

use super::{Ask, Explanation, LeastLoaded, Placement, Scheduler};
use crate::{ClusterView, Error, ErrorKind, Result};

/// The policy for a fleet that several tenants share: it places as [`LeastLoaded`] does, and does not start what its
/// tenant has no quota for. Nobody can change it while the queen runs.
///
/// Shares between tenants are the queue's business: it deals slots out to them in turn, by weight.
///
/// ```
/// use rbee_core::{PlatformPolicy, Scheduler};
///
/// assert!(PlatformPolicy::default().source().is_none(), "there is no text to change");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformPolicy {
    placing: LeastLoaded,
}

impl PlatformPolicy {
    /// Places with this one.
    pub fn new(placing: LeastLoaded) -> Self {
        Self { placing }
    }

    /// Why the job's tenant may not have it begun now: its tokens of today are used up. How many jobs it has at once was
    /// looked at when this one came in, and this one is among them.
    fn against(ask: &Ask, cluster: &ClusterView) -> Option<Error> {
        // What has begun is ended: its tokens are counted, and the reader has some of them.
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
        match Self::against(ask, cluster) {
            Some(error) => Ok(Placement::Reject(error)),
            None => self.placing.place(ask, cluster),
        }
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        match Self::against(ask, cluster) {
            Some(error) => Explanation {
                steps: vec![format!("quota: {error}")],
                placement: Ok(Placement::Reject(error)),
                candidates: Vec::new(),
            },
            None => self.placing.explain(ask, cluster),
        }
    }

    fn name(&self) -> String {
        "platform".into()
    }

    fn description(&self) -> String {
        "least loaded within each tenant's quota; it cannot be changed".into()
    }
}
