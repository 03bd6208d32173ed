//! Where the autoscaler starts one more worker of a model.

use super::candidates::DeviceCandidate;
use crate::{
    cluster::{ClusterView, HiveView},
    device::Device,
    id::HiveId,
    model_ref::ModelRef,
    sizing::{Sizing, shortfall},
    worker_spec::WorkerSpec,
};

/// The best place for one more worker of a model, on the hives that are open to it: the place that the first worker
/// would get, but only if nothing has to be stopped for it.
pub(crate) fn place_replica(
    sizing: &Sizing,
    cluster: &ClusterView,
    model: &ModelRef,
    is_open: impl Fn(&HiveView) -> bool,
) -> Option<(HiveId, WorkerSpec)> {
    let known = cluster.largest_on_disk(model)?;
    let memory = |hive: &HiveView, device: &Device| {
        let known = hive.model_here(model, Some(known));
        sizing.worker_memory(cluster, model, known.as_deref(), device.kind)
    };
    let reads = |hive: &HiveView| cluster.unreadable(hive, model).is_none();
    let hives = cluster.hives().filter(|hive| hive.takes_workers() && is_open(hive) && reads(hive));
    let devices = hives.flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
    let candidates = devices.filter_map(|(hive, device)| {
        let memory = memory(hive, device);
        let shortfall = shortfall(cluster, hive, device, memory.required);
        let on_disk = hive.models.contains_key(model);
        let fits = memory.expected > 0 && shortfall.is_zero();
        fits.then_some(DeviceCandidate { hive, device, on_disk, shortfall })
    });
    let best = candidates.min_by(|one, other| one.rank(cluster).cmp(&other.rank(cluster)))?;
    let spec = WorkerSpec {
        model: model.clone(),
        slots: sizing.slots_for(best.hive.model_here(model, Some(known)).as_deref()),
        devices: vec![best.device.index],
        need_bytes: memory(best.hive, best.device).expected,
        path: None,
    };
    Some((best.hive.id.clone(), spec))
}
