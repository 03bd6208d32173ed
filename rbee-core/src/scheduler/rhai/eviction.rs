//! The idle workers that are stopped for a worker that a script starts.

use std::collections::BTreeSet;

use rhai::{Dynamic, Engine};

use super::{
    collection,
    context::with,
    decisions,
    error::{Res, fault},
    script::Script,
    workers::{Worker, Workers},
};
use crate::{
    cluster::WorkerView,
    device::Device,
    id::{HiveId, WorkerId},
    scheduler::{Placement, spawn::Start},
    sizing::{self, Memory},
};

/// Memory that is missing on a device.
#[derive(Debug)]
pub(super) struct Shortfall<'a> {
    pub(super) hive: &'a HiveId,
    pub(super) device: &'a Device,
    pub(super) missing: Memory,
}

impl Shortfall<'_> {
    fn freed_by(&self, worker: &WorkerView) -> Memory {
        sizing::evictable_on(worker, self.device.index)
    }

    /// Returns true if stopping this worker frees some of it.
    fn is_eased_by(&self, worker: &WorkerView) -> bool {
        let frees = self.freed_by(worker);
        frees.device.min(self.missing.device) > 0 || frees.budget.min(self.missing.budget) > 0
    }
}

/// The start of a worker, with the idle workers that are stopped for it.
pub(super) fn spawn(
    engine: &Engine,
    script: &Script,
    hive: HiveId,
    start: &Start,
) -> Res<Placement> {
    let mut evict = Vec::new();
    for (device, missing) in &start.shortfalls {
        let shortfall = Shortfall { hive: &hive, device, missing: *missing };
        let Some(chosen) = choose(engine, script, &shortfall)? else { return Ok(Placement::Wait) };
        evict.extend(chosen);
    }
    let mut seen = BTreeSet::new();
    evict.retain(|id| seen.insert(*id));
    Ok(Placement::Spawn { hive, spec: start.spec.clone(), evict })
}

/// The workers that the script names, or else the cheapest set; `None` if they do not free enough.
fn choose(
    engine: &Engine,
    script: &Script,
    shortfall: &Shortfall<'_>,
) -> Res<Option<Vec<WorkerId>>> {
    let named = evict(engine, script, shortfall)?;
    with(|context| {
        if let Some(named) = named {
            let workers = named.iter().filter_map(|id| context.cluster.worker(*id));
            let freed = workers
                .map(|worker| shortfall.freed_by(worker))
                .fold(Memory::default(), Memory::saturating_add);
            if freed.covers(shortfall.missing) {
                context.step(|| format!("evict: stops {} idle workers", named.len()));
                return Ok(Some(named));
            }
            context.step(|| {
                format!(
                    "evict: the {} workers that it names are not enough on device {}; the cheapest set that \
                     makes room is stopped instead",
                    named.len(),
                    shortfall.device.index
                )
            });
        }
        let Some(hive) = context.cluster.hive(shortfall.hive) else { return Ok(None) };
        Ok(sizing::plan(&context.cluster, hive, shortfall.device, shortfall.missing))
    })
}

/// The workers that the script's `evict` names; `None` if it leaves that to the built-in plan. It is given only those
/// that free what is missing.
pub(super) fn evict(
    engine: &Engine,
    script: &Script,
    shortfall: &Shortfall<'_>,
) -> Res<Option<Vec<WorkerId>>> {
    let Some(evict) = &script.evict else { return Ok(None) };
    let given: Vec<Worker> = with(|context| {
        let workers = context.cluster.on_hive(shortfall.hive);
        let helping = workers.filter(|worker| shortfall.is_eased_by(worker));
        Ok(helping.cloned().map(Worker).collect())
    })?;
    let need = Dynamic::from(collection::whole(shortfall.missing.largest()));
    let workers = Workers::listed(given.clone()).into_dynamic();
    let named = decisions::workers(evict.call(engine, [need, workers])?)?;
    let is_given = |id: &WorkerId| given.iter().any(|worker| worker.0.info.id == *id);
    match named.iter().find(|id| !is_given(id)) {
        Some(id) => {
            Err(fault(format!("evict named worker {id}, which is not one of those it was given")))
        }
        None => Ok(Some(named)),
    }
}
