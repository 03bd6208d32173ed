//! Where the built-in policy starts a worker.

use std::{cmp::Reverse, fmt};

use super::{
    Ask, Candidate, LeastLoaded, Placement,
    eviction::{Memory, evictable, plan_eviction, runs_on, shortfall},
    trace::{Bytes, Trace},
};
use crate::{
    ClusterView, Device, DeviceKind, Error, ErrorKind, HiveId, HiveView, ModelOnDisk, ModelRef,
    ModelTask, Task, WorkerSpec,
};

/// Hives, and devices of one hive, that a message names at most.
const NAMED: usize = 4;

/// A device that the model can be loaded on, at once or after an eviction.
struct Site<'a> {
    hive: &'a HiveView,
    device: &'a Device,
    on_disk: bool,
    /// Memory that idle workers have to give back first.
    short: Memory,
}

impl Site<'_> {
    /// The better of two sites. Files on the disk outweigh an eviction, because a download takes longer than a load.
    fn better(self, other: Self, cluster: &ClusterView) -> Self {
        let rank = |site: &Self| {
            (
                Reverse(site.on_disk),
                !site.short.is_none(),
                site.device.kind == DeviceKind::Cpu,
                site.short.largest(),
                Reverse(site.hive.free_bytes(site.device)),
            )
        };
        // Counting the workers is left until it matters.
        let tie = |site: &Self| (cluster.on_hive(&site.hive.id).count(), site.hive.id.clone());
        let order = rank(&self)
            .cmp(&rank(&other))
            .then_with(|| tie(&self).cmp(&tie(&other)))
            .then_with(|| self.device.index.cmp(&other.device.index));
        if order.is_le() { self } else { other }
    }
}

/// What speaks for or against a device.
enum Fit {
    /// So much memory is missing until idle workers are stopped; none where none need be.
    Fits { short: Memory },
    /// Not now, but when workers end or other programs give memory back.
    Later { required: u64, short: Memory, evictable: Memory },
    /// Not even where it is empty, or the workers of its hive may never take so much.
    TooSmall { required: u64 },
    /// A worker of the model runs there, and its numerics are not those of the stream: another one would be no better.
    Clash,
}

/// The question, with what is known of the model's size.
struct Search<'a> {
    policy: &'a LeastLoaded,
    ask: &'a Ask,
    cluster: &'a ClusterView,
    /// The model where any hive has it.
    known: Option<&'a ModelOnDisk>,
}

/// Answers for a job whose model has no worker that could take it, now or soon.
pub(super) fn place(
    policy: &LeastLoaded,
    ask: &Ask,
    cluster: &ClusterView,
    trace: &mut impl Trace,
) -> Placement {
    let search = Search { policy, ask, cluster, known: known(cluster, &ask.job.model) };
    if let Some(error) = search.wrong_task() {
        return Placement::Reject(error);
    }
    match search.best(trace) {
        Ok(site) => {
            trace.chosen(|| Candidate::Hive(site.hive.id.clone()));
            search.spawn(&site)
        }
        Err(Hope::Later) => Placement::Wait,
        Err(Hope::None) => Placement::Reject(search.rejection()),
    }
}

/// Where one more worker of a model is started best, of the hives that are open to it: as the first one would be, but
/// only where nothing has to be stopped for it.
pub(crate) fn place_replica(
    policy: &LeastLoaded,
    cluster: &ClusterView,
    model: &ModelRef,
    is_open: impl Fn(&HiveView) -> bool,
) -> Option<(HiveId, WorkerSpec)> {
    let known = known(cluster, model)?;
    let expected = |hive: &HiveView, device: &Device| {
        let held = hive.models.get(model).unwrap_or(known);
        expected_bytes(policy, cluster, model, Some(held), device.kind)
    };
    let hives = cluster.hives().filter(|hive| hive.takes_workers() && is_open(hive));
    let devices = hives.flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
    let sites = devices.filter_map(|(hive, device)| {
        let expected = expected(hive, device);
        let required = policy.required_bytes(expected, device.kind);
        let short = shortfall(cluster, hive, device, required);
        let on_disk = hive.models.contains_key(model);
        (expected > 0 && short.is_none()).then_some(Site { hive, device, on_disk, short })
    });
    let site = sites.reduce(|best, site| best.better(site, cluster))?;
    let spec = WorkerSpec {
        model: model.clone(),
        slots: policy.slots(),
        devices: vec![site.device.index],
        need_bytes: expected(site.hive, site.device),
        path: None,
    };
    Some((site.hive.id.clone(), spec))
}

