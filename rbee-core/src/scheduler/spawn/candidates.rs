//! The devices that a model can be loaded on, in order of preference.

use std::cmp::Reverse;

use crate::{
    cluster::{ClusterView, HiveView},
    device::{Device, DeviceKind},
    id::{HiveId, WorkerId},
    sizing::{self, Memory},
};

/// A device that the model can be loaded on, at once or after an eviction.
pub(super) struct DeviceCandidate<'a> {
    pub(super) hive: &'a HiveView,
    pub(super) device: &'a Device,
    pub(super) on_disk: bool,
    /// Memory that idle workers must free first.
    pub(super) shortfall: Memory,
}

/// The class of a candidate; what is missing and what is free there; the workers of its hive; and its name.
type Rank<'a> = (Class, u64, Reverse<u64>, usize, &'a HiveId, u32);
/// Whether the hive has the files; whether a worker must be stopped; whether it computes on the processor.
type Class = (Reverse<bool>, bool, bool);

impl<'a> DeviceCandidate<'a> {
    /// The order of preference, the best first. Files on the disk outweigh an eviction, because a download takes longer
    /// than a load.
    pub(super) fn rank(&self, cluster: &ClusterView) -> Rank<'a> {
        (
            self.class(),
            self.shortfall.largest(),
            Reverse(self.hive.free_bytes(self.device)),
            cluster.count_on_hive(&self.hive.id),
            &self.hive.id,
            self.device.index,
        )
    }

    fn class(&self) -> Class {
        let is_slow = self.device.kind == DeviceKind::Cpu;
        (Reverse(self.on_disk), !self.shortfall.is_zero(), is_slow)
    }
}

/// The number of candidates whose eviction plans are compared.
const FEW: usize = 4;

/// The best candidates so far, the best first.
#[derive(Default)]
pub(super) struct DeviceCandidates<'a>(Vec<(Rank<'a>, DeviceCandidate<'a>)>);

impl<'a> DeviceCandidates<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn offer(&mut self, candidate: DeviceCandidate<'a>, cluster: &ClusterView) {
        let (Self(best), rank) = (self, candidate.rank(cluster));
        let place = best.partition_point(|(other, _)| *other <= rank);
        if place < FEW {
            best.truncate(FEW - 1);
            best.insert(place, (rank, candidate));
        }
    }

    /// The best candidate, and the workers to stop there. If workers must be stopped, their memory counts before the
    /// shortfall: a small shortfall may cost a large worker.
    pub(super) fn choose(
        self,
        cluster: &ClusterView,
    ) -> Option<(DeviceCandidate<'a>, Vec<WorkerId>)> {
        let class = self.0.first()?.1.class();
        let alike = self.0.into_iter().map(|(_, one)| one).filter(|one| one.class() == class);
        let planned = alike.filter_map(|one| {
            let evict = sizing::plan(cluster, one.hive, one.device, one.shortfall)?;
            Some((one, evict))
        });
        planned.min_by_key(|(_, evict)| {
            let stopped = evict.iter().filter_map(|id| cluster.worker(*id));
            stopped.map(|worker| u128::from(worker.memory_bytes)).sum::<u128>()
        })
    }
}
