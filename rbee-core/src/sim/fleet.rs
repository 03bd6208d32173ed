//! A description of a fleet, and the view that a policy has of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{ClusterView, HiveView, WorkerState, WorkerView},
    device::{Device, DeviceKind},
    error::{Result, invalid},
    id::{HiveId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    prefix::{START, hash},
    time::Time,
    worker::{Capabilities, WorkerInfo},
};

/// A described fleet, in the form that `rbee policy check --fleet` reads.
///
/// ```
/// use rbee_core::sim::Fleet;
///
/// let fleet: Fleet = serde_json::from_str(r#"{
///     "hives": [{
///         "id": "attic",
///         "labels": { "region": "eu" },
///         "devices": [{ "kind": "cuda", "memory_total": 24000000000 }],
///         "models": { "bee-tiny": 4000000000 },
///         "workers": [{ "model": "bee-tiny", "slots": 4, "memory_bytes": 5000000000, "busy": 1 }]
///     }]
/// }"#)?;
/// assert_eq!(fleet.view()?.worker_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// `hives`: its machines.
    pub hives: Vec<FleetHive>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetHive {
    /// `id`: its id.
    pub id: HiveId,
    /// `labels`: the labels given by its owner. None by default.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `online`: it answers. True by default.
    #[serde(default = "yes")]
    pub online: bool,
    /// `draining`: it gets no new workers. False by default.
    #[serde(default)]
    pub draining: bool,
    /// `devices`: the devices that models can be loaded on; the first has index 0.
    #[serde(default)]
    pub devices: Vec<FleetDevice>,
    /// `memory_budget`: memory that its workers may take together, in bytes. By default all memory of the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<u64>,
    /// `models`: the models on its disk, each with the size of its files in bytes.
    #[serde(default)]
    pub models: BTreeMap<ModelRef, u64>,
    /// `takes`: memory that a worker of a model takes that is started there, in bytes, if that differs from the
    /// expected memory: a replay shows the consequences. None by default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub takes: BTreeMap<ModelRef, u64>,
    /// `workers`: the workers that run.
    #[serde(default)]
    pub workers: Vec<FleetWorker>,
}

/// A device that models can be loaded on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetDevice {
    /// `kind`: `cpu`, `cuda` or `metal`.
    pub kind: DeviceKind,
    /// `name`: its product name. Empty by default.
    #[serde(default)]
    pub name: String,
    /// `memory_total`: all of its memory, in bytes.
    pub memory_total: u64,
    /// `memory_free`: the memory that is free while the workers run, in bytes. By default what the workers leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
}

/// A worker that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetWorker {
    /// `id`: its id, a UUID. By default one derived from its hive and its index in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<WorkerId>,
    /// `model`: the model that it has loaded.
    pub model: ModelRef,
    /// `slots`: how many runs it does at once. 1 by default.
    #[serde(default = "one")]
    pub slots: u32,
    /// `device`: the index of the device it runs on. 0 by default.
    #[serde(default)]
    pub device: u32,
    /// `memory_bytes`: the memory it takes there. By default the size of the model's files on its hive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// `busy`: slots in use. 0 by default.
    #[serde(default)]
    pub busy: u32,
    /// `embed`: it computes embeddings; if this and `rerank` are false, it generates text. False by default.
    #[serde(default)]
    pub embed: bool,
    /// `rerank`: it scores documents by their relevance to a query. False by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rerank: bool,
    /// `pinned`: it is never evicted. False by default.
    #[serde(default)]
    pub pinned: bool,
    /// `warm`: keys of the prompt prefixes in its cache. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm: Vec<u64>,
}

const fn yes() -> bool {
    true
}

const fn one() -> u32 {
    1
}

impl Fleet {
    /// The fleet of this view. Workers that are being started or stopped are left out; for a worker on several devices
    /// only the first is kept.
    pub fn of(cluster: &ClusterView) -> Self {
        Self { hives: cluster.hives().map(|hive| FleetHive::of(hive, cluster)).collect() }
    }

    /// A policy's view of this fleet when nothing waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) that names the hive, the value and what is
    /// allowed: an id used twice, a missing device, more slots in use than there are, more memory free than there is.
    pub fn view(&self) -> Result<ClusterView> {
        self.validate()?;
        let mut view = ClusterView::default();
        for hive in &self.hives {
            view.put_hive(HiveView {
                id: hive.id.clone(),
                online: hive.online,
                draining: hive.draining,
                devices: hive.devices().into(),
                memory_budget: hive.memory_budget,
                labels: Arc::new(hive.labels.clone()),
                models: Arc::new(
                    hive.on_disk().map(|model| (model.model.clone(), model)).collect(),
                ),
                engines: None,
                reserved: BTreeMap::new(),
            });
            for (place, worker) in hive.workers.iter().enumerate() {
                let info = worker.info(hive, place);
                let mut ready = WorkerView::ready(Arc::new(info), Time::default());
                ready.reachable = hive.online;
                ready.leased = worker.busy;
                ready.pinned = worker.pinned;
                ready.warm = worker.warm.as_slice().into();
                ready.memory_bytes = worker.memory(hive);
                view.put_worker(ready);
            }
        }
        Ok(view)
    }

