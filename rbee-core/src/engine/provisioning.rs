//! What a worker needs before it can start: the model on the disk of its hive.

use super::{
    operators::{ModelLoad, OnHive, Waiter, answer},
    *,
};
use crate::{
    cluster::WorkerState,
    error::{ErrorKind, Result},
    model_on_disk::ModelOnDisk,
    registry::{Change, ModelRecord},
};

/// A model on the disk of a hive, whose workers are idle or being stopped.
#[derive(Default)]
struct Holder {
    last_used: Time,
    idle: Vec<WorkerId>,
    is_needed: bool,
}

impl Engine {
    /// Records that the model is on the hive and in use, if the store has the hive.
    pub(super) fn record_model(
        &mut self,
        now: Now,
        hive: &HiveId,
        on_disk: &ModelOnDisk,
        out: &mut Out,
    ) {
        if !self.hives.is_recorded(hive) {
            return;
        }
        let record = ModelRecord {
            hive: hive.clone(),
            model: on_disk.model.clone(),
            bytes: on_disk.bytes,
            checksum: on_disk.digest.map(|digest| digest.to_string()),
            last_used: now.wall,
        };
        self.hives.model_recorded(hive.clone(), record.model.clone());
        out.push(Effect::Record { n: None, changes: vec![Change::ModelPut(record)] });
    }

    /// The hive has reported its models: removes the others from the store.
    pub(super) fn forget_models(&mut self, hive: &HiveId, out: &mut Out) {
        let Some(view) = self.view.hive(hive) else { return };
        let gone = self.hives.take_gone_models(hive, |model| view.models.contains_key(model));
        let changes: Vec<_> =
            gone.into_iter().map(|model| Change::ModelGone { hive: hive.clone(), model }).collect();
        if !changes.is_empty() {
            out.push(Effect::Record { n: None, changes });
        }
    }

    /// Makes room on a hive's disk for a model that no worker has, if the files of other models are in use. Stops idle
    /// workers, the least recently used first, if that frees enough bytes; the hive then evicts the unused files.
    /// Returns true if there will be enough room.
    pub(super) fn make_disk_room(
        &mut self,
        now: Now,
        hive: &HiveId,
        model: &ModelRef,
        bytes: u64,
        out: &mut Out,
    ) -> bool {
        let Some(view) = self.view.hive(hive).cloned() else { return false };
        if self.view.with_model(model).next().is_some() {
            return false;
        }
        let mut holders: BTreeMap<ModelRef, Holder> = BTreeMap::new();
        for worker in self.view.on_hive(hive) {
            let holder = holders.entry(worker.info.model.clone()).or_default();
            holder.last_used = holder.last_used.max(worker.last_used);
            if worker.is_evictable() {
                holder.idle.push(worker.info.id);
            } else {
                let is_going = worker.state == WorkerState::Draining && worker.leased == 0;
                holder.is_needed |= !is_going;
            }
        }
        // Only models in the hive's own store count against its budget.
        let size = |model: &ModelRef| {
            let held = view.models.get(model).filter(|held| held.digest.is_some());
            held.map_or(0, |held| held.bytes)
        };
        holders.retain(|model, holder| {
            !holder.is_needed && size(model) > 0 && self.view.waiting_for(model).is_none()
        });
        let mut order: Vec<_> = holders.into_iter().collect();
        // Models whose workers are stopping already come first.
        order.sort_by_key(|(_, holder)| (!holder.idle.is_empty(), holder.last_used));
        let mut freed = 0;
        let mut stopped = Vec::new();
        for (held, holder) in order {
            if freed >= bytes {
                break;
            }
            freed = size(&held).saturating_add(freed);
            stopped.extend(holder.idle.into_iter().map(|worker| (worker, held.clone())));
        }
        if freed < bytes {
            return false;
        }
        for (worker, held) in stopped {
            out.push(Effect::Note(Note::Evicted(worker, held)));
            self.stop(now, worker, out);
        }
        true
    }

    /// Fetches a model to the disk of a hive. All that want it in the meantime share one download.
    pub(super) fn download(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        waiter: Waiter,
        out: &mut Out,
    ) {
        if let Err(error) = self.check_not_removing(&hive, &model) {
            return refuse(waiter, error, out);
        }
        if self.downloads.join(&hive, &model, waiter) {
            return;
        }
        let timer = Timer::Provision(hive.clone(), model.clone());
        self.timers.arm(now.at + self.config.settings.provision_silence, timer);
        out.push(Effect::Note(Note::Provisioning(hive.clone(), model.clone())));
        out.push(Effect::Provision { hive, model });
    }

    pub(super) fn provision_progress(&mut self, now: Now, hive: HiveId, model: ModelRef) {
        if self.downloads.is_under_way(&hive, &model) {
            let timer = Timer::Provision(hive, model);
            self.timers.arm(now.at + self.config.settings.provision_silence, timer);
        }
    }

