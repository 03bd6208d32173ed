//! A queen, as the package sees it: [`QueenCore`].

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyDict};
use rbee_core::{
    Error, JobId, JobState, Queen, TenantId,
    event::Outcome,
    job::JobStatus,
    registry::{JobFilter, JobRecord},
    time::WallTime,
};
use serde_json::{Value, json};

use crate::{
    answer_parts::{self, Parts},
    error::to_python,
    fleet::FleetCore,
    job::Job,
    models::ModelsCore,
    pending::{Pending, seconds},
    policy::PolicyCore,
    reader::{Reader, Source},
    request,
    serving::Serving,
    tenants::TenantsCore,
};

/// An open queen.
#[pyclass(frozen, weakref, module = "rbee._rbee")]
pub(crate) struct QueenCore {
    /// `None` once it was closed.
    queen: Mutex<Option<Queen>>,
}

impl QueenCore {
    pub(crate) fn new(queen: Queen) -> Self {
        Self { queen: Mutex::new(Some(queen)) }
    }

    /// The queen.
    ///
    /// # Errors
    /// `RuntimeError` if it was closed.
    pub(crate) fn queen(&self) -> PyResult<Queen> {
        let queen = self.queen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queen.ok_or_else(|| PyRuntimeError::new_err("this queen was closed"))
    }
}

/// Reads an id or another value with rules.
///
/// # Errors
/// The error of rbee.
pub(crate) fn parsed<T: std::str::FromStr<Err = Error>>(py: Python<'_>, text: &str) -> PyResult<T> {
    text.parse().map_err(|error| to_python(py, &error))
}

/// A value of serde as an object of Python.
pub(crate) fn plain(py: Python<'_>, value: &impl serde::Serialize) -> PyResult<Py<PyAny>> {
    Ok(pythonize::pythonize(py, value)?.unbind())
}

#[pymethods]
impl QueenCore {
    fn submit(&self, model: &str, arguments: Bound<'_, PyDict>) -> PyResult<Pending> {
        let (queen, request) = (self.queen()?, request::request(model, arguments)?);
        let tools = answer_parts::tools(request.task());
        let work = async move {
            let job = queen.submit(request).await?;
            Ok((job.id(), queen, job))
        };
        Ok(Pending::making(work, |py, (id, queen, job)| {
            let reader = Reader::new(Source::Submitted(job), Parts::new(id, tools));
            let job = Job::new(id, queen, reader);
            Ok(Py::new(py, job)?.into_any())
        }))
    }

    fn embed(
        &self,
        model: &str,
        texts: Vec<String>,
        arguments: Bound<'_, PyDict>,
    ) -> PyResult<Pending> {
        let (queen, request) = (self.queen()?, request::embedding(model, texts, arguments)?);
        Ok(Pending::new(async move {
            let answer = queen.submit(request).await?.answer().await?;
            Ok(answer.vectors.as_ref().clone())
        }))
    }

    fn rerank(
        &self,
        model: &str,
        query: String,
        documents: Vec<String>,
        arguments: Bound<'_, PyDict>,
    ) -> PyResult<Pending> {
        let request = request::rerank(model, query, documents, arguments)?;
        let queen = self.queen()?;
        Ok(Pending::new(async move {
            let answer = queen.submit(request).await?.answer().await?;
            Ok(answer.scores().to_vec())
        }))
    }

    #[pyo3(signature = (job, after=None))]
    fn attach(&self, py: Python<'_>, job: &str, after: Option<u64>) -> PyResult<Pending> {
        let (queen, id) = (self.queen()?, parsed::<JobId>(py, job)?);
        let work = async move {
            let events = queen.attach(id, after).await?;
            // After the end, the request is usually erased: then no tools are known, and nothing is looked for.
            let record = queen.job(id).await.ok();
            let request = record.and_then(|record| record.request);
            let tools = request.map_or(Some(Vec::new()), |job| answer_parts::tools(&job.task));
            Ok((queen, events, tools))
        };
        Ok(Pending::making(work, move |py, (queen, events, tools)| {
            let reader = Reader::new(Source::Attached(events), Parts::new(id, tools));
            let job = Job::new(id, queen, reader);
            Ok(Py::new(py, job)?.into_any())
        }))
    }

    fn cancel(&self, py: Python<'_>, job: &str) -> PyResult<()> {
        self.queen()?.cancel(parsed(py, job)?);
        Ok(())
    }

    fn job(&self, py: Python<'_>, job: &str) -> PyResult<Pending> {
        let (queen, id) = (self.queen()?, parsed::<JobId>(py, job)?);
        let work = async move { Ok(job_record(&queen.job(id).await?)) };
        Ok(Pending::making(work, |py, record| plain(py, &record)))
    }

