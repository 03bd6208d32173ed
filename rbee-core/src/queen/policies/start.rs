//! Which policy is in force when the queen starts, and how versions are recorded.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::compile;
use crate::{
    error::{Error, ErrorKind, Result},
    id::Epoch,
    policy_source::PolicySource,
    registry::{Change, PolicyFilter, PolicyOrigin, PolicyRecord, Registry},
    scheduler::{LeastLoaded, Scheduler},
    time::WallTime,
};

/// What the application brings.
pub(in crate::queen) struct ApplicationPolicy {
    /// Its own scheduler, where it has set one.
    pub(in crate::queen) own: Option<Arc<dyn Scheduler>>,
    /// What decides where it has not.
    pub(in crate::queen) default: Arc<dyn Scheduler>,
    /// What scripts fall back on.
    pub(in crate::queen) built_in: LeastLoaded,
}

/// What is in force when the queen starts:
///
/// - a scheduler of the application's own that is compiled in, always;
/// - a text of the application's own that was not recorded before, or is what was put in force last;
/// - else the newest version, where an operator has put it in force;
/// - else what the application brings, its own or the built-in policy: what it application_policy once it no longer stands by.
pub(in crate::queen) async fn first(
    registry: &dyn Registry,
    epoch: Epoch,
    application_policy: &ApplicationPolicy,
) -> Result<(Arc<dyn Scheduler>, Option<u64>)> {
    let own = application_policy.own.as_ref();
    let newest = newest(registry).await?;
    let is_operators = |record: &PolicyRecord| {
        matches!(record.origin, PolicyOrigin::Operator | PolicyOrigin::Rollback)
    };
    let application = own.unwrap_or(&application_policy.default).clone();
    match own.map(|own| own.info().source) {
        // One that is compiled in cannot be told from what it was before.
        Some(None) => {
            if let Some(newest) = newest.filter(is_operators) {
                let version = newest.version;
                tracing::warn!(
                    version,
                    "the recorded policy is not in force: the application has one of its own"
                );
            }
            return Ok((application, None));
        }
        Some(Some(source)) => {
            let recorded = registry.policies(&PolicyFilter::default()).await?;
            let mut recorded = recorded.iter().rev();
            let before = recorded.find(|one| one.origin == PolicyOrigin::Application);
            if before.is_none_or(|before| before.source != source) {
                let record = record(registry, epoch, source, PolicyOrigin::Application).await?;
                return Ok((application, Some(record.version)));
            }
            if let Some(newest) = &newest
                && newest.source == source
            {
                return Ok((application, Some(newest.version)));
            }
        }
        None => {}
    }
    let Some(newest) = newest else { return Ok((application, None)) };
    match newest.origin {
        PolicyOrigin::Reset => Ok((application, Some(newest.version))),
        // It came with a configuration that is not there any more.
        PolicyOrigin::Application => Ok((application, None)),
        PolicyOrigin::Operator | PolicyOrigin::Rollback => {
            match compile(&newest.source, &application_policy.built_in) {
                Ok(scheduler) => Ok((scheduler, Some(newest.version))),
                Err(error) => {
                    tracing::error!(
                        version = newest.version, %error,
                        "the recorded policy is not understood; the application's own is in force"
                    );
                    Ok((application, None))
                }
            }
        }
    }
}

async fn newest(registry: &dyn Registry) -> Result<Option<PolicyRecord>> {
    Ok(registry.policies(&PolicyFilter::newest()).await?.pop())
}

/// Writes the next version.
///
/// # Errors
/// [`ErrorKind::Conflict`] where another queen of the same store takes the number in the meantime, and what the store
/// fails with.
pub(super) async fn record(
    registry: &dyn Registry,
    epoch: Epoch,
    source: PolicySource,
    origin: PolicyOrigin,
) -> Result<PolicyRecord> {
    let newest = newest(registry).await?.map_or(0, |newest| newest.version);
    let hash = hash(&source);
    let record = PolicyRecord { version: newest + 1, at: WallTime::now(), hash, origin, source };
    registry.record(epoch, &[Change::PolicyPut(Box::new(record.clone()))]).await?;
    if registry.policies(&PolicyFilter::one(record.version)).await?.first() == Some(&record) {
        return Ok(record);
    }
    let message = "another queen changed the policy at the same moment; look at it, and try again";
    Err(Error::new(ErrorKind::Conflict, message))
}

pub(super) fn hash(source: &PolicySource) -> String {
    let digest = Sha256::digest(source.text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
