//! Which idle workers are stopped for a worker that a script starts.

use rhai::Dynamic;

use super::{
    RhaiScheduler, collection, decisions,
    session::{Res, fault, with},
    workers::{Worker, Workers},
};
use crate::{
    Device, HiveId, Placement, WorkerId, WorkerView,
    scheduler::spawn::Start,
    sizing::{self, Memory},
};

/// Memory that is missing on a device.
#[derive(Debug)]
pub(super) struct Shortage<'a> {
    pub(super) hive: &'a HiveId,
    pub(super) device: &'a Device,
    pub(super) missing: Memory,
}

impl Shortage<'_> {
    fn freed_by(&self, worker: &WorkerView) -> Memory {
        sizing::evictable_on(worker, self.device.index)
    }

    /// Does it help to stop this worker?
    fn is_eased_by(&self, worker: &WorkerView) -> bool {
        let frees = self.freed_by(worker);
        frees.device.min(self.missing.device) > 0 || frees.budget.min(self.missing.budget) > 0
    }
}

impl RhaiScheduler {
    /// Settles which idle workers are stopped for the one that is started.
    pub(super) fn make_room(&self, hive: HiveId, start: &Start) -> Res<Placement> {
        let mut evict = Vec::new();
        for (device, missing) in &start.shortfalls {
            let shortage = Shortage { hive: &hive, device, missing: *missing };
            let Some(chosen) = self.choose(&shortage)? else { return Ok(Placement::Wait) };
            evict.extend(chosen);
        }
        let mut seen = std::collections::BTreeSet::new();
        evict.retain(|id| seen.insert(*id));
        Ok(Placement::Spawn { hive, spec: start.spec.clone(), evict })
    }

    /// What the script names, or else the cheapest set; nothing where there is not enough to be had.
    fn choose(&self, shortage: &Shortage<'_>) -> Res<Option<Vec<WorkerId>>> {
        let named = self.evict(shortage)?;
        with(|session| {
            if let Some(named) = named {
                let workers = named.iter().filter_map(|id| session.cluster.worker(*id));
                let freed = workers
                    .map(|worker| shortage.freed_by(worker))
                    .fold(Memory::default(), Memory::saturating_add);
                if freed.covers(shortage.missing) {
                    session.step(|| format!("evict: stops {} idle workers", named.len()));
                    return Ok(Some(named));
                }
                session.step(|| {
                    format!(
                        "evict: the {} workers that it names are not enough on device {}; the cheapest set that \
                         makes room is stopped instead",
                        named.len(),
                        shortage.device.index
                    )
                });
            }
            let Some(hive) = session.cluster.hive(shortage.hive) else { return Ok(None) };
            Ok(sizing::plan(&session.cluster, hive, shortage.device, shortage.missing))
        })
    }

    /// Whom the script would stop; nothing where it leaves that to the built-in plan. It is given those alone whose end
    /// helps.
    pub(super) fn evict(&self, shortage: &Shortage<'_>) -> Res<Option<Vec<WorkerId>>> {
        let Some(evict) = &self.script.evict else { return Ok(None) };
        let given: Vec<Worker> = with(|session| {
            let workers = session.cluster.on_hive(shortage.hive);
            let helping = workers.filter(|worker| shortage.is_eased_by(worker));
            Ok(helping.cloned().map(Worker).collect())
        })?;
        let need = Dynamic::from(collection::whole(shortage.missing.largest()));
        let workers = Workers::listed(given.clone()).into_dynamic();
        let named = decisions::workers(evict.call(&self.engine, [need, workers])?)?;
        let is_given = |id: &WorkerId| given.iter().any(|worker| worker.0.info.id == *id);
        match named.iter().find(|id| !is_given(id)) {
            Some(id) => Err(fault(format!(
                "evict named worker {id}, which is not one of those it was given"
            ))),
            None => Ok(Some(named)),
        }
    }
}
