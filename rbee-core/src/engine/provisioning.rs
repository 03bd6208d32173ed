//! What a worker needs before it can start: the model on the disk of its hive.

use super::*;
use crate::{Change, ErrorKind, ModelOnDisk, ModelRecord, Result, WorkerState};

/// A model on the disk of a hive, whose workers are idle or being stopped.
#[derive(Default)]
struct Holder {
    last_used: Time,
    idle: Vec<WorkerId>,
    is_needed: bool,
}

impl Engine {
    /// Has the store know that the model is there, and is used.
    pub(super) fn record_model(
        &mut self,
        now: Now,
        hive: &HiveId,
        on_disk: &ModelOnDisk,
        out: &mut Out,
    ) {
        let record = ModelRecord {
            hive: hive.clone(),
            model: on_disk.model.clone(),
            bytes: on_disk.bytes,
            checksum: on_disk.digest.map(|digest| digest.to_string()),
            last_used: now.wall,
        };
        self.catalogue.entry(hive.clone()).or_default().insert(record.model.clone());
        out.push(Effect::Record { n: None, changes: vec![Change::ModelPut(record)] });
    }

    /// The hive has told which models it has: the store forgets the others.
    pub(super) fn forget_models(&mut self, hive: &HiveId, out: &mut Out) {
        let (Some(view), Some(recorded)) = (self.view.hive(hive), self.catalogue.get_mut(hive))
        else {
            return;
        };
        let is_gone = |model: &&ModelRef| !view.models.contains_key(*model);
        let gone: Vec<_> = recorded.iter().filter(is_gone).cloned().collect();
        for model in &gone {
            recorded.remove(model);
        }
        let changes: Vec<_> =
            gone.into_iter().map(|model| Change::ModelGone { hive: hive.clone(), model }).collect();
        if !changes.is_empty() {
            out.push(Effect::Record { n: None, changes });
        }
    }

    /// A hive has no room on its disk for a model that no worker has, because the files of others are in use. Stops idle
    /// workers, those used longest ago first, where that gives so many bytes back: what nobody uses makes way there.
    /// Says whether the room is going to be there.
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
        // Only what lies in the hive's store counts against its budget.
        let size = |model: &ModelRef| {
            let held = view.models.get(model).filter(|held| held.digest.is_some());
            held.map_or(0, |held| held.bytes)
        };
        holders.retain(|model, holder| {
            !holder.is_needed && size(model) > 0 && self.view.waiting_for(model).is_none()
        });
        let mut order: Vec<_> = holders.into_iter().collect();
        // Those that go already come first.
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

    pub(super) fn provision_progress(&mut self, now: Now, hive: HiveId, model: ModelRef) {
        let key = (hive, model);
        if self.provisioning.contains_key(&key) {
            self.timers
                .arm(now.at + self.settings.provision_silence, Alarm::Provision(key.0, key.1));
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
        self.timers.disarm(&Alarm::Provision(hive.clone(), model.clone()));
        let awaited = self.provisioning.remove(&(hive.clone(), model.clone())).is_some();
        match result {
            Ok(on_disk) => {
                if self.view.hive(&hive).is_some() {
                    self.record_model(now, &hive, &on_disk, out);
                }
                self.view.edit_hive(&hive, |view| {
                    _ = Arc::make_mut(&mut view.models).insert(model.clone(), on_disk)
                });
                self.wake_model(&model);
            }
            Err(error) if awaited => self.start_failed(now, &hive, &model, error, out),
            Err(_) => {}
        }
    }

    pub(super) fn provision_overdue(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        out: &mut Out,
    ) {
        let silence = self.settings.provision_silence;
        let message = format!(
            "the download of model {model} to hive {hive} made no progress for {silence:?}"
        );
        let error = Error::new(ErrorKind::SpawnTimeout, message);
        self.provisioned(now, hive, model, Err(error), out);
    }
}
