//! Removes parts of the cluster from a view.

use super::ClusterView;
use crate::id::HiveId;

impl ClusterView {
    /// Keeps only this hive and its workers.
    pub(crate) fn keep_only(&mut self, only: &HiveId) {
        let others: Vec<_> =
            self.hives().map(|hive| hive.id.clone()).filter(|id| id != only).collect();
        for hive in others {
            let workers: Vec<_> = self.on_hive(&hive).map(|worker| worker.info.id).collect();
            workers.into_iter().for_each(|worker| _ = self.remove_worker(worker));
            self.remove_hive(&hive);
        }
    }

    /// Keeps only these devices of every hive.
    pub(crate) fn keep_devices(&mut self, wanted: &[u32]) {
        let hives: Vec<_> = self.hives().map(|hive| hive.id.clone()).collect();
        for hive in hives {
            self.edit_hive(&hive, |view| {
                let left = view.devices.iter().filter(|device| wanted.contains(&device.index));
                view.devices = left.cloned().collect();
            });
        }
    }
}
