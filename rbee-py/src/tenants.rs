//! The tenants of a queen: [`TenantsCore`].

use std::collections::BTreeMap;

use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};
use rbee_core::{Queen, TenantId, queen::TenantSummary, tenant::TenantLimits};
use serde_json::{Value, json};

use crate::{
    pending::Pending,
    queen::{parsed, plain},
};

/// The tenants of a queen.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct TenantsCore {
    pub(crate) queen: Queen,
}

#[pymethods]
impl TenantsCore {
    fn list(&self) -> Pending {
        let queen = self.queen.clone();
        let work = async move {
            Ok(queen.tenants().list().await?.iter().map(summary).collect::<Vec<_>>())
        };
        Pending::making(work, |py, all| plain(py, &all))
    }

    fn get(&self, py: Python<'_>, tenant: &str) -> PyResult<Pending> {
        let (queen, id) = (self.queen.clone(), parsed::<TenantId>(py, tenant)?);
        let work = async move { Ok(summary(&queen.tenants().get(&id).await?)) };
        Ok(Pending::making(work, |py, one| plain(py, &one)))
    }

    fn put(&self, py: Python<'_>, tenant: &str, limits: Bound<'_, PyDict>) -> PyResult<Pending> {
        let (queen, id) = (self.queen.clone(), parsed::<TenantId>(py, tenant)?);
        let given: BTreeMap<String, Value> = pythonize::depythonize(&limits)?;
        let mut all = serde_json::to_value(TenantLimits::default())
            .map_err(|error| PyTypeError::new_err(error.to_string()))?;
        for (name, value) in given.into_iter().filter(|(_, value)| !value.is_null()) {
            all[name] = value;
        }
        let limits: TenantLimits = serde_json::from_value(all)
            .map_err(|error| PyTypeError::new_err(format!("the limits of tenant {id}: {error}")))?;
        Ok(Pending::new(async move { queen.tenants().put(id, limits).await }))
    }

    fn remove(&self, py: Python<'_>, tenant: &str) -> PyResult<Pending> {
        let (queen, id) = (self.queen.clone(), parsed::<TenantId>(py, tenant)?);
        Ok(Pending::new(async move { queen.tenants().remove(&id).await }))
    }

    fn issue_key(&self, py: Python<'_>, tenant: &str, label: String) -> PyResult<Pending> {
        let (queen, id) = (self.queen.clone(), parsed::<TenantId>(py, tenant)?);
        Ok(Pending::new(async move {
            Ok(queen.tenants().issue_key(&id, &label).await?.reveal().to_owned())
        }))
    }

    fn revoke_key(&self, py: Python<'_>, tenant: &str, hash_prefix: String) -> PyResult<Pending> {
        let (queen, id) = (self.queen.clone(), parsed::<TenantId>(py, tenant)?);
        Ok(Pending::new(async move { queen.tenants().revoke_key(&id, &hash_prefix).await }))
    }
}

fn summary(tenant: &TenantSummary) -> Value {
    let keys = tenant.keys.iter().map(|key| {
        json!({
            "hash": key.hash,
            "label": key.label,
            "created_at": key.created_at.as_millis() as f64 / 1_000.0,
        })
    });
    json!({
        "id": tenant.id.as_str(),
        "limits": tenant.limits,
        "keys": keys.collect::<Vec<_>>(),
        "used_today": tenant.used_today,
        "live_jobs": tenant.live_jobs,
    })
}
