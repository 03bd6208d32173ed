//! Changes and filters as objects of Python: the classes of `rbee.registry`.

use pyo3::types::PyList;
use pyo3::{IntoPyObjectExt, prelude::*, types::PyDict};
use rbee_core::registry::{Change, JobFilter, PolicyFilter};

use super::rows::{of_job, of_outcome, of_policy, plain};

/// Changes as a list of objects.
pub(super) fn all<'py>(py: Python<'py>, changes: &[Change]) -> PyResult<Bound<'py, PyList>> {
    let all = changes.iter().map(|change| of(py, change)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, all)
}

/// Makes an object of a class of `rbee.registry`.
fn object<'py>(
    py: Python<'py>,
    class: &str,
    fields: &[(&str, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let values = PyDict::new(py);
    for (name, value) in fields {
        values.set_item(name, value)?;
    }
    py.import("rbee.registry")?.getattr(class)?.call((), Some(&values))
}

/// Fields with their values.
macro_rules! fields {
    ($py:ident, $($name:ident: $value:expr),+) => {
        &[$((stringify!($name), ($value).into_bound_py_any($py)?)),+]
    };
}

/// A change as an object. A new kind of change needs a class of its own here.
fn of<'py>(py: Python<'py>, change: &Change) -> PyResult<Bound<'py, PyAny>> {
    match change {
        Change::JobQueued(record) => object(
            py,
            "JobQueued",
            fields!(py, job: record.id.to_string(), record: of_job(py, record)?),
        ),
        Change::JobRunning { job, worker, attempt, at, numerics, format } => object(
            py,
            "JobRunning",
            fields!(
                py,
                job: job.to_string(),
                worker: worker.to_string(),
                attempt: *attempt,
                at: at.as_millis(),
                numerics: &**numerics,
                format: plain(py, format)?
            ),
        ),
        Change::JobRequeued { job, attempts } => {
            object(py, "JobRequeued", fields!(py, job: job.to_string(), attempts: *attempts))
        }
        Change::JobTokens { job, at, chunks } => object(
            py,
            "JobTokens",
            fields!(py, job: job.to_string(), position: *at, chunks: plain(py, chunks)?),
        ),
        Change::JobVectors { job, vectors } => object(
            py,
            "JobVectors",
            fields!(py, job: job.to_string(), vectors: plain(py, vectors)?),
        ),
        Change::JobEnded { job, outcome, at, used_tokens, keep_request, keep_output } => object(
            py,
            "JobEnded",
            fields!(
                py,
                job: job.to_string(),
                outcome: of_outcome(py, outcome)?,
                at: at.as_millis(),
                used_tokens: *used_tokens,
                keep_request: *keep_request,
                keep_output: *keep_output
            ),
        ),
        Change::JobErased { job } => object(py, "JobErased", fields!(py, job: job.to_string())),
        Change::HivePut(record) => {
            object(py, "HivePut", fields!(py, hive: record.id.as_str(), record: plain(py, record)?))
        }
        Change::HiveGone(hive) => object(py, "HiveGone", fields!(py, hive: hive.as_str())),
        Change::ModelPut(record) => object(
            py,
            "ModelPut",
            fields!(
                py,
                hive: record.hive.as_str(),
                model: record.model.as_str(),
                record: plain(py, record)?
            ),
        ),
        Change::ModelGone { hive, model } => {
            object(py, "ModelGone", fields!(py, hive: hive.as_str(), model: model.as_str()))
        }
        Change::WorkerPut(record) => object(
            py,
            "WorkerPut",
            fields!(
                py,
                hive: record.hive.as_str(),
                worker: record.worker.to_string(),
                record: plain(py, record)?
            ),
        ),
        Change::WorkerGone { hive, worker } => {
            object(py, "WorkerGone", fields!(py, hive: hive.as_str(), worker: worker.to_string()))
        }
        Change::TenantPut(record) => object(
            py,
            "TenantPut",
            fields!(py, tenant: record.id.as_str(), record: plain(py, record)?),
        ),
        Change::TenantGone(tenant) => {
            object(py, "TenantGone", fields!(py, tenant: tenant.as_str()))
        }
        Change::PolicyPut(record) => object(
            py,
            "PolicyPut",
            fields!(py, version: record.version, record: of_policy(py, record)?),
        ),
    }
}

/// The filter of a job listing.
pub(super) fn job_filter<'py>(py: Python<'py>, filter: &JobFilter) -> PyResult<Bound<'py, PyAny>> {
    let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
    object(
        py,
        "JobFilter",
        fields!(
            py,
            id: filter.id.map(|id| id.to_string()),
            tenant: filter.tenant.as_ref().map(|tenant| tenant.as_str()),
            states: states,
            before: filter.before,
            limit: filter.limit.clamp(1, 1_000),
            with_text: filter.with_text
        ),
    )
}

/// The filter of a policy listing.
pub(super) fn policy_filter<'py>(
    py: Python<'py>,
    filter: &PolicyFilter,
) -> PyResult<Bound<'py, PyAny>> {
    object(py, "PolicyFilter", fields!(py, version: filter.version, limit: filter.limit))
}