    #[pyo3(signature = (states, tenant, before, limit))]
    fn jobs(
        &self,
        py: Python<'_>,
        states: Vec<String>,
        tenant: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> PyResult<Pending> {
        let queen = self.queen()?;
        let mut filter = JobFilter { before, limit, ..JobFilter::default() };
        filter.tenant = tenant.map(|tenant| parsed::<TenantId>(py, tenant)).transpose()?;
        for state in states {
            let known = JobState::from_name(&state).ok_or_else(|| {
                let allowed = JobState::ALL.map(JobState::as_str).join(", ");
                let message = format!("state is {state:?}; allowed are {allowed}");
                pyo3::exceptions::PyValueError::new_err(message)
            })?;
            filter.states.push(known);
        }
        let work = async move {
            let jobs = queen.jobs(&filter).await?;
            Ok(jobs.iter().map(job_record).collect::<Vec<_>>())
        };
        Ok(Pending::making(work, |py, jobs| plain(py, &jobs)))
    }

    fn position(&self, py: Python<'_>, job: &str) -> PyResult<Pending> {
        let (queen, id) = (self.queen()?, parsed::<JobId>(py, job)?);
        Ok(Pending::new(async move { queen.position(id).await }))
    }

    fn status(&self) -> PyResult<Pending> {
        let queen = self.queen()?;
        let work = async move {
            let status = queen.status().await?;
            let counters = &status.counters;
            Ok(json!({
                "id": status.id.to_string(),
                "jobs": counters.jobs,
                "waiting": counters.waiting,
                "running": counters.leases,
                "loading": counters.starting,
                "store_error": status.store_fault.as_ref().map(|fault| fault.error.to_string()),
                "restored": status.restored.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))
        };
        Ok(Pending::making(work, |py, status| plain(py, &status)))
    }

    fn settings(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        plain(py, self.queen()?.settings())
    }

    fn shutdown(&self, grace: f64) -> PyResult<Pending> {
        let (queen, grace) = (self.queen()?, seconds(grace)?);
        self.queen.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Pending::new(async move { queen.shutdown(grace).await }))
    }

    #[expect(clippy::too_many_arguments, reason = "each is an argument in Python")]
    #[pyo3(signature = (host, port, token=None, allow_origins=Vec::new(), allow_hosts=Vec::new(), batches=None))]
    fn serve(
        &self,
        py: Python<'_>,
        host: &str,
        port: u16,
        token: Option<&str>,
        allow_origins: Vec<String>,
        allow_hosts: Vec<String>,
        batches: Option<PathBuf>,
    ) -> PyResult<Pending> {
        let queen = self.queen()?;
        Serving::start(py, queen, host, port, token, &allow_origins, &allow_hosts, batches)
    }

    fn metrics(&self) -> PyResult<Pending> {
        let queen = self.queen()?;
        Ok(Pending::new(crate::serving::metrics(queen)))
    }

    fn fleet(&self, program: Option<PathBuf>) -> PyResult<FleetCore> {
        Ok(FleetCore { queen: self.queen()?, program })
    }

    fn models(&self) -> PyResult<ModelsCore> {
        Ok(ModelsCore { queen: self.queen()? })
    }

    fn policy(&self) -> PyResult<PolicyCore> {
        Ok(PolicyCore { queen: self.queen()? })
    }

    fn tenants(&self) -> PyResult<TenantsCore> {
        Ok(TenantsCore { queen: self.queen()? })
    }
}

/// The record of a job, with times in seconds since 1970.
fn job_record(record: &JobRecord) -> Value {
    let at = |time: WallTime| time.as_millis() as f64 / 1_000.0;
    let (error, completed_at) = match &record.status {
        JobStatus::Live(_) => (None, None),
        JobStatus::Ended(ended) => {
            let error = match &ended.outcome {
                Outcome::Failed(error) => Some(error.to_string()),
                _ => None,
            };
            (error, Some(at(ended.completed_at)))
        }
    };
    let text: Option<String> = (!record.chunks.is_empty())
        .then(|| record.chunks.iter().map(|chunk| &*chunk.text).collect());
    json!({
        "id": record.id.to_string(),
        "tenant": record.tenant.as_ref().map(|tenant| tenant.as_str()),
        "model": record.model.as_str(),
        "priority": record.priority.as_str(),
        "state": record.status.state().as_str(),
        "order": record.order,
        "submitted_at": at(record.submitted_at),
        "completed_at": completed_at,
        "attempts": record.attempts,
        "correlation_id": record.correlation_id.as_str(),
        "tokens": record.tokens_generated,
        "text": text,
        "error": error,
    })
}
