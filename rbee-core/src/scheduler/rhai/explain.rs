//! The explanation of a decision, built from the notes of the helpers.

use super::{
    context::{DecisionContext, Notes},
    decisions::summary,
};
use crate::{
    cluster::ClusterView,
    error::Result,
    scheduler::{Ask, Candidate, Explanation, LeastLoaded, Placement, Verdict},
};

/// The most candidates that an explanation lists.
const MOST: usize = 256;

pub(super) fn put_together(
    ask: &Ask,
    cluster: &ClusterView,
    builtin: &LeastLoaded,
    placement: Result<Placement>,
    notes: Notes,
) -> Explanation {
    let chosen = match &placement {
        Ok(Placement::Assign(worker)) => Some(Candidate::Worker(*worker)),
        Ok(Placement::Spawn { hive, .. }) => Some(Candidate::Hive(hive.clone())),
        _ => None,
    };
    let context = DecisionContext::new(ask, cluster, builtin, false);
    let mut candidates = Vec::new();
    for worker in cluster.with_model(&ask.job.model).take(MOST / 2) {
        let candidate = Candidate::Worker(worker.info.id);
        let against = context.against(worker).or_else(|| notes.dropped.get(&candidate).cloned());
        candidates.push((candidate, against));
    }
    let with_hives = !matches!(placement, Ok(Placement::Assign(_)));
    for hive in cluster.hives().take(MOST / 2).filter(|_| with_hives) {
        let candidate = Candidate::Hive(hive.id.clone());
        let against = match () {
            () if !hive.online => Some("offline".into()),
            () if hive.draining => Some("it is being drained".into()),
            () => notes.dropped.get(&candidate).cloned(),
        };
        candidates.push((candidate, against));
    }
    if let Some(chosen) =
        chosen.as_ref().filter(|chosen| candidates.iter().all(|(one, _)| one != *chosen))
    {
        candidates.push((chosen.clone(), None));
    }
    let verdict = |candidate: &Candidate, against: Option<String>| match against {
        _ if chosen.as_ref() == Some(candidate) => Verdict::Chosen,
        Some(why) => Verdict::Refused(why),
        None => Verdict::Eligible,
    };
    let candidates = candidates.into_iter().map(|(candidate, against)| {
        let verdict = verdict(&candidate, against);
        (candidate, verdict)
    });
    let mut steps = notes.steps;
    steps.push(match &placement {
        Ok(placement) => format!("decision: {}", summary(placement)),
        Err(error) => format!("fault: {error}"),
    });
    Explanation { placement, steps, candidates: candidates.collect() }
}