    pub(super) fn provisioned(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        result: Result<ModelOnDisk>,
        out: &mut Out,
    ) {
        self.timers.disarm(&Timer::Provision(hive.clone(), model.clone()));
        let waiters = self.downloads.take(&hive, &model);
        let on_disk = match result {
            Ok(on_disk) => on_disk,
            Err(error) => return self.download_failed(now, &hive, &model, waiters, &error, out),
        };
        self.record_model(now, &hive, &on_disk, out);
        self.view.edit_hive(&hive, |view| {
            _ = Arc::make_mut(&mut view.models).insert(model.clone(), on_disk.clone())
        });
        self.wake_model(&model);
        if waiters.iter().any(|waiter| matches!(waiter, Waiter::Operator(_))) {
            // So that an operator soon sees which other models were evicted.
            out.push(Effect::ReportHive { hive: hive.clone() });
        }
        for waiter in waiters {
            match waiter {
                Waiter::Jobs(_) => {}
                Waiter::Operator(n) => {
                    answer(n, Ok(CommandOutput::Model(Box::new(on_disk.clone()))), out);
                }
                Waiter::Load(load) => self.go_on_loading(now, load, out),
            }
        }
    }

    fn download_failed(
        &mut self,
        now: Now,
        hive: &HiveId,
        model: &ModelRef,
        waiters: Vec<Waiter>,
        error: &Error,
        out: &mut Out,
    ) {
        for waiter in waiters {
            match waiter {
                Waiter::Jobs(_) => self.start_failed(now, hive, model, error.clone(), out),
                waiter => refuse(waiter, error.clone(), out),
            }
        }
    }

    pub(super) fn provision_overdue(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        out: &mut Out,
    ) {
        let silence = self.config.settings.provision_silence;
        for waiter in self.downloads.take(&hive, &model) {
            let message = format!(
                "the download of model {model} to hive {hive} made no progress for {silence:?}"
            );
            match waiter {
                Waiter::Jobs(_) => {
                    let error = Error::new(ErrorKind::SpawnTimeout, message);
                    self.start_failed(now, &hive, &model, error, out);
                }
                waiter => refuse(waiter, Error::new(ErrorKind::HiveUnreachable, message), out),
            }
        }
    }
}

/// Refuses a waiter. Its jobs are asked about again by the caller.
fn refuse(waiter: Waiter, error: Error, out: &mut Out) {
    match waiter {
        Waiter::Jobs(_) => {}
        Waiter::Operator(n) | Waiter::Load(ModelLoad { n, .. }) => answer(n, Err(error), out),
    }
}

/// Downloads in progress, each with its waiters: at most one entry for all jobs of a model.
#[derive(Debug, Default)]
pub(super) struct Downloads(BTreeMap<OnHive, Vec<Waiter>>);

impl Downloads {
    /// Waits for a download. Returns true if it is in progress already.
    fn join(&mut self, hive: &HiveId, model: &ModelRef, waiter: Waiter) -> bool {
        let waiters = self.0.entry((hive.clone(), model.clone())).or_default();
        let is_under_way = !waiters.is_empty();
        let jobs = waiters.iter_mut().find_map(|waiter| match waiter {
            Waiter::Jobs(slots) => Some(slots),
            _ => None,
        });
        match (waiter, jobs) {
            (Waiter::Jobs(wanted), Some(slots)) => *slots = wanted.max(*slots),
            (waiter, _) => waiters.push(waiter),
        }
        is_under_way
    }

    /// Ends a download, and returns its waiters.
    fn take(&mut self, hive: &HiveId, model: &ModelRef) -> Vec<Waiter> {
        self.0.remove(&(hive.clone(), model.clone())).unwrap_or_default()
    }

    pub(super) fn is_under_way(&self, hive: &HiveId, model: &ModelRef) -> bool {
        self.0.contains_key(&(hive.clone(), model.clone()))
    }

    pub(super) fn is_fetching(&self, model: &ModelRef) -> bool {
        self.0.keys().any(|(_, fetched)| fetched == model)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Slots of the workers that will be started for jobs when the model is there.
    pub(super) fn slots(&self, model: &ModelRef) -> usize {
        let downloads = self.0.iter().filter(|((_, fetched), _)| fetched == model);
        let slots = downloads.flat_map(|(_, waiters)| waiters).map(|waiter| match waiter {
            Waiter::Jobs(slots) => *slots as usize,
            Waiter::Operator(_) | Waiter::Load(_) => 0,
        });
        slots.sum()
    }

    /// The number of operators that wait.
    pub(super) fn operators(&self) -> usize {
        let waiters = self.0.values().flatten();
        waiters.filter(|waiter| !matches!(waiter, Waiter::Jobs(_))).count()
    }
}
