//! Devices that a model can be loaded on, and which of them is best.

use std::cmp::Reverse;

use crate::{
    ClusterView, Device, DeviceKind, HiveId, HiveView, WorkerId,
    scheduler::eviction::{self, Memory},
};

/// A device that the model can be loaded on, at once or after an eviction.
pub(super) struct Site<'a> {
    pub(super) hive: &'a HiveView,
    pub(super) device: &'a Device,
    pub(super) on_disk: bool,
    /// Memory that idle workers have to give back first.
    pub(super) short: Memory,
}

/// A site's class; what is missing and what is free there; how many workers its hive has, and its name.
type Rank<'a> = (Class, u64, Reverse<u64>, usize, &'a HiveId, u32);
/// The hive has the files; somebody must be stopped; it computes on the processor.
type Class = (Reverse<bool>, bool, bool);

impl<'a> Site<'a> {
    /// The smaller the better. Files on the disk outweigh an eviction, because a download takes longer than a load.
    pub(super) fn rank(&self, cluster: &ClusterView) -> Rank<'a> {
        (
            self.class(),
            self.short.largest(),
            Reverse(self.hive.free_bytes(self.device)),
            cluster.count_on_hive(&self.hive.id),
            &self.hive.id,
            self.device.index,
        )
    }

    fn class(&self) -> Class {
        let is_slow = self.device.kind == DeviceKind::Cpu;
        (Reverse(self.on_disk), !self.short.is_none(), is_slow)
    }
}

/// Sites whose plans are compared.
const FEW: usize = 4;

/// The best sites so far, the best first.
#[derive(Default)]
pub(super) struct Sites<'a>(Vec<(Rank<'a>, Site<'a>)>);

impl<'a> Sites<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn offer(&mut self, site: Site<'a>, cluster: &ClusterView) {
        let (Self(best), rank) = (self, site.rank(cluster));
        let place = best.partition_point(|(other, _)| *other <= rank);
        if place < FEW {
            best.truncate(FEW - 1);
            best.insert(place, (rank, site));
        }
    }

    /// The best site, and whom to stop there. Where somebody must be stopped, what is stopped counts before what is
    /// missing: a little that is missing may cost a large worker.
    pub(super) fn choose(self, cluster: &ClusterView) -> Option<(Site<'a>, Vec<WorkerId>)> {
        let class = self.0.first()?.1.class();
        let alike = self.0.into_iter().map(|(_, site)| site).filter(|site| site.class() == class);
        let planned = alike.filter_map(|site| {
            let evict = eviction::plan(cluster, site.hive, site.device, site.short)?;
            Some((site, evict))
        });
        planned.min_by_key(|(_, evict)| {
            let stopped = evict.iter().filter_map(|id| cluster.worker(*id));
            stopped.map(|worker| u128::from(worker.memory_bytes)).sum::<u128>()
        })
    }
}
