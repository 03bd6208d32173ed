//! Memory: what workers are expected to take, what they are seen to take, and how much of it is reserved for them.

use std::ops::Bound;

use super::*;
use crate::{
    cluster::{HiveView, WorkerView, counted_on},
    device::{Device, DeviceKind},
    worker::WorkerHealth,
};

/// The most models without a worker that are asked about again when a hive may have room for them.
const BLOCKED_WOKEN: usize = 8;
const BLOCKED_LOOKS: usize = 32;

/// The memory that workers are expected to take, and how much of it is reserved because the reports of their hive do
/// not show it yet.
#[derive(Debug, Default)]
pub(super) struct MemoryReservations(BTreeMap<WorkerId, Reservation>);

/// Models without a worker whose jobs must wait for memory: a worker that becomes idle may make room for them.
#[derive(Debug, Default)]
pub(super) struct BlockedModels {
    models: BTreeSet<ModelRef>,
    /// The model that was asked about last.
    last: Option<ModelRef>,
}

impl BlockedModels {
    pub(super) fn insert(&mut self, model: ModelRef) {
        self.models.insert(model);
    }

    pub(super) fn remove(&mut self, model: &ModelRef) {
        self.models.remove(model);
    }

    /// The next model to ask about, in turn.
    fn next(&mut self) -> Option<ModelRef> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.models.range((after, Bound::Unbounded)).next();
        self.last = Some(next.or_else(|| self.models.first())?.clone());
        self.last.clone()
    }
}

/// What a worker is expected to take, and what of that its hive's devices do not show as taken.
#[derive(Debug)]
struct Reservation {
    hive: HiveId,
    devices: Vec<u32>,
    expected: u64,
    /// Bytes reserved on each of its devices.
    part: u64,
}

/// The memory of the hives, as the engine plans it.
#[derive(Debug, Default)]
pub(super) struct MemoryState {
    pub(super) reservations: MemoryReservations,
    pub(super) blocked: BlockedModels,
}

impl Engine {
    /// Reserves the memory that a worker that is being started is expected to take, in equal parts on its devices.
    pub(super) fn reserve(&mut self, info: &WorkerInfo, expected: u64) {
        self.set_reservation(info, expected, expected);
    }

    /// Notes what a worker that was found running is expected to take.
    pub(super) fn expect(&mut self, info: &WorkerInfo, health: &WorkerHealth) -> u64 {
        let expected = self.expected_of(info);
        let seen = self.seen(info, health);
        self.set_reservation(info, expected, seen.map_or(0, |seen| expected.saturating_sub(seen)));
        expected.max(seen.unwrap_or(0))
    }

    fn set_reservation(&mut self, info: &WorkerInfo, expected: u64, unseen: u64) {
        self.release_memory(info.id);
        let devices = counted_on(&info.devices).to_vec();
        let part = unseen / devices.len() as u64;
        let reservation = Reservation { hive: info.hive.clone(), devices, expected, part };
        self.change_reserved(&reservation, |reserved| reserved.saturating_add(part));
        self.memory.reservations.0.insert(info.id, reservation);
    }

    /// Releases the memory of a worker that is gone.
    pub(super) fn release_memory(&mut self, worker: WorkerId) {
        if let Some(reservation) = self.memory.reservations.0.remove(&worker) {
            self.change_reserved(&reservation, |reserved| {
                reserved.saturating_sub(reservation.part)
            });
        }
    }

    fn change_reserved(&mut self, reservation: &Reservation, change: impl Fn(u64) -> u64) {
        if reservation.part == 0 {
            return;
        }
        self.view.edit_hive(&reservation.hive, |view| {
            for device in &reservation.devices {
                let bytes = change(view.reserved.get(device).copied().unwrap_or(0));
                match bytes {
                    0 => view.reserved.remove(device),
                    bytes => view.reserved.insert(*device, bytes),
                };
            }
        });
    }

    /// A report of the devices includes the worker. What it is expected to take later, for instance the keys and values
    /// of longer sequences, stays reserved; nothing stays reserved if it does not report what it takes.
    pub(super) fn shown(&mut self, worker: &WorkerInfo, health: &WorkerHealth) {
        let Some(reservation) = self.memory.reservations.0.get(&worker.id) else { return };
        let (expected, part) = (reservation.expected, reservation.part);
        let info = WorkerInfo { hive: reservation.hive.clone(), ..worker.clone() };
        let seen = self.seen(&info, health);
        let unseen = seen.map_or(0, |seen| expected.saturating_sub(seen));
        if unseen / counted_on(&info.devices).len() as u64 != part {
            self.set_reservation(&info, expected, unseen);
        }
    }

    /// The worker has loaded. Returns what it is expected to take from now on: as planned, or as the worker reports its
    /// model if the plan did not know that.
    pub(super) fn loaded_expecting(&mut self, info: &WorkerInfo, spec: &WorkerSpec) -> u64 {
        let expected = match self.expected_of(info) {
            0 => spec.need_bytes,
            expected if spec.need_bytes == 0 => expected,
            expected if info.slots < spec.slots => expected.min(spec.need_bytes),
            _ => spec.need_bytes,
        };
        if let Some(reservation) = self.memory.reservations.0.get_mut(&info.id) {
            reservation.expected = expected;
        }
        expected
    }

    /// Takes in what a worker reports of its memory. What it is expected to take counts as taken, even if it does not
    /// take it yet.
    pub(super) fn take_memory(&mut self, worker: WorkerId, health: &WorkerHealth) {
        let Some(view) = self.view.worker(worker) else { return };
        let info = view.info.clone();
        let Some(seen) = self.seen(&info, health) else { return };
        let expected =
            self.memory.reservations.0.get(&worker).map_or(0, |reservation| reservation.expected);
        self.view.edit_worker(worker, |view| view.memory_bytes = expected.max(seen));
        if let Some(kind) = self.kind_of(&info) {
            self.view.note_measured(&info.model, kind, seen);
        }
    }

