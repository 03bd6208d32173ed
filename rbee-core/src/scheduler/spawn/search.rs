//! The search for a device to start a worker on, and what is said if there is none.

use std::{borrow::Cow, fmt, sync::Arc};

use super::candidates::{DeviceCandidate, DeviceCandidates};
use crate::{
    cluster::{ClusterView, HiveView},
    device::Device,
    error::{Error, ErrorKind},
    id::WorkerId,
    model_info::ModelTask,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    scheduler::{
        decision::{Ask, Candidate, Placement},
        trace::{Bytes, Trace},
    },
    sizing::{Memory, Sizing, WorkerMemory, evictable, shortfall},
    task::Task,
    worker_spec::WorkerSpec,
};

/// The most hives, and the most devices of one hive, that a message names.
const NAMED: usize = 4;

/// Whether a worker of the job's model can be started on a device.
pub(super) enum DeviceFit {
    /// It can, after idle workers have been stopped for what is missing.
    Fits { shortfall: Memory },
    /// Not now, but later, when workers end or other programs free memory.
    Later { required: u64, shortfall: Memory, evictable: Memory },
    /// Never: the empty device is too small, or the memory budget of the hive is.
    TooSmall { required: u64 },
    /// A worker of the model runs there with other numerics than the stream has: a new one would have the same.
    Clash,
}

/// The question, with what is known of the model.
pub(super) struct Search<'a> {
    pub(super) sizing: &'a Sizing,
    pub(super) ask: &'a Ask,
    pub(super) cluster: &'a ClusterView,
    /// The model as the hive with the largest copy has it; `None` if no hive has it.
    pub(super) known: Option<&'a ModelOnDisk>,
}

/// Whether a job can get a device later, if there is none for it now.
pub(super) enum Feasibility {
    /// A device may become free by itself.
    Later,
    /// No device can run the model.
    Never,
}