    pub(super) fn validate(&self) -> Result<()> {
        let (mut hives, mut workers) = (BTreeSet::new(), BTreeSet::new());
        for hive in &self.hives {
            let id = &hive.id;
            if !hives.insert(id) {
                return Err(invalid(format!("hive {id} is described twice; allowed is once")));
            }
            for (index, device) in hive.devices.iter().enumerate() {
                let (free, total) = (device.memory_free.unwrap_or(0), device.memory_total);
                if free > total {
                    return Err(invalid(format!(
                        "hive {id}: memory_free of device {index} is {free}; allowed are at most its memory_total of {total}"
                    )));
                }
            }
            for (place, worker) in hive.workers.iter().enumerate() {
                let (slots, busy, device) = (worker.slots, worker.busy, worker.device);
                let bad = |what: String| {
                    Err(invalid(format!(
                        "hive {id}, worker {place} with model {}: {what}",
                        worker.model
                    )))
                };
                if slots == 0 {
                    return bad("slots is 0; allowed is at least 1".into());
                }
                if busy > slots {
                    return bad(format!("busy is {busy}; allowed are at most its {slots} slots"));
                }
                // A machine that can load nothing more reports no devices, and may have workers.
                if device as usize >= hive.devices.len().max(1) {
                    let count = hive.devices.len();
                    return bad(format!("device is {device}; the hive describes {count} devices"));
                }
                if !workers.insert(worker.id(hive, place)) {
                    return bad(format!(
                        "the name {} is used twice; allowed is once",
                        worker.id(hive, place)
                    ));
                }
            }
        }
        Ok(())
    }
}

impl FleetHive {
    fn of(hive: &HiveView, cluster: &ClusterView) -> Self {
        let device = |device: &Device| FleetDevice {
            kind: device.kind,
            name: device.name.clone(),
            memory_total: device.memory_total,
            memory_free: Some(device.memory_free.min(device.memory_total)),
        };
        let place = |index: &u32| hive.devices.iter().position(|device| device.index == *index);
        let workers = cluster
            .on_hive(&hive.id)
            .filter(|view| matches!(view.state, WorkerState::Ready | WorkerState::Failed));
        let workers = workers.map(|view| FleetWorker {
            id: Some(view.info.id),
            model: view.info.model.clone(),
            slots: view.info.slots.max(1),
            device: view.info.devices.first().and_then(place).unwrap_or(0) as u32,
            memory_bytes: Some(view.memory_bytes),
            busy: view.leased.min(view.info.slots),
            embed: view.info.capabilities.embed && !view.info.capabilities.generate,
            rerank: view.info.capabilities.rerank && !view.info.capabilities.generate,
            pinned: view.pinned,
            warm: view.warm.to_vec(),
        });
        Self {
            id: hive.id.clone(),
            labels: (*hive.labels).clone(),
            online: hive.online,
            draining: hive.draining,
            devices: hive.devices.iter().map(device).collect(),
            memory_budget: hive.memory_budget,
            models: hive.models.values().map(|model| (model.model.clone(), model.bytes)).collect(),
            takes: BTreeMap::new(),
            workers: workers.collect(),
        }
    }

    /// Its devices as it reports them while its workers run.
    pub(super) fn devices(&self) -> Vec<Device> {
        let devices = self.devices.iter().enumerate().map(|(index, device)| Device {
            index: index as u32,
            kind: device.kind,
            name: device.name.clone(),
            memory_total: device.memory_total,
            memory_free: device
                .memory_free
                .unwrap_or_else(|| device.memory_total.saturating_sub(self.taken(index as u32))),
        });
        devices.collect()
    }

    /// Memory of a device that the workers take, in bytes.
    pub(super) fn taken(&self, device: u32) -> u64 {
        let there = self.workers.iter().filter(|worker| worker.device == device);
        there.map(|worker| worker.memory(self)).fold(0, u64::saturating_add)
    }

    pub(super) fn on_disk(&self) -> impl Iterator<Item = ModelOnDisk> {
        self.models.iter().map(|(model, bytes)| ModelOnDisk::new(model.clone(), *bytes))
    }
}

impl FleetWorker {
    pub(super) fn memory(&self, hive: &FleetHive) -> u64 {
        self.memory_bytes.or_else(|| hive.models.get(&self.model).copied()).unwrap_or(0)
    }

    fn id(&self, hive: &FleetHive, place: usize) -> WorkerId {
        self.id.unwrap_or_else(|| {
            let high = hash(START, hive.id.as_str().as_bytes());
            WorkerId::from_random_bits((u128::from(high) << 64) | place as u128)
        })
    }

    pub(super) fn info(&self, hive: &FleetHive, place: usize) -> WorkerInfo {
        let id = self.id(hive, place);
        let mut info = WorkerInfo::named(id, self.model.clone(), "described");
        info.hive = hive.id.clone();
        info.devices = vec![self.device];
        info.slots = self.slots;
        info.capabilities = capabilities(self.embed, self.rerank);
        info
    }
}

pub(super) fn capabilities(embed: bool, rerank: bool) -> Capabilities {
    let generate = !embed && !rerank;
    Capabilities { generate, embed, rerank, resume: true, ..Capabilities::default() }
}
