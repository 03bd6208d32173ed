//! What a worker needs before it can start: the model on the disk of its hive.

use super::*;
use crate::{Change, ErrorKind, ModelOnDisk, ModelRecord, Result};

/// Has the store know that the model is there, and is used.
pub(super) fn record_model(now: Now, hive: &HiveId, on_disk: &ModelOnDisk, out: &mut Out) {
    let record = ModelRecord {
        hive: hive.clone(),
        model: on_disk.model.clone(),
        bytes: on_disk.bytes,
        checksum: on_disk.digest.map(|digest| digest.to_string()),
        last_used: now.wall,
    };
    out.push(Effect::Record { n: None, changes: vec![Change::ModelPut(record)] });
}

impl Engine {
    pub(super) fn provision_progress(&mut self, now: Now, hive: HiveId, model: ModelRef) {
        let key = (hive, model);
        if self.provisioning.contains_key(&key) {
            self.timers
                .arm(now.at + self.settings.provision_silence, Alarm::Provision(key.0, key.1));
        }
    }

    pub(super) fn provisioned(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        result: Result<ModelOnDisk>,
        out: &mut Out,
    ) {
        self.timers.disarm(&Alarm::Provision(hive.clone(), model.clone()));
        let awaited = self.provisioning.remove(&(hive.clone(), model.clone())).is_some();
        match result {
            Ok(on_disk) => {
                if self.view.hive(&hive).is_some() {
                    record_model(now, &hive, &on_disk, out);
                }
                self.view.edit_hive(&hive, |view| {
                    _ = Arc::make_mut(&mut view.models).insert(model.clone(), on_disk)
                });
                self.wake_model(&model);
            }
            Err(error) if awaited => self.start_failed(now, &hive, &model, error, out),
            Err(_) => {}
        }
    }

    pub(super) fn provision_overdue(
        &mut self,
        now: Now,
        hive: HiveId,
        model: ModelRef,
        out: &mut Out,
    ) {
        let silence = self.settings.provision_silence;
        let message = format!(
            "the download of model {model} to hive {hive} made no progress for {silence:?}"
        );
        let error = Error::new(ErrorKind::SpawnTimeout, message);
        self.provisioned(now, hive, model, Err(error), out);
    }
}
