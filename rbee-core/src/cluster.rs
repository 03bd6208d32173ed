//! What a scheduler sees: workers, hives and queues, with the indexes that make looking cheap.
//!
//! The maps are persistent: a clone costs nothing and an update with a clone held costs little, so a policy on
//! another thread looks at a view that does not change under it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

use crate::{
    Device, HiveId, ModelOnDisk, ModelRef, TenantId, TenantView, Time, WorkerId, WorkerInfo,
};

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerState {
    /// It is being started.
    Loading,
    /// It takes jobs: idle or busy, as its leases say.
    Ready,
    /// It is being stopped.
    Draining,
    /// It has failed too often, and gets no jobs until a probe succeeds.
    Failed,
}

/// A worker, as the queen sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Who it is. While it is loading: who it will be, as far as that is known.
    pub info: Arc<WorkerInfo>,
    /// What it is doing.
    pub state: WorkerState,
    /// Its hive answers. A worker out of reach gets no jobs; those it has go on.
    pub reachable: bool,
    /// Slots given out.
    pub leased: u32,
    /// When it became ready.
    pub ready_since: Time,
    /// When a slot of it was last given out or back.
    pub last_used: Time,
    /// Keys of the prompt prefixes that it keeps computed.
    pub warm: Arc<[u64]>,
    /// Memory it takes, in bytes: measured, or else as expected.
    pub memory_bytes: u64,
    /// Faults since it last did a job properly.
    pub faults: u32,
    /// It is never evicted.
    pub pinned: bool,
    /// It has been loaded for as long as [`Settings::min_loaded`](crate::Settings::min_loaded) wants, so it may make room
    /// for another model.
    pub settled: bool,
}

impl WorkerView {
    /// A worker that is ready and idle.
    pub fn ready(info: Arc<WorkerInfo>, now: Time) -> Self {
        Self {
            info,
            state: WorkerState::Ready,
            reachable: true,
            leased: 0,
            ready_since: now,
            last_used: now,
            warm: Arc::default(),
            memory_bytes: 0,
            faults: 0,
            pinned: false,
            settled: true,
        }
    }

    /// Slots that can be given out now.
    pub fn free_slots(&self) -> u32 {
        match self.state {
            WorkerState::Ready if self.reachable => self.info.slots.saturating_sub(self.leased),
            _ => 0,
        }
    }

    /// Is it idle and not pinned, so that somebody who asks for it may have it stopped to make room?
    pub fn is_stoppable(&self) -> bool {
        self.leased == 0
            && !self.pinned
            && matches!(self.state, WorkerState::Ready | WorkerState::Failed)
    }

    /// Slots that it has, or will have when it is loaded.
    fn usable_slots(&self) -> u64 {
        match self.state {
            WorkerState::Loading | WorkerState::Ready => self.info.slots.into(),
            WorkerState::Draining | WorkerState::Failed => 0,
        }
    }

    /// May it be stopped to make room for a job? One that failed may be at once, another when it has settled.
    pub fn is_evictable(&self) -> bool {
        self.is_stoppable() && (self.settled || self.state == WorkerState::Failed)
    }

    /// The place in the index: the least loaded first, among equals the one that was used longest ago.
    fn rank(&self) -> Rank {
        Rank {
            load: (u64::from(self.leased) << 16) / u64::from(self.info.slots.max(1)),
            last_used: self.last_used,
            id: self.info.id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: u64,
    last_used: Time,
    id: WorkerId,
}

/// A hive, as the queen sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct HiveView {
    /// Its name.
    pub id: HiveId,
    /// It answers. One that does not gets no jobs and no workers.
    pub online: bool,
    /// It is being emptied: it gets no new workers.
    pub draining: bool,
    /// What models can be loaded on.
    pub devices: Arc<[Device]>,
    /// Memory that its workers may take together, in bytes; none where they may fill its devices. See
    /// [`Settings::hive_memory`](crate::Settings::hive_memory).
    pub memory_budget: Option<u64>,
    /// What its owner says of it: `region`, `cost`, `power` and whatever a policy is to know.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The models on its disk.
    pub models: Arc<BTreeMap<ModelRef, ModelOnDisk>>,
    /// Memory that is promised to workers being started, by device, in bytes. The devices' free memory does not
    /// show it yet.
    pub reserved: BTreeMap<u32, u64>,
}

impl HiveView {
    /// May a worker be started on it?
    pub fn takes_workers(&self) -> bool {
        self.online && !self.draining
    }