/// The model where any hive has it; the largest, where they differ.
pub(super) fn known<'a>(cluster: &'a ClusterView, model: &ModelRef) -> Option<&'a ModelOnDisk> {
    let on_disk = cluster.hives().filter_map(|hive| hive.models.get(model));
    on_disk.max_by_key(|model| model.bytes)
}

/// Memory that a worker of this model is expected to take on a device of this kind, in bytes; 0 where nothing is known
/// of the model.
pub(super) fn expected_bytes(
    policy: &LeastLoaded,
    cluster: &ClusterView,
    model: &ModelRef,
    known: Option<&ModelOnDisk>,
    kind: DeviceKind,
) -> u64 {
    let estimated = known.map_or(0, |model| policy.expected_of(model, kind));
    // What a worker was seen to take counts where it is more. Where it is less, its sequences may yet grow.
    match cluster.measured(model) {
        Some(measured) if estimated > 0 => estimated.max(measured),
        _ => estimated,
    }
}

/// Where no device will do now: can it get better without anybody's help?
enum Hope {
    Later,
    None,
}

impl<'a> Search<'a> {
    fn model(&self) -> &'a ModelRef {
        &self.ask.job.model
    }

    /// A model for vectors alone is not loaded to say that it writes no text.
    fn wrong_task(&self) -> Option<Error> {
        let info = self.known?.info.as_deref()?;
        let writes = matches!(self.ask.job.task, Task::Generate { .. });
        (writes && info.task == ModelTask::Embed).then(|| {
            let message = format!(
                "model {} ({}) makes vectors, and writes no text; ask it for embeddings",
                self.model(),
                info.architecture
            );
            Error::new(ErrorKind::Unsupported, message).with_param("model")
        })
    }

    /// Memory the worker is expected to take on this device, in bytes; 0 where nothing is known of the model.
    fn expected(&self, hive: &HiveView, device: &Device) -> u64 {
        let known = hive.models.get(self.model()).or(self.known);
        expected_bytes(self.policy, self.cluster, self.model(), known, device.kind)
    }

    fn best(&self, trace: &mut impl Trace) -> Result<Site<'a>, Hope> {
        let mut best: Option<Site<'a>> = None;
        let mut online = false;
        let mut asked = false;
        let mut hope = false;
        for hive in self.cluster.hives() {
            online |= hive.takes_workers();
            let refused = self.ask.refused.contains_key(&hive.id);
            let mut fits = false;
            if !refused && !hive.takes_workers() {
                // It may come back, unless it would not help even then.
                hope |= hive.devices.is_empty() || self.fits_any_empty_device(hive);
            } else if !refused {
                asked = true;
                // One that has not told its devices yet may have any.
                hope |= hive.devices.is_empty();
                let on_disk = hive.models.contains_key(self.model());
                for device in hive.devices.iter() {
                    match self.fit(hive, device) {
                        Fit::Fits { short } => {
                            fits = true;
                            let site = Site { hive, device, on_disk, short };
                            best = Some(match best {
                                Some(other) => other.better(site, self.cluster),
                                None => site,
                            });
                        }
                        Fit::Later { .. } | Fit::Clash => hope = true,
                        Fit::TooSmall { .. } => {}
                    }
                }
            }
            if fits {
                trace.eligible(|| Candidate::Hive(hive.id.clone()));
            } else {
                trace.refused(|| Candidate::Hive(hive.id.clone()), || self.why_not(hive));
            }
        }
        // When every hive that answers has refused, one that does not answer is no reason to wait.
        let hope = !online || (asked && hope);
        best.ok_or(if hope { Hope::Later } else { Hope::None })
    }

    fn fits_any_empty_device(&self, hive: &HiveView) -> bool {
        hive.devices.iter().any(|device| {
            let expected = self.expected(hive, device);
            self.policy.required_bytes(expected, device.kind) <= most_on(hive, device)
        })
    }

    fn fit(&self, hive: &HiveView, device: &Device) -> Fit {
        if self.clashes(hive, device) {
            return Fit::Clash;
        }
        let required = self.policy.required_bytes(self.expected(hive, device), device.kind);
        let short = shortfall(self.cluster, hive, device, required);
        if short.is_none() {
            return Fit::Fits { short };
        }
        if required > most_on(hive, device) {
            return Fit::TooSmall { required };
        }
        let evictable = evictable(self.cluster, hive, device);
        if evictable.covers(short) {
            Fit::Fits { short }
        } else {
            Fit::Later { required, short, evictable }
        }
    }

    /// Loading workers play no part: while there is one, no other is started.
    fn clashes(&self, hive: &HiveView, device: &Device) -> bool {
        let Some(wanted) = self.ask.must_match.as_deref() else {
            return false;
        };
        self.cluster.on_hive(&hive.id).any(|worker| {
            worker.info.model == *self.model()
                && *worker.info.numerics != *wanted
                && runs_on(worker, device.index)
        })
    }

    fn spawn(&self, site: &Site<'_>) -> Placement {
        let expected = self.expected(site.hive, site.device);
        let required = self.policy.required_bytes(expected, site.device.kind);
        // A site has enough to evict, so there is a plan.
        let Some(evict) = plan_eviction(self.cluster, site.hive, site.device, required) else {
            return Placement::Wait;
        };
        Placement::Spawn {
            hive: site.hive.id.clone(),
            spec: WorkerSpec {
                model: self.model().clone(),
                slots: self.policy.slots(),
                devices: vec![site.device.index],
                need_bytes: expected,
                path: None,
            },
            evict,
        }
    }

    /// Every hive has refused, or no device is large enough.
    fn rejection(&self) -> Error {
        let online = || self.cluster.hives().filter(|hive| hive.online);
        let mut refusals = online().map(|hive| self.ask.refused.get(&hive.id));
        if let Some(first) = refusals.next().flatten()
            && refusals.all(|refusal| refusal.is_some())
        {
            return first.clone();
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

    /// Why no worker is started on this hive.
    fn why_not(&self, hive: &HiveView) -> String {
        if let Some(error) = self.ask.refused.get(&hive.id) {
            return format!("it refused the model: {}", Short(error.message(), 200));
        }
        if !hive.online {
            return "offline".into();
        }
        if hive.draining {
            return "it is being drained".into();
        }
        if hive.devices.is_empty() {
            return "it has told of no devices".into();
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

    /// What speaks against this device, if anything does.
    fn against(&self, hive: &HiveView, device: &Device) -> Option<String> {
        let name = format!("device {} ({})", device.index, Short(&device.name, 64));
        let why = match self.fit(hive, device) {
            Fit::Fits { .. } => return None,
            Fit::Later { required, short, evictable } if short.device > evictable.device => {
                let free = Bytes(hive.free_bytes(device));
                let mut why = format!("needs {}, {free} free on {name}", Bytes(required));
                if evictable.device > 0 {
                    why += &format!(" and {} in idle workers", Bytes(evictable.device));
                }
                why
            }
            Fit::Later { required, .. } => over_budget(self.cluster, hive, required),
            Fit::TooSmall { required } if required <= device.memory_total => {
                over_budget(self.cluster, hive, required)
            }
            Fit::TooSmall { required } => format!(
                "needs {}, {name} has {} in all",
                Bytes(required),
                Bytes(device.memory_total)
            ),
            Fit::Clash => format!("a worker with other numerics runs on {name} already"),
        };
        Some(why)
    }
}

/// The most that a worker may ever take on this device, in bytes.
pub(super) fn most_on(hive: &HiveView, device: &Device) -> u64 {
    hive.memory_budget.map_or(device.memory_total, |budget| budget.min(device.memory_total))
}

fn over_budget(cluster: &ClusterView, hive: &HiveView, required: u64) -> String {
    format!(
        "needs {}, the hive's workers may take {} together and take {}",
        Bytes(required),
        Bytes(hive.memory_budget.unwrap_or(0)),
        Bytes(cluster.memory_taken(&hive.id))
    )
}

/// The same question about one hive, for a policy that chooses the hive itself.
#[cfg(feature = "rhai")]
#[derive(Clone, Copy)]
pub(super) struct OnHive<'a> {
    pub(super) policy: &'a LeastLoaded,
    pub(super) ask: &'a Ask,
    pub(super) cluster: &'a ClusterView,
    /// See [`known`].
    pub(super) known: Option<&'a ModelOnDisk>,
    pub(super) hive: &'a HiveView,
}

/// A worker that can be started on a hive.
#[cfg(feature = "rhai")]
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) spec: WorkerSpec,
    /// What is missing on each of its devices until idle workers are stopped. What is missing of the hive's budget is
    /// missing at the first.
    pub(super) short: Vec<(Device, Memory)>,
}