impl<'a> Search<'a> {
    pub(super) fn model(&self) -> &'a ModelRef {
        &self.ask.job.model
    }

    /// The error if the model only embeds or reranks and the job wants something else: it is not loaded to find that
    /// out.
    pub(super) fn wrong_task(&self) -> Option<Error> {
        let info = self.known?.info.as_deref()?;
        let what = match (info.task, &self.ask.job.task) {
            (ModelTask::Embed, Task::Generate { .. }) => {
                "makes vectors, and writes no text; ask it for embeddings"
            }
            (ModelTask::Embed, Task::Rerank { .. }) => {
                "makes vectors, and does not rerank; ask it for embeddings, or use a reranker"
            }
            (ModelTask::Rerank, Task::Generate { .. }) => {
                "scores documents, and writes no text; ask it to rerank"
            }
            (ModelTask::Rerank, Task::Embed { .. }) => {
                "scores documents, and makes no vectors; ask it to rerank"
            }
            _ => return None,
        };
        let message = format!("model {} ({}) {what}", self.model(), info.architecture);
        Some(
            Error::new(ErrorKind::Unsupported, message)
                .with_client_message(format!("the model {what}"))
                .with_param("model"),
        )
    }

    fn worker_memory(&self, hive: &HiveView, device: &Device) -> WorkerMemory {
        self.spread_worker_memory(hive, device, 1)
    }

    /// The memory of a worker that is spread over so many devices.
    pub(super) fn spread_worker_memory(
        &self,
        hive: &HiveView,
        device: &Device,
        devices: u64,
    ) -> WorkerMemory {
        let (model, known) = (self.model(), self.known_on(hive));
        let known = known.as_deref();
        self.sizing.spread_worker_memory(self.cluster, model, known, device.kind, devices)
    }

    /// The model as this hive has it, or else as another one has it.
    pub(super) fn known_on<'h>(&self, hive: &'h HiveView) -> Option<Cow<'h, ModelOnDisk>>
    where
        'a: 'h,
    {
        hive.model_here(self.model(), self.known)
    }

    /// The devices on which it can be started, or whether that can change.
    pub(super) fn best(&self, trace: &mut impl Trace) -> Result<DeviceCandidates<'a>, Feasibility> {
        if !trace.wants_more() {
            // Files on the disk outweigh all else: if one of those hives has room, no other is looked at.
            let on_disk = self.candidates_on_disk();
            if !on_disk.is_empty() {
                return Ok(on_disk);
            }
        }
        let mut best = DeviceCandidates::default();
        let mut online = false;
        let mut asked = false;
        let mut may_fit_later = false;
        for hive in self.cluster.hives() {
            online |= hive.takes_workers();
            let refused =
                self.ask.refused.contains_key(&hive.id) || self.unreadable(hive).is_some();
            let mut fits = false;
            if !refused && !hive.takes_workers() {
                // It may come back, and have room then.
                may_fit_later |= hive.devices.is_empty() || self.fits_any_empty_device(hive);
            } else if !refused {
                asked = true;
                // A hive that has not reported its devices yet may have any.
                may_fit_later |= hive.devices.is_empty();
                for device in hive.devices.iter() {
                    match self.fit(hive, device) {
                        DeviceFit::Fits { shortfall } => {
                            fits = true;
                            best.offer(self.candidate(hive, device, shortfall), self.cluster);
                        }
                        DeviceFit::Later { .. } | DeviceFit::Clash => may_fit_later = true,
                        DeviceFit::TooSmall { .. } => {}
                    }
                }
            }
            if fits {
                trace.eligible(|| Candidate::Hive(hive.id.clone()));
            } else {
                trace.refused(|| Candidate::Hive(hive.id.clone()), || self.why_not(hive));
            }
        }
        if !best.is_empty() {
            return Ok(best);
        }
        // If every hive that answers has refused, one that does not answer is no reason to wait.
        let may_fit_later = !online || (asked && may_fit_later);
        Err(if may_fit_later { Feasibility::Later } else { Feasibility::Never })
    }

    fn candidates_on_disk(&self) -> DeviceCandidates<'a> {
        let mut candidates = DeviceCandidates::default();
        let holders = self
            .cluster
            .with_model_on_disk(self.model())
            .filter(|hive| hive.takes_workers() && !self.ask.refused.contains_key(&hive.id))
            .filter(|hive| self.unreadable(hive).is_none());
        for hive in holders {
            self.offer_devices(hive, &mut candidates);
        }
        candidates
    }

    /// Offers every device of the hive on which it fits.
    pub(super) fn offer_devices(&self, hive: &'a HiveView, candidates: &mut DeviceCandidates<'a>) {
        for device in hive.devices.iter() {
            if let DeviceFit::Fits { shortfall } = self.fit(hive, device) {
                candidates.offer(self.candidate(hive, device, shortfall), self.cluster);
            }
        }
    }

    fn candidate(
        &self,
        hive: &'a HiveView,
        device: &'a Device,
        shortfall: Memory,
    ) -> DeviceCandidate<'a> {
        let on_disk = hive.models.contains_key(self.model());
        DeviceCandidate { hive, device, on_disk, shortfall }
    }

    fn fits_any_empty_device(&self, hive: &HiveView) -> bool {
        let fits =
            |device: &Device| self.worker_memory(hive, device).required <= hive.capacity_of(device);
        hive.devices.iter().any(fits)
    }

    pub(super) fn fit(&self, hive: &HiveView, device: &Device) -> DeviceFit {
        if self.clashes(hive, device) {
            return DeviceFit::Clash;
        }
        let required = self.worker_memory(hive, device).required;
        let shortfall = shortfall(self.cluster, hive, device, required);
        if shortfall.is_zero() {
            return DeviceFit::Fits { shortfall };
        }
        if required > hive.capacity_of(device) {
            return DeviceFit::TooSmall { required };
        }
        let evictable = evictable(self.cluster, hive, device);
        if evictable.covers(shortfall) {
            DeviceFit::Fits { shortfall }
        } else {
            DeviceFit::Later { required, shortfall, evictable }
        }
    }

    /// Returns true if a worker of the model with other numerics runs on the device. Loading workers do not matter:
    /// while there is one, no other is started.
    pub(super) fn clashes(&self, hive: &HiveView, device: &Device) -> bool {
        let Some(wanted) = self.ask.must_match.as_deref() else {
            return false;
        };
        self.cluster.on_hive(&hive.id).any(|worker| {
            worker.info.model == *self.model()
                && *worker.info.numerics != *wanted
                && worker.runs_on(device.index)
        })
    }

    pub(super) fn spawn(&self, on: &DeviceCandidate<'_>, evict: Vec<WorkerId>) -> Placement {
        Placement::Spawn {
            hive: on.hive.id.clone(),
            spec: WorkerSpec {
                model: self.model().clone(),
                slots: self.sizing.slots_for(self.known_on(on.hive).as_deref()),
                devices: vec![on.device.index],
                need_bytes: self.worker_memory(on.hive, on.device).expected,
                path: None,
            },
            evict,
        }
    }

    /// The reason that no engine of the hive can read the model; `None` if one can, as far as is known.
    pub(super) fn unreadable(&self, hive: &HiveView) -> Option<String> {
        self.cluster.unreadable(hive, self.model())
    }

    /// The error if every hive has refused the model or cannot read it, or no device is large enough for it.
    pub(super) fn rejection(&self) -> Error {
        let online = || self.cluster.hives().filter(|hive| hive.online);
        let mut refusals = online().map(|hive| self.ask.refused.get(&hive.id));
        if let Some(first) = refusals.next().flatten()
            && refusals.all(|refusal| refusal.is_some())
        {
            return first.clone();
        }
        let is_unreadable = |hive: &Arc<HiveView>| self.unreadable(hive).is_some();
        let is_refused = |hive: &Arc<HiveView>| self.ask.refused.contains_key(&hive.id);
        if online().any(is_unreadable)
            && online().all(|hive| is_unreadable(hive) || is_refused(hive))
        {
            let reasons = online().map(|hive| format!("hive {}: {}", hive.id, self.why_not(hive)));
            return self.cluster.incompatible(self.model(), reasons);
        }
        let mut message = format!("model {} fits on no device", self.model());
        for (index, hive) in online().take(NAMED).enumerate() {
            message += if index == 0 { ": " } else { "; " };
            message += &format!("hive {}: {}", hive.id, self.why_not(hive));
        }
        let more = online().count().saturating_sub(NAMED);
        if more > 0 {
            message += &format!("; and {more} more");
        }
        Error::new(ErrorKind::InsufficientVram, message)
    }

    /// The reason that no worker is started on this hive.
    pub(super) fn why_not(&self, hive: &HiveView) -> String {
        if let Some(error) = self.ask.refused.get(&hive.id) {
            return format!("it refused the model: {}", Cut(error.message(), 200));
        }
        if !hive.online {
            return "offline".into();
        }
        if hive.draining {
            return "it is being drained".into();
        }
        if let Some(why) = self.unreadable(hive) {
            return format!("it cannot read the model: {why}");
        }
        if hive.devices.is_empty() {
            return "it has reported no devices".into();
        }
        let mut reasons: Vec<String> = hive
            .devices
            .iter()
            .take(NAMED)
            .filter_map(|device| self.against(hive, device))
            .collect();
        let more = hive.devices.len().saturating_sub(NAMED);
        if more > 0 {
            reasons.push(format!("{more} more devices"));
        }
        reasons.join(", ")
    }

    /// The reason that no worker is started on this device; `None` if one can be.
    fn against(&self, hive: &HiveView, device: &Device) -> Option<String> {
        let name = format!("device {} ({})", device.index, Cut(&device.name, 64));
        let why = match self.fit(hive, device) {
            DeviceFit::Fits { .. } => return None,
            DeviceFit::Later { required, shortfall, evictable }
                if shortfall.device > evictable.device =>
            {
                let free = Bytes(hive.free_bytes(device));
                let mut why = format!("needs {}, {free} free on {name}", Bytes(required));
                if evictable.device > 0 {
                    why += &format!(" and {} in idle workers", Bytes(evictable.device));
                }
                why
            }
            DeviceFit::Later { required, .. } => over_budget(self.cluster, hive, required),
            DeviceFit::TooSmall { required } if required <= device.memory_total => {
                over_budget(self.cluster, hive, required)
            }
            DeviceFit::TooSmall { required } => format!(
                "needs {}, {name} has {} in all",
                Bytes(required),
                Bytes(device.memory_total)
            ),
            DeviceFit::Clash => format!("a worker with other numerics runs on {name} already"),
        };
        Some(why)
    }
}

pub(super) fn over_budget(cluster: &ClusterView, hive: &HiveView, required: u64) -> String {
    format!(
        "needs {}, the hive's workers may take {} together and take {}",
        Bytes(required),
        Bytes(hive.memory_budget.unwrap_or(0)),
        Bytes(cluster.memory_taken(&hive.id))
    )
}

/// A text that someone else chose, cut to so many characters.
struct Cut<'a>(&'a str, usize);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(self.1) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
