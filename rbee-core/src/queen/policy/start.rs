//! The choice of the policy that is active when the queen starts, and the recording of versions.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::source::compile;
use crate::{
    error::{Error, ErrorKind, Result},
    id::Epoch,
    policy_source::PolicySource,
    registry::{Change, PolicyFilter, PolicyOrigin, PolicyRecord, Registry},
    scheduler::{LeastLoaded, Scheduler},
    time::WallTime,
};

/// The policy that the application itself has set.
pub(in crate::queen) struct ApplicationPolicy {
    /// Its own scheduler, if it has set one.
    pub(in crate::queen) own: Option<Arc<dyn Scheduler>>,
    /// The scheduler that decides if it has not.
    pub(in crate::queen) default: Arc<dyn Scheduler>,
    /// The policy that scripts can call.
    pub(in crate::queen) built_in: LeastLoaded,
}

/// The policy that is active when the queen starts, with the number of its version:
///
/// - a compiled-in scheduler of the application, always;
/// - a text of the application, if it was not recorded before or is the newest version;
/// - else the newest version, if an operator activated it;
/// - else the policy of the application, its own or the built-in one. A text that the application had in a previous run
///   and does not have any more is not used.
pub(in crate::queen) async fn first(
    registry: &dyn Registry,
    epoch: Epoch,
    application: &ApplicationPolicy,
) -> Result<(Arc<dyn Scheduler>, Option<u64>)> {
    let own = application.own.as_ref();
    let newest = newest(registry).await?;
    let is_operators = |record: &PolicyRecord| {
        matches!(record.origin, PolicyOrigin::Operator | PolicyOrigin::Rollback)
    };
    let default = own.unwrap_or(&application.default).clone();
    match own.map(|own| own.info().source) {
        // A compiled-in scheduler cannot be compared with an earlier one.
        Some(None) => {
            if let Some(newest) = newest.filter(is_operators) {
                let version = newest.version;
                tracing::warn!(
                    version,
                    "the recorded policy is not active: the application has one of its own"
                );
            }
            return Ok((default, None));
        }
        Some(Some(source)) => {
            let recorded = registry.policies(&PolicyFilter::default()).await?;
            let mut recorded = recorded.iter().rev();
            let before = recorded.find(|one| one.origin == PolicyOrigin::Application);
            if before.is_none_or(|before| before.source != source) {
                let record = record(registry, epoch, source, PolicyOrigin::Application).await?;
                return Ok((default, Some(record.version)));
            }
            if let Some(newest) = &newest
                && newest.source == source
            {
                return Ok((default, Some(newest.version)));
            }
        }
        None => {}
    }
    let Some(newest) = newest else { return Ok((default, None)) };
    match newest.origin {
        PolicyOrigin::Reset => Ok((default, Some(newest.version))),
        // It belonged to a configuration that no longer exists.
        PolicyOrigin::Application => Ok((default, None)),
        PolicyOrigin::Operator | PolicyOrigin::Rollback => {
            match compile(&newest.source, &application.built_in) {
                Ok(scheduler) => Ok((scheduler, Some(newest.version))),
                Err(error) => {
                    tracing::error!(
                        version = newest.version, %error,
                        "the recorded policy does not compile; the application's own is active"
                    );
                    Ok((default, None))
                }
            }
        }
    }
}

async fn newest(registry: &dyn Registry) -> Result<Option<PolicyRecord>> {
    Ok(registry.policies(&PolicyFilter::newest()).await?.pop())
}

/// Records the next version.
///
/// # Errors
/// [`ErrorKind::Conflict`] if another queen on the same store takes the number in the meantime, and every error of the
/// store.
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
    let message = "another queen changed the policy at the same moment; check the active policy, and try again";
    Err(Error::new(ErrorKind::Conflict, message))
}

/// The SHA-256 of the text of a policy, in lower-case hexadecimal.
pub(super) fn hash(source: &PolicySource) -> String {
    let digest = Sha256::digest(source.text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