#[cfg(feature = "rhai")]
impl<'a> OnHive<'a> {
    fn search(&self) -> Search<'a> {
        Search { policy: self.policy, ask: self.ask, cluster: self.cluster, known: self.known }
    }

    /// On the best device of the hive; or why on none of them.
    pub(super) fn anywhere(&self) -> Result<Start, String> {
        let search = self.search();
        self.open(&search)?;
        let on_disk = self.hive.models.contains_key(search.model());
        let sites =
            self.hive.devices.iter().filter_map(|device| match search.fit(self.hive, device) {
                Fit::Fits { short } => Some(Site { hive: self.hive, device, on_disk, short }),
                _ => None,
            });
        let best = sites.reduce(|one, other| one.better(other, self.cluster));
        let site = best.ok_or_else(|| search.why_not(self.hive))?;
        self.on(&[site.device.index])
    }

    /// On these devices, spread evenly over them; or why not.
    pub(super) fn on(&self, devices: &[u32]) -> Result<Start, String> {
        let search = self.search();
        self.open(&search)?;
        let mut short = Vec::new();
        let mut need_bytes = 0;
        let mut all = 0_u64;
        for index in devices {
            let device = self.hive.devices.iter().find(|device| device.index == *index);
            let device = device.ok_or_else(|| format!("it has no device {index}"))?;
            let parts = devices.len().max(1) as u64;
            let expected = search.expected(self.hive, device);
            let required = self.policy.required_bytes(expected.div_ceil(parts), device.kind);
            need_bytes = need_bytes.max(expected);
            if search.clashes(self.hive, device) {
                return Err(format!("a worker with other numerics runs on device {index} already"));
            }
            all = all.saturating_add(required);
            let missing = shortfall(self.cluster, self.hive, device, required).device;
            if missing > evictable(self.cluster, self.hive, device).device {
                let free = Bytes(self.hive.free_bytes(device));
                return Err(format!("needs {} on device {index}, {free} free", Bytes(required)));
            }
            short.push((device.clone(), Memory { device: missing, budget: 0 }));
        }
        if let Some((device, first)) = short.first_mut() {
            first.budget = shortfall(self.cluster, self.hive, device, all).budget;
            if first.budget > evictable(self.cluster, self.hive, device).budget {
                return Err(over_budget(self.cluster, self.hive, all));
            }
        }
        short.retain(|(_, missing)| !missing.is_none());
        let spec = WorkerSpec {
            model: search.model().clone(),
            slots: self.policy.slots(),
            devices: devices.to_vec(),
            need_bytes,
            path: None,
        };
        Ok(Start { spec, short })
    }

    fn open(&self, search: &Search<'_>) -> Result<(), String> {
        if let Some(error) = search.wrong_task() {
            return Err(error.message().to_owned());
        }
        let is_refused = self.ask.refused.contains_key(&self.hive.id);
        if is_refused || !self.hive.takes_workers() || self.hive.devices.is_empty() {
            return Err(search.why_not(self.hive));
        }
        Ok(())
    }
}

/// The first so many characters of a text that somebody else chose.
struct Short<'a>(&'a str, usize);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(self.1) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
