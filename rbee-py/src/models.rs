//! The models of a queen: [`ModelsCore`].

use std::collections::BTreeMap;

use pyo3::prelude::*;
use rbee_core::{HiveId, Queen, queen::LoadRequest};
use serde_json::json;

use crate::{
    pending::Pending,
    progress,
    queen::{parsed, plain},
};

/// The models of a queen.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct ModelsCore {
    pub(crate) queen: Queen,
}

#[pymethods]
impl ModelsCore {
    fn aliases(&self) -> BTreeMap<String, String> {
        let aliases = self.queen.models().aliases().iter();
        aliases.map(|(name, model)| (name.clone(), model.as_str().to_owned())).collect()
    }

    fn resolve(&self, name: &str) -> Pending {
        let (queen, name) = (self.queen.clone(), name.to_owned());
        Pending::new(async move { Ok(queen.models().locate(&name).await?.as_str().to_owned()) })
    }

    fn describe(&self, name: &str) -> Pending {
        let (queen, name) = (self.queen.clone(), name.to_owned());
        let work = async move {
            let found = queen.models().describe(&name).await?;
            Ok(json!({
                "model": found.model.as_str(),
                "bytes": found.bytes,
                "context_tokens": found.info.as_ref().and_then(|info| info.context),
            }))
        };
        Pending::making(work, |py, found| plain(py, &found))
    }

    #[pyo3(signature = (name, hive=None, progress=None))]
    fn pull(
        &self,
        py: Python<'_>,
        name: &str,
        hive: Option<&str>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Pending> {
        let (queen, name) = (self.queen.clone(), name.to_owned());
        let hive = hive.map(|hive| parsed::<HiveId>(py, hive)).transpose()?;
        let hive = hive.unwrap_or_else(HiveId::local);
        let progress = progress::of_model(progress);
        let work = async move {
            let model = queen.models().locate(&name).await?;
            let held = queen.models().provision(hive.clone(), model, progress).await?;
            Ok(json!({"model": held.model.as_str(), "bytes": held.bytes, "hive": hive.as_str()}))
        };
        Ok(Pending::making(work, |py, pulled| plain(py, &pulled)))
    }

    fn remove(&self, py: Python<'_>, name: &str, hive: &str) -> PyResult<Pending> {
        let (queen, name) = (self.queen.clone(), name.to_owned());
        let hive = parsed::<HiveId>(py, hive)?;
        Ok(Pending::new(async move {
            let model = queen.models().locate(&name).await?;
            queen.models().remove(hive, model).await
        }))
    }

    #[pyo3(signature = (name, hive=None, devices=None, slots=None, pin=false))]
    fn load(
        &self,
        py: Python<'_>,
        name: &str,
        hive: Option<&str>,
        devices: Option<Vec<u32>>,
        slots: Option<u32>,
        pin: bool,
    ) -> PyResult<Pending> {
        let (queen, name) = (self.queen.clone(), name.to_owned());
        let hive = hive.map(|hive| parsed::<HiveId>(py, hive)).transpose()?;
        Ok(Pending::new(async move {
            let mut request = LoadRequest::new(queen.models().locate(&name).await?);
            (request.hive, request.devices, request.slots, request.pin) =
                (hive, devices, slots, pin);
            Ok(queen.models().load(request).await?.to_string())
        }))
    }
}