    /// Memory of the device that is free and not promised, in bytes.
    pub fn free_bytes(&self, device: &Device) -> u64 {
        device.memory_free.saturating_sub(self.reserved.get(&device.index).copied().unwrap_or(0))
    }
}

/// The jobs that wait for one model and tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// How many.
    pub depth: usize,
    /// Since when the first of them has been waiting.
    pub oldest: Time,
}

impl LaneView {
    /// How long the first of them has been waiting.
    pub fn oldest_wait(&self, now: Time) -> Duration {
        now - self.oldest
    }
}

/// Which queue a job waits in: one model's backlog never blocks another's, nor one tenant's another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The model.
    pub model: ModelRef,
    /// The tenant.
    pub tenant: Option<TenantId>,
}

/// The whole cluster at one moment. Cloning costs a few reference counts.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    workers: Map<WorkerId, Arc<WorkerView>>,
    hives: Map<HiveId, Arc<HiveView>>,
    lanes: Map<LaneKey, LaneView>,
    /// Workers with a free slot, by model, the least loaded first.
    available: Map<ModelRef, Set<Rank>>,
    by_model: Map<ModelRef, Set<WorkerId>>,
    /// Slots of workers that have or are loading a model, free or not.
    slots: Map<ModelRef, u64>,
    by_hive: Map<HiveId, Set<WorkerId>>,
    /// The most that a worker of a model was seen to take, in bytes.
    measured: Map<ModelRef, u64>,
    tenants: Map<TenantId, Arc<TenantView>>,
}

/// Models whose measured memory is remembered.
const MEASURED: usize = 1_024;

impl ClusterView {
    /// The worker of this name.
    pub fn worker(&self, id: WorkerId) -> Option<&Arc<WorkerView>> {
        self.workers.get(&id)
    }

