//! What a scheduler sees: workers, hives and queues, with the indexes that make looking cheap.
//!
//! The maps are persistent: a clone costs nothing and an update with a clone held costs little, so a policy on
//! another thread looks at a view that does not change under it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

mod memory;

use memory::{Measured, Part, Room};

use crate::{
    Device, DeviceKind, HiveId, ModelOnDisk, ModelRef, TenantId, TenantView, Time, WorkerId,
    WorkerInfo,
};

/// The devices that a worker is counted on: those that it names, or else the processor.
pub(crate) fn counted_on(devices: &[u32]) -> &[u32] {
    if devices.is_empty() { &[0] } else { devices }
}

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
    /// Memory it takes, in bytes: as expected, or what it is seen to take where that is more.
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

    /// The devices that it is counted on.
    pub(crate) fn devices(&self) -> &[u32] {
        counted_on(&self.info.devices)
    }

    /// What it takes of each of its devices, in bytes. What takes several is taken to be spread evenly over them.
    pub(crate) fn share(&self) -> u64 {
        self.memory_bytes / self.devices().len() as u64
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

/// The models on one hive's disk.
type OnDisk = BTreeMap<ModelRef, ModelOnDisk>;

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
    /// Hives, by the models on their disks.
    holders: Map<ModelRef, Set<HiveId>>,
    rooms: Map<HiveId, Room>,
    measured: Measured,
    tenants: Map<TenantId, Arc<TenantView>>,
}

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

    /// How many workers this hive has.
    pub fn count_on_hive(&self, hive: &HiveId) -> usize {
        self.rooms.get(hive).map_or(0, Room::workers)
    }

    /// Memory that the workers of this hive take together, in bytes: those being loaded or stopped too.
    pub fn memory_taken(&self, hive: &HiveId) -> u64 {
        self.rooms.get(hive).map_or(0, Room::taken)
    }

    /// Memory that the workers of this hive would give back that may be stopped to make room, in bytes: on this device,
    /// and in all.
    pub(crate) fn evictable(&self, hive: &HiveId, device: u32) -> (u64, u64) {
        let room = self.rooms.get(hive);
        room.map_or((0, 0), |room| (room.evictable_on(device), room.evictable()))
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

    /// The hives with this model on their disk, by name. The cost does not depend on how many others there are.
    pub fn with_model_on_disk(&self, model: &ModelRef) -> impl Iterator<Item = &Arc<HiveView>> {
        self.holders
            .get(model)
            .into_iter()
            .flat_map(|set| set.iter())
            .filter_map(|id| self.hives.get(id))
    }

    /// Is the model known here: loaded or loading somewhere, or on the disk of some hive?
    pub fn knows_model(&self, model: &ModelRef) -> bool {
        self.by_model.contains_key(model) || self.holders.contains_key(model)
    }

    /// Memory that a worker of this model was lately seen to take on a device of this kind, in bytes; the most of them,
    /// where they differ. It is learned from what workers report, after a restart from those that live.
    pub fn measured(&self, model: &ModelRef, kind: DeviceKind) -> Option<u64> {
        self.measured.get(model, kind)
    }

    /// A worker of this model takes so much on a device of this kind.
    pub fn note_measured(&mut self, model: &ModelRef, kind: DeviceKind, bytes: u64) {
        self.measured.note(model, kind, bytes);
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
        if !self.rooms.contains_key(&view.info.hive) {
            self.rooms.insert_mut(view.info.hive.clone(), Room::default());
        }
        if let Some(room) = self.rooms.get_mut(&view.info.hive) {
            room.add(Part::of(&view), view.devices());
        }
        self.workers.insert_mut(id, Arc::new(view));
    }

    /// Changes a worker, and the indexes with it. Its identity must stay. Says whether there is one of that name.
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
        if let Some(room) = self.rooms.get_mut(&view.info.hive) {
            room.take_out(Part::of(&view), view.devices());
            if room.workers() == 0 {
                self.rooms.remove_mut(&view.info.hive);
            }
        }
        Some(view)
    }

    /// Puts a hive in, or in the place of the one of its name.
    pub fn put_hive(&mut self, view: HiveView) {
        let old = self.hives.get(&view.id).map(|old| old.models.clone());
        self.index_models(&view.id, &old.unwrap_or_default(), &view.models);
        self.hives.insert_mut(view.id.clone(), Arc::new(view));
    }

    /// Changes a hive. Says whether there is one of that name.
    pub fn edit_hive(&mut self, id: &HiveId, change: impl FnOnce(&mut HiveView)) -> bool {
        let Some(slot) = self.hives.get_mut(id) else {
            return false;
        };
        // Held, so that a change of the models makes another map of them.
        let old = slot.models.clone();
        let view = Arc::make_mut(slot);
        change(view);
        let new = view.models.clone();
        self.index_models(id, &old, &new);
        true
    }

    /// Takes a hive out.
    pub fn remove_hive(&mut self, id: &HiveId) {
        if let Some(old) = self.hives.get(id).map(|old| old.models.clone()) {
            self.index_models(id, &old, &Arc::default());
        }
        self.hives.remove_mut(id);
    }

    /// The models on the hive's disk are others.
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

    fn on_disk(hive: &str, models: &[&str]) -> HiveView {
        let models = models.iter().map(|model| {
            let model: ModelRef = model.parse().unwrap();
            (model.clone(), ModelOnDisk::new(model, 1))
        });
        HiveView {
            id: HiveId::new(hive).unwrap(),
            online: true,
            draining: false,
            devices: Arc::default(),
            memory_budget: None,
            labels: Arc::default(),
            models: Arc::new(models.collect()),
            reserved: BTreeMap::new(),
        }
    }

    #[test]
    fn what_hives_have_on_their_disks_is_found_by_model_whatever_changes() {
        let mut cluster = ClusterView::default();
        let holders = |cluster: &ClusterView, model: &str| -> Vec<String> {
            let model = model.parse().unwrap();
            cluster.with_model_on_disk(&model).map(|hive| hive.id.to_string()).collect()
        };
        cluster.put_hive(on_disk("a", &["m", "n"]));
        cluster.put_hive(on_disk("b", &["m"]));
        assert_eq!(holders(&cluster, "m"), ["a", "b"]);
        cluster.put_hive(on_disk("a", &["n"]));
        assert_eq!(
            (holders(&cluster, "m"), holders(&cluster, "n")),
            (vec!["b".into()], vec!["a".into()])
        );
        let added: ModelRef = "o".parse().unwrap();
        cluster.edit_hive(&HiveId::new("b").unwrap(), |hive| {
            let models = Arc::make_mut(&mut hive.models);
            models.clear();
            models.insert(added.clone(), ModelOnDisk::new(added.clone(), 1));
        });
        assert_eq!((holders(&cluster, "m").len(), holders(&cluster, "o")), (0, vec!["b".into()]));
        cluster.remove_hive(&HiveId::new("b").unwrap());
        assert!(!cluster.knows_model(&added) && cluster.knows_model(&"n".parse().unwrap()));
    }

    #[test]
    fn what_the_workers_of_a_hive_take_and_would_give_back_follows_every_change() {
        let mut cluster = ClusterView::default();
        let (hive, first) = (HiveId::local(), worker(1, "m", 1).info.id);
        let figures = |cluster: &ClusterView| {
            let (on_device, in_all) = cluster.evictable(&hive, 2);
            (cluster.count_on_hive(&hive), cluster.memory_taken(&hive), on_device, in_all)
        };
        let mut wide = worker(1, "m", 1);
        wide.info = Arc::new(WorkerInfo { devices: vec![1, 2], ..(*wide.info).clone() });
        wide.memory_bytes = 10;
        cluster.put_worker(wide.clone());
        cluster.put_worker(WorkerView { memory_bytes: 7, ..worker(2, "m", 1) });
        assert_eq!(figures(&cluster), (2, 17, 5, 17));
        assert_eq!(
            cluster.evictable(&hive, 0),
            (7, 17),
            "one without a device is on the processor"
        );
        let before = cluster.clone();
        cluster.edit_worker(first, |worker| worker.leased = 1);
        assert_eq!(figures(&cluster), (2, 17, 0, 7));
        cluster.edit_worker(first, |worker| worker.memory_bytes = u64::MAX);
        assert_eq!(figures(&cluster), (2, u64::MAX, 0, 7));
        cluster.put_worker(wide);
        cluster.remove_worker(worker(2, "m", 1).info.id);
        assert_eq!(figures(&cluster), (1, 10, 5, 10));
        cluster.remove_worker(first);
        assert_eq!((figures(&cluster), figures(&before)), ((0, 0, 0, 0), (2, 17, 5, 17)));
    }

    #[test]
    fn measured_memory_rises_at_once_and_comes_down_for_each_kind_of_device_alone() {
        let (mut cluster, model) = (ClusterView::default(), "m".parse().unwrap());
        cluster.note_measured(&model, DeviceKind::Cpu, 28_000);
        assert_eq!(cluster.measured(&model, DeviceKind::Cuda), None);
        cluster.note_measured(&model, DeviceKind::Cuda, 14_000);
        let mut last = 28_000;
        for _ in 0..60 {
            cluster.note_measured(&model, DeviceKind::Cpu, 20_000);
            let now = cluster.measured(&model, DeviceKind::Cpu).unwrap();
            assert!(now < last || now == 20_000);
            last = now;
        }
        assert_eq!((last, cluster.measured(&model, DeviceKind::Cuda)), (20_000, Some(14_000)));
        cluster.note_measured(&model, DeviceKind::Cpu, 21_000);
        assert_eq!(cluster.measured(&model, DeviceKind::Cpu), Some(21_000));
    }
}
