//! The view of a scheduler: workers, hives and queues, with indexes for cheap lookups.
//!
//! The maps are persistent: a clone is almost free, and an update while a clone exists is cheap, so a policy on another
//! thread reads a view that does not change.

use std::{collections::BTreeMap, sync::Arc};

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

mod memory;
mod narrow;
mod readable;
#[cfg(test)]
mod tests;
mod views;

pub(crate) use views::counted_on;
pub use views::{HiveView, LaneKey, LaneView, WorkerState, WorkerView};

use memory::{Measured, Part, Room};
use views::Rank;

use crate::{
    device::DeviceKind,
    id::{HiveId, TenantId, WorkerId},
    model_info::ModelKind,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    tenant::TenantView,
};

/// The models on one hive's disk.
type OnDisk = BTreeMap<ModelRef, ModelOnDisk>;

/// The whole cluster at one time. A clone costs a few reference counts.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    workers: Map<WorkerId, Arc<WorkerView>>,
    hives: Map<HiveId, Arc<HiveView>>,
    lanes: Map<LaneKey, LaneView>,
    /// Jobs in all lanes together.
    waiting: usize,
    /// Workers with a free slot, by model, the least loaded first.
    available: Map<ModelRef, Set<Rank>>,
    by_model: Map<ModelRef, Set<WorkerId>>,
    /// Slots of workers that have or are loading a model, free or not.
    slots: Map<ModelRef, u64>,
    by_hive: Map<HiveId, Set<WorkerId>>,
    /// Hives, by the models on their disks.
    holders: Map<ModelRef, Set<HiveId>>,
    rooms: Map<HiveId, Room>,
    measured: Measured,
    tenants: Map<TenantId, Arc<TenantView>>,
    /// The kinds of models that the queen has looked at, also of models that no hive has.
    kinds: Map<ModelRef, Arc<ModelKind>>,
}

impl ClusterView {
    /// The worker with this id.
    pub fn worker(&self, id: WorkerId) -> Option<&Arc<WorkerView>> {
        self.workers.get(&id)
    }