    /// All workers, by name.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<WorkerView>> {
        self.workers.values()
    }

    /// How many workers there are.
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

    /// Slots, free or not, of the workers that have or are loading this model. The cost does not depend on how many
    /// they are.
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

    /// Memory that the workers of this hive take together, in bytes: those being loaded or stopped too.
    pub fn memory_taken(&self, hive: &HiveId) -> u64 {
        self.on_hive(hive).map(|worker| worker.memory_bytes).fold(0, u64::saturating_add)
    }

    /// Memory that further workers of this hive may take, in bytes; none where it has no budget.
    pub fn memory_left(&self, hive: &HiveView) -> Option<u64> {
        hive.memory_budget.map(|budget| budget.saturating_sub(self.memory_taken(&hive.id)))
    }

    /// The hive of this name.
    pub fn hive(&self, id: &HiveId) -> Option<&Arc<HiveView>> {
        self.hives.get(id)
    }

    /// All hives, by name.
    pub fn hives(&self) -> impl Iterator<Item = &Arc<HiveView>> {
        self.hives.values()
    }

    /// The queue of one model and tenant.
    pub fn lane(&self, key: &LaneKey) -> Option<&LaneView> {
        self.lanes.get(key)
    }

    /// All queues in which jobs wait.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneKey, &LaneView)> {
        self.lanes.iter()
    }

    /// How many jobs wait for this model, and since when the first of them does; `None` where none does.
    pub fn waiting_for(&self, model: &ModelRef) -> Option<LaneView> {
        let first = LaneKey { model: model.clone(), tenant: None };
        let lanes = self.lanes.range(first..).take_while(|(key, _)| key.model == *model);
        lanes.map(|(_, lane)| lane).fold(None, |all, lane| {
            let (depth, oldest) =
                all.map_or((0, lane.oldest), |all: LaneView| (all.depth, all.oldest));
            Some(LaneView { depth: depth + lane.depth, oldest: oldest.min(lane.oldest) })
        })
    }

    /// The tenant of this name; none where nothing is known of it and no limits hold.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<TenantView>> {
        self.tenants.get(id)
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<TenantView>> {
        self.tenants.values()
    }

    /// Is the model known here: loaded or loading somewhere, or on the disk of some hive?
    pub fn knows_model(&self, model: &ModelRef) -> bool {
        self.by_model.contains_key(model)
            || self.hives().any(|hive| hive.models.contains_key(model))
    }

    /// The most memory that a worker of this model was seen to take since the queen began, in bytes.
    pub fn measured(&self, model: &ModelRef) -> Option<u64> {
        self.measured.get(model).copied()
    }

    /// A worker of this model takes so much.
    pub fn note_measured(&mut self, model: &ModelRef, bytes: u64) {
        let is_new = !self.measured.contains_key(model);
        if self.measured(model).is_some_and(|most| most >= bytes)
            || (is_new && self.measured.size() >= MEASURED)
        {
            return;
        }
        self.measured.insert_mut(model.clone(), bytes);
    }

    /// Puts a worker in, or in the place of the one of its name.
    pub fn put_worker(&mut self, view: WorkerView) {
        let id = view.info.id;
        self.remove_worker(id);
        index(&mut self.by_model, &view.info.model, id);
        index(&mut self.by_hive, &view.info.hive, id);
        if view.free_slots() > 0 {
            index(&mut self.available, &view.info.model, view.rank());
        }
        self.count_slots(&view.info.model, 0, view.usable_slots());
        self.workers.insert_mut(id, Arc::new(view));
    }

    /// Changes a worker, and the indexes with it. Its identity must stay. Says whether there is one of that name.
    pub fn edit_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut WorkerView)) -> bool {
        let Some(slot) = self.workers.get_mut(&id) else {
            return false;
        };
        let (slots, before) = (slot.usable_slots(), (slot.free_slots() > 0).then(|| slot.rank()));
        let view = Arc::make_mut(slot);
        change(view);
        let (slots_after, after) =
            (view.usable_slots(), (view.free_slots() > 0).then(|| view.rank()));
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

    /// Takes a worker out.
    pub fn remove_worker(&mut self, id: WorkerId) -> Option<Arc<WorkerView>> {
        let view = self.workers.get(&id)?.clone();
        self.workers.remove_mut(&id);
        unindex(&mut self.by_model, &view.info.model, &id);
        unindex(&mut self.by_hive, &view.info.hive, &id);
        if view.free_slots() > 0 {
            unindex(&mut self.available, &view.info.model, &view.rank());
        }
        self.count_slots(&view.info.model, view.usable_slots(), 0);
        Some(view)
    }

    /// Puts a hive in, or in the place of the one of its name.
    pub fn put_hive(&mut self, view: HiveView) {
        self.hives.insert_mut(view.id.clone(), Arc::new(view));
    }

    /// Changes a hive. Says whether there is one of that name.
    pub fn edit_hive(&mut self, id: &HiveId, change: impl FnOnce(&mut HiveView)) -> bool {
        let Some(slot) = self.hives.get_mut(id) else {
            return false;
        };
        change(Arc::make_mut(slot));
        true
    }

    /// Takes a hive out.
    pub fn remove_hive(&mut self, id: &HiveId) {
        self.hives.remove_mut(id);
    }

    /// Puts a tenant in, or in the place of the one of its name.
    pub fn put_tenant(&mut self, view: TenantView) {
        self.tenants.insert_mut(view.id.clone(), Arc::new(view));
    }

    /// Changes a tenant. Says whether there is one of that name.
    pub fn edit_tenant(&mut self, id: &TenantId, change: impl FnOnce(&mut TenantView)) -> bool {
        let Some(slot) = self.tenants.get_mut(id) else {
            return false;
        };
        change(Arc::make_mut(slot));
        true
    }

    /// Takes a tenant out.
    pub fn remove_tenant(&mut self, id: &TenantId) {
        self.tenants.remove_mut(id);
    }

    /// Sets what waits in a queue; `None` where nothing does any more.
    pub fn put_lane(&mut self, key: &LaneKey, lane: Option<LaneView>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: u128, model: &str, slots: u32) -> WorkerView {
        let mut info = WorkerInfo::new(model.parse().unwrap(), "test");
        info.id = WorkerId::from_random_bits(id);
        info.slots = slots;
        WorkerView::ready(Arc::new(info), Time::default())
    }

    fn order(cluster: &ClusterView, model: &str) -> Vec<WorkerId> {
        cluster.available(&model.parse().unwrap()).map(|w| w.info.id).collect()
    }

    #[test]
    fn the_index_lists_only_free_workers_and_the_least_loaded_first() {
        let mut cluster = ClusterView::default();
        let ids: Vec<_> = (1..=3).map(WorkerId::from_random_bits).collect();
        cluster.put_worker(worker(1, "m", 2));
        cluster.put_worker(worker(2, "m", 4));
        cluster.put_worker(worker(3, "other", 1));
        cluster.edit_worker(ids[0], |w| w.leased = 1);
        cluster.edit_worker(ids[1], |w| w.leased = 1);
        assert_eq!(order(&cluster, "m"), [ids[1], ids[0]], "1 of 4 is less loaded than 1 of 2");
        cluster.edit_worker(ids[0], |w| w.leased = 2);
        assert_eq!(order(&cluster, "m"), [ids[1]]);
        cluster.edit_worker(ids[1], |w| w.state = WorkerState::Draining);
        assert!(order(&cluster, "m").is_empty());
        cluster.remove_worker(ids[0]);
        cluster.remove_worker(ids[1]);
        assert!(!cluster.knows_model(&"m".parse().unwrap()));
        assert_eq!(order(&cluster, "other"), [ids[2]]);
    }

    #[test]
    fn slots_are_counted_while_their_worker_has_or_loads_the_model() {
        let (mut cluster, model) = (ClusterView::default(), "m".parse().unwrap());
        let ids: Vec<_> = (1..=2).map(WorkerId::from_random_bits).collect();
        cluster.put_worker(worker(1, "m", 2));
        cluster.put_worker(WorkerView { state: WorkerState::Loading, ..worker(2, "m", 4) });
        assert_eq!(cluster.slots(&model), 6);
        cluster.edit_worker(ids[0], |w| w.leased = 2);
        assert_eq!(cluster.slots(&model), 6);
        cluster.edit_worker(ids[0], |w| w.state = WorkerState::Failed);
        cluster.put_worker(worker(2, "m", 3));
        assert_eq!(cluster.slots(&model), 3);
        cluster.remove_worker(ids[1]);
        cluster.edit_worker(ids[0], |w| w.state = WorkerState::Ready);
        assert_eq!(cluster.slots(&model), 2);
        cluster.remove_worker(ids[0]);
        assert_eq!(cluster.slots(&model), 0);
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut cluster = ClusterView::default();
        cluster.put_worker(worker(1, "m", 2));
        let before = cluster.clone();
        cluster.edit_worker(WorkerId::from_random_bits(1), |w| w.leased = 2);
        assert_eq!(order(&before, "m").len(), 1);
        assert!(order(&cluster, "m").is_empty());
    }
}
