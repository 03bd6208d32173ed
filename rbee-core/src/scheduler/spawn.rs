//! Where the built-in policy starts a worker.

use std::fmt;

use super::{
    Ask, Candidate, LeastLoaded, Placement,
    eviction::{Memory, evictable, runs_on, shortfall},
    least_loaded::Need,
    trace::{Bytes, Trace},
};
use crate::{
    ClusterView, Device, Error, ErrorKind, HiveId, HiveView, ModelOnDisk, ModelRef, ModelTask,
    Task, WorkerId, WorkerSpec,
};

#[cfg(feature = "rhai")]
mod on_hive;
mod sites;

#[cfg(feature = "rhai")]
pub(super) use on_hive::{OnHive, Start};
use sites::{Site, Sites};

/// Hives, and devices of one hive, that a message names at most.
const NAMED: usize = 4;

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
        Ok(sites) => {
            // A site has enough to evict, so there is a plan.
            let Some((site, evict)) = sites.choose(cluster) else { return Placement::Wait };
            trace.chosen(|| Candidate::Hive(site.hive.id.clone()));
            search.spawn(&site, evict)
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
    let need = |hive: &HiveView, device: &Device| {
        let held = hive.models.get(model).unwrap_or(known);
        policy.need(cluster, model, Some(held), device.kind)
    };
    let hives = cluster.hives().filter(|hive| hive.takes_workers() && is_open(hive));
    let devices = hives.flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
    let sites = devices.filter_map(|(hive, device)| {
        let need = need(hive, device);
        let short = shortfall(cluster, hive, device, need.required);
        let on_disk = hive.models.contains_key(model);
        (need.expected > 0 && short.is_none()).then_some(Site { hive, device, on_disk, short })
    });
    let site = sites.min_by(|one, other| one.rank(cluster).cmp(&other.rank(cluster)))?;
    let spec = WorkerSpec {
        model: model.clone(),
        slots: policy.slots_of(site.hive.models.get(model).or(Some(known))),
        devices: vec![site.device.index],
        need_bytes: need(site.hive, site.device).expected,
        path: None,
    };
    Some((site.hive.id.clone(), spec))
}

/// The model where any hive has it; the largest, where they differ.
pub(crate) fn known<'a>(cluster: &'a ClusterView, model: &ModelRef) -> Option<&'a ModelOnDisk> {
    let on_disk = cluster.with_model_on_disk(model).filter_map(|hive| hive.models.get(model));
    on_disk.max_by_key(|model| model.bytes)
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
            Error::new(ErrorKind::Unsupported, message)
                .with_client_message(
                    "the model makes vectors, and writes no text; ask it for embeddings",
                )
                .with_param("model")
        })
    }

    fn need(&self, hive: &HiveView, device: &Device) -> Need {
        self.need_spread(hive, device, 1)
    }

    /// The same, on each of so many devices.
    fn need_spread(&self, hive: &HiveView, device: &Device, devices: u64) -> Need {
        let (model, known) = (self.model(), self.known_on(hive));
        self.policy.need_spread(self.cluster, model, known, device.kind, devices)
    }

    /// The model as this hive has it, or another.
    fn known_on<'h>(&self, hive: &'h HiveView) -> Option<&'h ModelOnDisk>
    where
        'a: 'h,
    {
        hive.models.get(self.model()).or(self.known)
    }

    fn best(&self, trace: &mut impl Trace) -> Result<Sites<'a>, Hope> {
        if !trace.wants_more() {
            // Files on the disk outweigh all else, so where one of those hives will do no other is looked at.
            let sites = self.sites_on_disk();
            if !sites.is_empty() {
                return Ok(sites);
            }
        }
        let mut best = Sites::default();
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
                for device in hive.devices.iter() {
                    match self.fit(hive, device) {
                        Fit::Fits { short } => {
                            fits = true;
                            best.offer(self.site(hive, device, short), self.cluster);
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
        if !best.is_empty() {
            return Ok(best);
        }
        // When every hive that answers has refused, one that does not answer is no reason to wait.
        let hope = !online || (asked && hope);
        Err(if hope { Hope::Later } else { Hope::None })
    }

    fn sites_on_disk(&self) -> Sites<'a> {
        let mut sites = Sites::default();
        let holders = self
            .cluster
            .with_model_on_disk(self.model())
            .filter(|hive| hive.takes_workers() && !self.ask.refused.contains_key(&hive.id));
        for hive in holders {
            self.offer_devices(hive, &mut sites);
        }
        sites
    }

    /// Every device of the hive that will do.
    fn offer_devices(&self, hive: &'a HiveView, sites: &mut Sites<'a>) {
        for device in hive.devices.iter() {
            if let Fit::Fits { short } = self.fit(hive, device) {
                sites.offer(self.site(hive, device, short), self.cluster);
            }
        }
    }

    fn site(&self, hive: &'a HiveView, device: &'a Device, short: Memory) -> Site<'a> {
        Site { hive, device, on_disk: hive.models.contains_key(self.model()), short }
    }

    fn fits_any_empty_device(&self, hive: &HiveView) -> bool {
        hive.devices.iter().any(|device| self.need(hive, device).required <= most_on(hive, device))
    }

    fn fit(&self, hive: &HiveView, device: &Device) -> Fit {
        if self.clashes(hive, device) {
            return Fit::Clash;
        }
        let required = self.need(hive, device).required;
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

    fn spawn(&self, site: &Site<'_>, evict: Vec<WorkerId>) -> Placement {
        Placement::Spawn {
            hive: site.hive.id.clone(),
            spec: WorkerSpec {
                model: self.model().clone(),
                slots: self.policy.slots_of(self.known_on(site.hive)),
                devices: vec![site.device.index],
                need_bytes: self.need(site.hive, site.device).expected,
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