    /// All workers, ordered by id.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<WorkerView>> {
        self.workers.values()
    }

    /// The number of workers.
    pub fn worker_count(&self) -> usize {
        self.workers.size()
    }

    /// Workers that have this model and a free slot, the least loaded first. The cost does not depend on how many
    /// other workers there are.
    pub fn available(&self, model: &ModelRef) -> impl Iterator<Item = &Arc<WorkerView>> {
        self.available
            .get(model)
            .into_iter()
            .flat_map(|set| set.iter())
            .filter_map(|rank| self.workers.get(&rank.id))
    }

    /// Workers that have or are loading this model.
    pub fn with_model(&self, model: &ModelRef) -> impl Iterator<Item = &Arc<WorkerView>> {
        self.by_model
            .get(model)
            .into_iter()
            .flat_map(|set| set.iter())
            .filter_map(|id| self.workers.get(id))
    }

    /// Slots, free or not, of the workers that have or are loading this model. The cost does not depend on their
    /// number.
    pub fn slots(&self, model: &ModelRef) -> u64 {
        self.slots.get(model).copied().unwrap_or(0)
    }

    fn count_slots(&mut self, model: &ModelRef, before: u64, after: u64) {
        if before == after {
            return;
        }
        let slots = self.slots(model).saturating_sub(before) + after;
        if slots == 0 {
            self.slots.remove_mut(model);
        } else {
            self.slots.insert_mut(model.clone(), slots);
        }
    }

    /// Workers of this hive.
    pub fn on_hive(&self, hive: &HiveId) -> impl Iterator<Item = &Arc<WorkerView>> {
        self.by_hive
            .get(hive)
            .into_iter()
            .flat_map(|set| set.iter())
            .filter_map(|id| self.workers.get(id))
    }

    /// The number of workers of this hive.
    pub fn count_on_hive(&self, hive: &HiveId) -> usize {
        self.rooms.get(hive).map_or(0, Room::workers)
    }

    /// Memory that the workers of this hive take together, in bytes, including those being loaded or stopped.
    pub fn memory_taken(&self, hive: &HiveId) -> u64 {
        self.rooms.get(hive).map_or(0, Room::taken)
    }

    /// Memory that the evictable workers of this hive would free, in bytes: on this device, and in total.
    pub(crate) fn evictable(&self, hive: &HiveId, device: u32) -> (u64, u64) {
        let room = self.rooms.get(hive);
        room.map_or((0, 0), |room| (room.evictable_on(device), room.evictable()))
    }

    /// Memory that further workers of this hive may take, in bytes; `None` if it has no budget.
    pub fn memory_left(&self, hive: &HiveView) -> Option<u64> {
        hive.memory_budget.map(|budget| budget.saturating_sub(self.memory_taken(&hive.id)))
    }

    /// The hive with this id.
    pub fn hive(&self, id: &HiveId) -> Option<&Arc<HiveView>> {
        self.hives.get(id)
    }

    /// All hives, ordered by id.
    pub fn hives(&self) -> impl Iterator<Item = &Arc<HiveView>> {
        self.hives.values()
    }

    /// The queue of one model and tenant.
    pub fn lane(&self, key: &LaneKey) -> Option<&LaneView> {
        self.lanes.get(key)
    }

    /// All queues with waiting jobs.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneKey, &LaneView)> {
        self.lanes.iter()
    }

    /// The number of waiting jobs in all queues.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The number of jobs that wait for this model, and since when the first of them waits; `None` if none waits.
    pub fn waiting_for(&self, model: &ModelRef) -> Option<LaneView> {
        let first = LaneKey { model: model.clone(), tenant: None };
        let lanes = self.lanes.range(first..).take_while(|(key, _)| key.model == *model);
        lanes.map(|(_, lane)| lane).fold(None, |all, lane| {
            let (depth, oldest) =
                all.map_or((0, lane.oldest), |all: LaneView| (all.depth, all.oldest));
            Some(LaneView { depth: depth + lane.depth, oldest: oldest.min(lane.oldest) })
        })
    }

    /// The tenant with this id; `None` if it has no limits and nothing is known of it.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<TenantView>> {
        self.tenants.get(id)
    }

    /// All tenants, ordered by id.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<TenantView>> {
        self.tenants.values()
    }

    /// The hives with this model on their disk, ordered by id. The cost does not depend on how many other hives there
    /// are.
    pub fn with_model_on_disk(&self, model: &ModelRef) -> impl Iterator<Item = &Arc<HiveView>> {
        self.holders
            .get(model)
            .into_iter()
            .flat_map(|set| set.iter())
            .filter_map(|id| self.hives.get(id))
    }

    /// The model as on the hive with the largest copy; `None` if no hive has it.
    pub(crate) fn largest_on_disk(&self, model: &ModelRef) -> Option<&ModelOnDisk> {
        let on_disk = self.with_model_on_disk(model).filter_map(|hive| hive.models.get(model));
        on_disk.max_by_key(|model| model.bytes)
    }

    /// True if the model is known here: loaded or loading somewhere, or on the disk of some hive.
    pub fn knows_model(&self, model: &ModelRef) -> bool {
        self.by_model.contains_key(model) || self.holders.contains_key(model)
    }

    /// Memory that a worker of this model was recently measured to take on a device of this kind, in bytes; the largest
    /// value if they differ. It is learned from reports of workers, after a restart from the live ones.
    pub fn measured(&self, model: &ModelRef, kind: DeviceKind) -> Option<u64> {
        self.measured.get(model, kind)
    }

    /// Notes the measured memory of a worker of this model on a device of this kind.
    pub fn note_measured(&mut self, model: &ModelRef, kind: DeviceKind, bytes: u64) {
        self.measured.note(model, kind, bytes);
    }

    /// Adds a worker, or replaces the one with the same id.
    pub fn put_worker(&mut self, view: WorkerView) {
        let id = view.info.id;
        self.remove_worker(id);
        index(&mut self.by_model, &view.info.model, id);
        index(&mut self.by_hive, &view.info.hive, id);
        if view.free_slots() > 0 {
            index(&mut self.available, &view.info.model, view.rank());
        }
        self.count_slots(&view.info.model, 0, view.usable_slots());
        if !self.rooms.contains_key(&view.info.hive) {
            self.rooms.insert_mut(view.info.hive.clone(), Room::default());
        }
        if let Some(room) = self.rooms.get_mut(&view.info.hive) {
            room.add(Part::of(&view), view.devices());
        }
        self.workers.insert_mut(id, Arc::new(view));
    }

    /// Changes a worker and updates the indexes. Its identity must stay. Returns true if the worker exists.
    pub fn edit_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut WorkerView)) -> bool {
        let Some(slot) = self.workers.get_mut(&id) else {
            return false;
        };
        let (slots, before) = (slot.usable_slots(), (slot.free_slots() > 0).then(|| slot.rank()));
        let took = Part::of(slot);
        let view = Arc::make_mut(slot);
        change(view);
        let (slots_after, after) =
            (view.usable_slots(), (view.free_slots() > 0).then(|| view.rank()));
        let takes = Part::of(view);
        if took != takes
            && let Some(room) = self.rooms.get_mut(&view.info.hive)
        {
            room.take_out(took, view.devices());
            room.add(takes, view.devices());
        }
        if before != after || slots != slots_after {
            let model = view.info.model.clone();
            self.count_slots(&model, slots, slots_after);
            if let Some(rank) = before {
                unindex(&mut self.available, &model, &rank);
            }
            if let Some(rank) = after {
                index(&mut self.available, &model, rank);
            }
        }
        true
    }

    /// Removes a worker.
    pub fn remove_worker(&mut self, id: WorkerId) -> Option<Arc<WorkerView>> {
        let view = self.workers.get(&id)?.clone();
        self.workers.remove_mut(&id);
        unindex(&mut self.by_model, &view.info.model, &id);
        unindex(&mut self.by_hive, &view.info.hive, &id);
        if view.free_slots() > 0 {
            unindex(&mut self.available, &view.info.model, &view.rank());
        }
        self.count_slots(&view.info.model, view.usable_slots(), 0);
        if let Some(room) = self.rooms.get_mut(&view.info.hive) {
            room.take_out(Part::of(&view), view.devices());
            if room.workers() == 0 {
                self.rooms.remove_mut(&view.info.hive);
            }
        }
        Some(view)
    }

    /// Adds a hive, or replaces the one with the same id.
    pub fn put_hive(&mut self, view: HiveView) {
        let old = self.hives.get(&view.id).map(|old| old.models.clone());
        self.index_models(&view.id, &old.unwrap_or_default(), &view.models);
        self.hives.insert_mut(view.id.clone(), Arc::new(view));
    }

    /// Changes a hive. Returns true if the hive exists.
    pub fn edit_hive(&mut self, id: &HiveId, change: impl FnOnce(&mut HiveView)) -> bool {
        let Some(slot) = self.hives.get_mut(id) else {
            return false;
        };
        // A second reference, so that a change of the models creates a new map.
        let old = slot.models.clone();
        let view = Arc::make_mut(slot);
        change(view);
        let new = view.models.clone();
        self.index_models(id, &old, &new);
        true
    }

    /// Removes a hive.
    pub fn remove_hive(&mut self, id: &HiveId) {
        if let Some(old) = self.hives.get(id).map(|old| old.models.clone()) {
            self.index_models(id, &old, &Arc::default());
        }
        self.hives.remove_mut(id);
    }

    /// Updates the index after a change of the models on the hive's disk.
    fn index_models(&mut self, hive: &HiveId, old: &Arc<OnDisk>, new: &Arc<OnDisk>) {
        if Arc::ptr_eq(old, new) {
            return;
        }
        for gone in old.keys().filter(|model| !new.contains_key(model)) {
            unindex(&mut self.holders, gone, hive);
        }
        for added in new.keys().filter(|model| !old.contains_key(model)) {
            index(&mut self.holders, added, hive.clone());
        }
    }

    /// Adds a tenant, or replaces the one with the same id.
    pub fn put_tenant(&mut self, view: TenantView) {
        self.tenants.insert_mut(view.id.clone(), Arc::new(view));
    }

    /// Changes a tenant. Returns true if the tenant exists.
    pub fn edit_tenant(&mut self, id: &TenantId, change: impl FnOnce(&mut TenantView)) -> bool {
        let Some(slot) = self.tenants.get_mut(id) else {
            return false;
        };
        change(Arc::make_mut(slot));
        true
    }

    /// Removes a tenant.
    pub fn remove_tenant(&mut self, id: &TenantId) {
        self.tenants.remove_mut(id);
    }

    /// Sets the state of a queue; `None` if nothing waits any more.
    pub fn put_lane(&mut self, key: &LaneKey, lane: Option<LaneView>) {
        let before = self.lanes.get(key).map_or(0, |lane| lane.depth);
        let after = lane.as_ref().map_or(0, |lane| lane.depth);
        self.waiting = self.waiting.saturating_sub(before).saturating_add(after);
        match lane {
            Some(lane) => match self.lanes.get_mut(key) {
                Some(slot) => *slot = lane,
                None => self.lanes.insert_mut(key.clone(), lane),
            },
            None => {
                self.lanes.remove_mut(key);
            }
        }
    }
}

fn index<K: Ord + Clone, V: Ord>(map: &mut Map<K, Set<V>>, key: &K, value: V) {
    match map.get_mut(key) {
        Some(set) => set.insert_mut(value),
        None => {
            let mut set = Set::new_sync();
            set.insert_mut(value);
            map.insert_mut(key.clone(), set);
        }
    }
}

fn unindex<K: Ord + Clone, V: Ord>(map: &mut Map<K, Set<V>>, key: &K, value: &V) {
    let Some(set) = map.get_mut(key) else { return };
    set.remove_mut(value);
    if set.is_empty() {
        map.remove_mut(key);
    }
}
