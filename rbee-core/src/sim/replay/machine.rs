//! A simulated machine: its disk, its workers, and their prefix caches.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    device::Device,
    error::{Error, ErrorKind, Result},
    hive::{HiveReport, WorkerReport},
    id::WorkerId,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    sim::FleetHive,
    worker::{Capabilities, WorkerHealth, WorkerInfo},
    worker_spec::WorkerSpec,
};

/// Prefix keys that a worker caches; beyond that it evicts the least recently used one.
const WARM_KEYS: usize = 256;

/// Cached prefix keys.
#[derive(Debug, Default)]
pub(super) struct Warm {
    used: BTreeMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
}

impl Warm {
    /// How many of the first keys are in the cache.
    pub(super) fn covered(&self, prefix: &[u64]) -> usize {
        prefix.iter().take_while(|key| self.used.contains_key(key)).count()
    }

    /// Marks the keys as used now. Returns true if any of them is new.
    pub(super) fn touch(&mut self, prefix: &[u64]) -> bool {
        let mut changed = false;
        // From the longest to the shortest, so that the long ones are evicted first: they are of no use without the
        // short ones.
        for key in prefix.iter().rev() {
            self.clock += 1;
            match self.used.insert(*key, self.clock) {
                Some(before) => _ = self.by_use.remove(&before),
                None => changed = true,
            }
            self.by_use.insert(self.clock, *key);
        }
        while self.used.len() > WARM_KEYS {
            if let Some((_, key)) = self.by_use.pop_first() {
                self.used.remove(&key);
            }
        }
        changed
    }

    fn keys(&self) -> Vec<u64> {
        self.used.keys().copied().collect()
    }
}

#[derive(Debug)]
pub(super) struct Resident {
    pub(super) info: Arc<WorkerInfo>,
    memory: u64,
    pub(super) warm: Warm,
    pub(super) running: u32,
    is_ready: bool,
    /// A report of its cache is on its way.
    pub(super) is_reporting: bool,
}

impl Resident {
    pub(super) fn health(&self) -> WorkerHealth {
        WorkerHealth { busy: self.running, warm: self.warm.keys(), vram_bytes: Some(self.memory) }
    }

    fn memory_on(&self, device: u32) -> u64 {
        let devices = &self.info.devices;
        if devices.contains(&device) { self.memory / devices.len() as u64 } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    rev: u64,
    /// With the memory that is free if no worker runs.
    devices: Vec<Device>,
    pub(super) models: BTreeMap<ModelRef, ModelOnDisk>,
    /// Memory of workers that take something else than expected.
    takes: BTreeMap<ModelRef, u64>,
    pub(super) workers: BTreeMap<WorkerId, Resident>,
}

impl Machine {
    pub(super) fn new(hive: &FleetHive) -> Self {
        let mut devices = hive.devices();
        for device in &mut devices {
            let empty = device.memory_free.saturating_add(hive.taken(device.index));
            device.memory_free = empty.min(device.memory_total);
        }
        let workers = hive.workers.iter().enumerate().map(|(place, worker)| {
            let info = worker.info(hive, place);
            let mut warm = Warm::default();
            warm.touch(&worker.warm);
            let resident = Resident {
                memory: worker.memory(hive),
                warm,
                running: 0,
                is_ready: true,
                is_reporting: false,
                info: Arc::new(info),
            };
            (resident.info.id, resident)
        });
        Self {
            rev: 1,
            devices,
            models: hive.on_disk().map(|model| (model.model.clone(), model)).collect(),
            takes: hive.takes.clone(),
            workers: workers.collect(),
        }
    }

    fn free(&self, device: &Device, with_starting: bool) -> u64 {
        let workers = self.workers.values().filter(|worker| worker.is_ready || with_starting);
        let taken = workers.map(|worker| worker.memory_on(device.index));
        device.memory_free.saturating_sub(taken.fold(0, u64::saturating_add))
    }

    /// Begins to start a worker. Returns the size of its files in bytes.
    pub(super) fn begin(
        &mut self,
        worker: WorkerId,
        hive: &crate::id::HiveId,
        spec: &WorkerSpec,
    ) -> Result<u64> {
        let Some(on_disk) = self.models.get(&spec.model) else {
            let message = format!("model {} is not on the disk of hive {hive}", spec.model);
            return Err(Error::new(ErrorKind::ModelNotFound, message));
        };
        let bytes = on_disk.bytes;
        let expected = if spec.need_bytes > 0 { spec.need_bytes } else { bytes };
        let memory = self.takes.get(&spec.model).copied().unwrap_or(expected);
        let mut info = WorkerInfo::named(worker, spec.model.clone(), "simulated");
        info.hive = hive.clone();
        info.devices = spec.devices.clone();
        info.slots = spec.slots;
        info.capabilities = Capabilities {
            generate: true,
            embed: true,
            rerank: true,
            resume: true,
            ..Capabilities::default()
        };
        let resident = Resident {
            info: Arc::new(info),
            memory,
            warm: Warm::default(),
            running: 0,
            is_ready: false,
            is_reporting: false,
        };
        for device in &self.devices {
            let (need, free) = (resident.memory_on(device.index), self.free(device, true));
            if need > free {
                let message = format!(
                    "model {} needs {need} bytes on device {} of hive {hive}, and {free} are free",
                    spec.model, device.index
                );
                return Err(Error::new(ErrorKind::InsufficientVram, message));
            }
        }
        self.workers.insert(worker, resident);
        Ok(bytes)
    }

    /// The worker is ready. `None` if it was stopped before.
    pub(super) fn ready(&mut self, worker: WorkerId) -> Option<Arc<WorkerInfo>> {
        let resident = self.workers.get_mut(&worker)?;
        self.rev += 1;
        resident.is_ready = true;
        Arc::make_mut(&mut resident.info).since = self.rev;
        Some(resident.info.clone())
    }

    pub(super) fn stop(&mut self, worker: WorkerId) {
        if self.workers.remove(&worker).is_some() {
            self.rev += 1;
        }
    }

    pub(super) fn report(&self) -> HiveReport {
        let device =
            |device: &Device| Device { memory_free: self.free(device, false), ..device.clone() };
        let ready = self.workers.values().filter(|worker| worker.is_ready);
        HiveReport {
            engines: None,
            rev: self.rev,
            devices: self.devices.iter().map(device).collect(),
            models: self.models.values().cloned().collect(),
            workers: ready
                .map(|worker| WorkerReport {
                    info: (*worker.info).clone(),
                    health: worker.health(),
                })
                .collect(),
        }
    }
}
