//! Where the built-in policy starts a worker.

use super::{
    decision::{Ask, Candidate, Placement},
    trace::Trace,
};
use crate::{cluster::ClusterView, sizing::Sizing};

mod candidates;
#[cfg(feature = "rhai")]
mod on_hive;
mod replica;
mod search;

#[cfg(feature = "rhai")]
pub(super) use on_hive::{OnHive, Start};
pub(crate) use replica::place_replica;
use search::{Feasibility, Search};

/// Decides for a job whose model has no worker that could take it, now or soon.
pub(super) fn place(
    sizing: &Sizing,
    ask: &Ask,
    cluster: &ClusterView,
    trace: &mut impl Trace,
) -> Placement {
    let search = Search { sizing, ask, cluster, known: cluster.largest_on_disk(&ask.job.model) };
    if let Some(error) = search.wrong_task() {
        return Placement::Reject(error);
    }
    match search.best(trace) {
        Ok(candidates) => {
            // A candidate has enough to evict, so there is a plan.
            let Some((best, evict)) = candidates.choose(cluster) else { return Placement::Wait };
            trace.chosen(|| Candidate::Hive(best.hive.id.clone()));
            search.spawn(&best, evict)
        }
        Err(Feasibility::Later) => Placement::Wait,
        Err(Feasibility::Never) => Placement::Reject(search.rejection()),
    }
}