    /// What the worker reports to take; `None` if its devices do not have as much.
    fn seen(&self, info: &WorkerInfo, health: &WorkerHealth) -> Option<u64> {
        let bytes = health.vram_bytes?;
        let hive = self.view.hive(&info.hive)?;
        let its =
            hive.devices.iter().filter(|device| counted_on(&info.devices).contains(&device.index));
        let total = its.map(|device| device.memory_total).reduce(u64::saturating_add);
        Some(bytes).filter(|bytes| total.is_none_or(|total| *bytes <= total))
    }

    fn kind_of(&self, info: &WorkerInfo) -> Option<DeviceKind> {
        let hive = self.view.hive(&info.hive)?;
        let its = |device: &&Device| counted_on(&info.devices).contains(&device.index);
        hive.devices.iter().find(its).map(|device| device.kind)
    }

    /// What a worker like this takes, as far as its model is known.
    fn expected_of(&self, info: &WorkerInfo) -> u64 {
        let (Some(hive), Some(kind)) = (self.view.hive(&info.hive), self.kind_of(info)) else {
            return 0;
        };
        let on_disk = hive.model_here(&info.model, self.view.largest_on_disk(&info.model));
        let sizing = self.config.sizing.with_slots(info.slots);
        sizing.worker_memory(&self.view, &info.model, on_disk.as_deref(), kind).expected
    }

    /// The reason why the worker does not fit even if these are stopped: on its devices, or within the limit of the
    /// hive's workers together. `None` if its need is unknown.
    pub(super) fn has_no_room(
        &self,
        hive: &HiveId,
        spec: &WorkerSpec,
        evict: &[WorkerId],
    ) -> Option<String> {
        let view = self.view.hive(hive)?;
        let evict: BTreeSet<_> = evict.iter().collect();
        let evict: Vec<_> = evict.into_iter().filter_map(|id| self.view.worker(*id)).collect();
        let devices = counted_on(&spec.devices);
        let part = spec.need_bytes / devices.len() as u64;
        let its = view.devices.iter().filter(|device| devices.contains(&device.index));
        let mut full = its.filter_map(|device| {
            let freed = evict.iter().filter(|worker| worker.devices().contains(&device.index));
            let freed = freed.map(|worker| worker.share()).fold(0, u64::saturating_add);
            let reserved = view.reserved.get(&device.index).copied().unwrap_or(0);
            let missing = part.saturating_add(reserved).saturating_sub(device.memory_free);
            (part > 0 && missing > freed).then(|| {
                format!(
                    "model {} needs {part} bytes on device {}, and {} are free there, {freed} more after the planned evictions",
                    spec.model, device.index, view.free_bytes(device)
                )
            })
        });
        full.next().or_else(|| self.over_budget(view, spec, &evict))
    }

    fn over_budget(
        &self,
        hive: &HiveView,
        spec: &WorkerSpec,
        evict: &[&Arc<WorkerView>],
    ) -> Option<String> {
        let budget = hive.memory_budget?;
        let freed = evict.iter().map(|worker| worker.memory_bytes).fold(0, u64::saturating_add);
        let taken = self.view.memory_taken(&hive.id).saturating_sub(freed);
        (taken.saturating_add(spec.need_bytes) > budget).then(|| {
            format!(
                "the workers of hive {} may take {budget} bytes together (setting hive_memory); {taken} are taken, and model {} needs {}",
                hive.id, spec.model, spec.need_bytes
            )
        })
    }

    /// Wakes the lanes of models without a worker: only a start can help them, and there may be room for one on this
    /// hive now. They take turns, so that many of them do not make every end of a job expensive; the rest is asked
    /// about at the next tick of the autoscaler.
    pub(super) fn wake_starved(&mut self, hive: &HiveId) {
        if self.memory.blocked.models.is_empty() {
            return;
        }
        let Some(room) = self.room_on(hive) else { return };
        let mut woken = 0;
        for _ in 0..BLOCKED_LOOKS.min(self.memory.blocked.models.len()) {
            let Some(model) = self.memory.blocked.next() else { return };
            if self.least_need(&model) > room {
                continue;
            }
            self.memory.blocked.remove(&model);
            self.wake_model(&model);
            woken += 1;
            if woken == BLOCKED_WOKEN {
                return;
            }
        }
    }

    /// The most that a new worker could have on this hive, over all its devices, after every allowed eviction.
    fn room_on(&self, hive: &HiveId) -> Option<u64> {
        let view = self.view.hive(hive).filter(|view| view.takes_workers())?;
        let on = |device: &Device| {
            view.free_bytes(device).saturating_add(self.view.evictable(hive, device.index).0)
        };
        let room = view.devices.iter().map(on).fold(0, u64::saturating_add);
        let within = self
            .view
            .memory_left(view)
            .map(|left| left.saturating_add(self.view.evictable(hive, 0).1));
        Some(room.min(within.unwrap_or(u64::MAX)))
    }

    /// What a worker of the model takes at least, whatever the policy expects: its weights. 0 if they are unknown.
    fn least_need(&self, model: &ModelRef) -> u64 {
        let on_disk = self.view.with_model_on_disk(model).next();
        let on_disk = on_disk.and_then(|hive| hive.models.get(model));
        on_disk.map_or(0, |on| on.info.as_ref().map_or(on.bytes, |info| info.weights_bytes))
    }
}
