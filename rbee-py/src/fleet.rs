//! Machines and workers: [`FleetCore`].

use std::path::PathBuf;

use pyo3::prelude::*;
use rbee_core::{
    HiveId, Queen, WorkerId,
    cluster::{WorkerState, WorkerView},
    hive::HiveAddress,
};
use serde_json::{Value, json};

use crate::{
    hives::Hive,
    pending::{Pending, seconds},
    queen::{parsed, plain},
};

/// The machines and workers of a queen.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct FleetCore {
    pub(crate) queen: Queen,
    /// The file with all programs, for machines that need them.
    pub(crate) program: Option<PathBuf>,
}

#[pymethods]
impl FleetCore {
    fn list(&self) -> Pending {
        let queen = self.queen.clone();
        let work = async move {
            let (hives, cluster) = (queen.fleet().list().await?, queen.cluster().await?);
            Ok(hives
                .iter()
                .map(|hive| {
                    let view = cluster.hive(&hive.id);
                    let address = match &hive.address {
                        HiveAddress::Local => "local".to_owned(),
                        HiveAddress::Http => format!("http://{}:{}", hive.hostname, hive.port),
                        HiveAddress::Network { ssh_host, ssh_user, .. } if ssh_user.is_empty() => {
                            format!("ssh {ssh_host}")
                        }
                        HiveAddress::Network { ssh_host, ssh_user, .. } => {
                            format!("ssh {ssh_user}@{ssh_host}")
                        }
                    };
                    let models = view.map(|view| {
                        let models = view.models.iter();
                        models
                            .map(|(model, held)| (model.as_str(), held.bytes))
                            .collect::<std::collections::BTreeMap<_, _>>()
                    });
                    json!({
                        "id": hive.id.as_str(),
                        "status": hive.status.as_str(),
                        "address": address,
                        "error": hive.error.as_ref().map(ToString::to_string),
                        "labels": hive.labels,
                        "devices": view.map_or(Value::Null, |view| json!(view.devices)),
                        "models": models.unwrap_or_default(),
                        "workers": cluster.count_on_hive(&hive.id),
                        "draining": view.is_some_and(|view| view.draining),
                    })
                })
                .collect::<Vec<_>>())
        };
        Pending::making(work, |py, hives| plain(py, &hives))
    }

    fn workers(&self) -> Pending {
        let queen = self.queen.clone();
        let work = async move {
            Ok(queen.cluster().await?.workers().map(|worker| view(worker)).collect::<Vec<_>>())
        };
        Pending::making(work, |py, workers| plain(py, &workers))
    }

    fn add(&self, hive: &Bound<'_, PyAny>, event_loop: Option<Py<PyAny>>) -> PyResult<Pending> {
        let hive = Hive::read(hive, self.program.as_deref(), event_loop)?;
        let queen = self.queen.clone();
        Ok(Pending::new(async move {
            let hive = hive.backend().await?;
            let id = hive.info().id.to_string();
            queen.fleet().add(hive).await?;
            Ok(id)
        }))
    }

    fn remove(&self, py: Python<'_>, hive: &str, grace: f64) -> PyResult<Pending> {
        let (queen, hive, grace) =
            (self.queen.clone(), parsed::<HiveId>(py, hive)?, seconds(grace)?);
        Ok(Pending::new(async move { queen.fleet().remove(hive, grace).await }))
    }

    fn stop(&self, py: Python<'_>, hive: &str, grace: f64) -> PyResult<Pending> {
        let (queen, hive, grace) =
            (self.queen.clone(), parsed::<HiveId>(py, hive)?, seconds(grace)?);
        Ok(Pending::new(async move { queen.fleet().stop(hive, grace).await }))
    }

    fn start(&self, py: Python<'_>, hive: &str) -> PyResult<Pending> {
        let (queen, hive) = (self.queen.clone(), parsed::<HiveId>(py, hive)?);
        Ok(Pending::new(async move { queen.fleet().start(hive).await }))
    }

    fn drain(&self, py: Python<'_>, hive: &str) -> PyResult<Pending> {
        let (queen, hive) = (self.queen.clone(), parsed::<HiveId>(py, hive)?);
        Ok(Pending::new(async move { queen.fleet().drain(hive).await }))
    }

    fn unload(&self, py: Python<'_>, worker: &str) -> PyResult<Pending> {
        let (queen, worker) = (self.queen.clone(), parsed::<WorkerId>(py, worker)?);
        Ok(Pending::new(async move { queen.fleet().unload(worker).await }))
    }

    fn pin(&self, py: Python<'_>, worker: &str, pin: bool) -> PyResult<Pending> {
        let (queen, worker) = (self.queen.clone(), parsed::<WorkerId>(py, worker)?);
        Ok(Pending::new(async move { queen.fleet().pin(worker, pin).await }))
    }
}

/// The name of a state.
pub(crate) fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Loading => "loading",
        WorkerState::Ready => "ready",
        WorkerState::Draining => "draining",
        WorkerState::Failed => "failed",
    }
}

fn view(worker: &WorkerView) -> Value {
    json!({
        "id": worker.info.id.to_string(),
        "hive": worker.info.hive.as_str(),
        "model": worker.info.model.as_str(),
        "state": state(worker.state),
        "backend": &*worker.info.backend,
        "devices": worker.info.devices,
        "slots": worker.info.slots,
        "free_slots": worker.free_slots(),
        "memory_bytes": worker.memory_bytes,
        "pinned": worker.pinned,
        "reachable": worker.reachable,
    })
}
