//! A scheduler that is an object of Python: [`PyScheduler`], and what it sees.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use pyo3::{exceptions::PyTypeError, prelude::*};
use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, LeastLoaded, Placement, Scheduler, WorkerId,
    cluster::{HiveView, WorkerView},
    queen::LoadRequest,
    request::Task,
    scheduler::SchedulerInfo,
};

use crate::{
    error::{from_python, internal},
    fleet,
};

/// How long a decision may take, unless the object says otherwise by its attribute `limit`.
const LIMIT: Duration = Duration::from_millis(500);

/// An object with a method `place(job, cluster)`.
pub(crate) struct PyScheduler {
    object: Py<PyAny>,
    info: SchedulerInfo,
    built_in: LeastLoaded,
}

impl fmt::Debug for PyScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PyScheduler").field(&self.info.name).finish()
    }
}

impl PyScheduler {
    /// Takes the object.
    ///
    /// # Errors
    /// `TypeError` if it has no such method.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let class = object.get_type();
        let name = class.name()?.to_string();
        if !object.hasattr("place")? {
            let message =
                format!("a scheduler has a method place(job, cluster), and {name} has none");
            return Err(PyTypeError::new_err(message));
        }
        let description = class.getattr("__doc__").and_then(|doc| doc.extract::<String>());
        let description = description.unwrap_or_default();
        let mut info = SchedulerInfo::new(name)
            .with_description(description.trim().lines().next().unwrap_or_default());
        info.limit = Some(match object.getattr("limit") {
            Ok(limit) => crate::pending::seconds(limit.extract()?)?,
            Err(_) => LIMIT,
        });
        Ok(Self { object: object.clone().unbind(), info, built_in: LeastLoaded::default() })
    }

    fn answer(
        &self,
        answer: &Bound<'_, PyAny>,
        ask: &Ask,
        cluster: &ClusterView,
    ) -> rbee_core::Result<Placement> {
        let py = answer.py();
        let wrong = |error: PyErr| {
            from_python(py, "the answer of the scheduler", error, ErrorKind::Internal)
        };
        if answer.is_none() {
            return Ok(Placement::Wait);
        }
        if let Ok(worker) = answer.cast::<Worker>() {
            return Ok(Placement::Assign(worker.get().0.info.id));
        }
        if let Ok(hive) = answer.cast::<Hive>() {
            return self.spawn(
                LoadRequest::new(ask.job.model.clone()),
                hive.get().0.id.as_str(),
                ask,
                cluster,
            );
        }
        let text =
            |name: &str| answer.getattr(name).and_then(|value| value.str()?.extract::<String>());
        let kind = answer.get_type().name().map_err(wrong)?.to_string();
        match kind.as_str() {
            "Assign" => Ok(Placement::Assign(text("worker").map_err(wrong)?.parse::<WorkerId>()?)),
            "Spawn" => {
                let mut request = LoadRequest::new(ask.job.model.clone());
                let part = |name: &str| answer.getattr(name).map_err(wrong);
                request.devices = part("devices")?.extract().map_err(wrong)?;
                request.slots = part("slots")?.extract().map_err(wrong)?;
                self.spawn(request, &text("hive").map_err(wrong)?, ask, cluster)
            }
            "Wait" => Ok(Placement::Wait),
            "Reject" => {
                let message = text("message").map_err(wrong)?;
                Ok(Placement::Reject(Error::for_client(ErrorKind::Rejected, message)))
            }
            _ => Err(internal(format!(
                "the scheduler returned {answer}; allowed are a worker or a hive of the cluster, rbee.Assign, \
                 rbee.Spawn, rbee.Wait, rbee.Reject and None, which waits"
            ))),
        }
    }

    /// A new worker on a hive, as the built-in policy would start it there.
    fn spawn(
        &self,
        mut request: LoadRequest,
        hive: &str,
        ask: &Ask,
        cluster: &ClusterView,
    ) -> rbee_core::Result<Placement> {
        request.hive = Some(hive.parse()?);
        let slots = request.slots;
        let mut there = request.candidates(cluster)?;
        // Workers that have the model must not be chosen instead.
        let others: Vec<WorkerId> =
            there.with_model(&ask.job.model).map(|worker| worker.info.id).collect();
        for worker in others {
            there.edit_worker(worker, |worker| worker.leased = worker.info.slots);
        }
        let mut placement = self.built_in.place(ask, &there)?;
        if let (Placement::Spawn { spec, .. }, Some(slots)) = (&mut placement, slots) {
            spec.slots = slots;
        }
        Ok(placement)
    }
}

impl Scheduler for PyScheduler {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> rbee_core::Result<Placement> {
        let called = Python::try_attach(|py| {
            let job = Py::new(py, JobView(ask.clone()));
            let view = Py::new(py, Cluster(cluster.clone()));
            let arguments = job.and_then(|job| Ok((job, view?)));
            let answer = arguments
                .and_then(|arguments| self.object.bind(py).call_method1("place", arguments))
                .map_err(|error| from_python(py, &self.info.name, error, ErrorKind::Internal))?;
            self.answer(&answer, ask, cluster)
        });
        called.unwrap_or_else(|| Err(internal("the interpreter has ended".into())))
    }

    fn info(&self) -> SchedulerInfo {
        self.info.clone()
    }
}

/// The job to place.
#[pyclass(frozen, name = "JobView", module = "rbee._rbee")]
pub(crate) struct JobView(Ask);

#[pymethods]
impl JobView {
    #[getter]
    fn id(&self) -> String {
        self.0.job.id.to_string()
    }
    #[getter]
    fn model(&self) -> &str {
        self.0.job.model.as_str()
    }
    #[getter]
    fn priority(&self) -> &'static str {
        self.0.job.priority.as_str()
    }
    #[getter]
    fn tenant(&self) -> Option<&str> {
        self.0.job.tenant.as_ref().map(rbee_core::TenantId::as_str)
    }
    #[getter]
    fn is_embedding(&self) -> bool {
        matches!(self.0.job.task, Task::Embed { .. })
    }
    #[getter]
    fn is_rerank(&self) -> bool {
        matches!(self.0.job.task, Task::Rerank { .. })
    }
    #[getter]
    fn max_tokens(&self) -> Option<u32> {
        match &self.0.job.task {
            Task::Generate { sampling, .. } => sampling.max_tokens,
            Task::Embed { .. } | Task::Rerank { .. } => None,
        }
    }
    #[getter]
    fn prefix(&self) -> Vec<u64> {
        self.0.job.prefix.to_vec()
    }
    #[getter]
    fn waited(&self) -> f64 {
        self.0.waited.as_secs_f64()
    }
    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }
    #[getter]
    fn avoid(&self) -> Vec<String> {
        self.0.avoid.iter().map(ToString::to_string).collect()
    }
    #[getter]
    fn random(&self) -> u64 {
        self.0.random
    }
    fn __repr__(&self) -> String {
        format!("<rbee.JobView {} of {}>", self.0.job.id, self.0.job.model)
    }
}

/// The cluster, as a scheduler sees it.
#[pyclass(frozen, name = "ClusterView", module = "rbee._rbee")]
pub(crate) struct Cluster(ClusterView);

#[pymethods]
impl Cluster {
    #[getter]
    fn workers(&self) -> Vec<Worker> {
        self.0.workers().cloned().map(Worker).collect()
    }
    #[getter]
    fn hives(&self) -> Vec<Hive> {
        self.0.hives().cloned().map(Hive).collect()
    }
    /// The workers that can run the job now, the least loaded first; those on which it has failed are the last.
    fn available(&self, job: &JobView) -> Vec<Worker> {
        let ask = &job.0;
        let can = |worker: &&Arc<WorkerView>| {
            worker.info.capabilities.can(&ask.job.task)
                && self.0.hive(&worker.info.hive).is_some_and(|hive| hive.online)
                && ask.must_match.as_ref().is_none_or(|numerics| *numerics == worker.info.numerics)
        };
        let mut workers: Vec<_> = self.0.available(&ask.job.model).filter(can).cloned().collect();
        workers.sort_by_key(|worker| ask.avoid.contains(&worker.info.id));
        workers.into_iter().map(Worker).collect()
    }
    fn with_model(&self, py: Python<'_>, model: &str) -> PyResult<Vec<Worker>> {
        let model = crate::queen::parsed(py, model)?;
        Ok(self.0.with_model(&model).cloned().map(Worker).collect())
    }
    fn on_hive(&self, py: Python<'_>, hive: &str) -> PyResult<Vec<Worker>> {
        let hive = crate::queen::parsed(py, hive)?;
        Ok(self.0.on_hive(&hive).cloned().map(Worker).collect())
    }
    #[getter]
    fn waiting(&self) -> usize {
        self.0.waiting()
    }
    fn __repr__(&self) -> String {
        format!("<rbee.ClusterView with {} workers>", self.0.worker_count())
    }
}

/// A worker, as a scheduler sees it.
#[pyclass(frozen, name = "WorkerView", module = "rbee._rbee")]
pub(crate) struct Worker(Arc<WorkerView>);

#[pymethods]
impl Worker {
    #[getter]
    fn id(&self) -> String {
        self.0.info.id.to_string()
    }
    #[getter]
    fn hive(&self) -> &str {
        self.0.info.hive.as_str()
    }
    #[getter]
    fn model(&self) -> &str {
        self.0.info.model.as_str()
    }
    #[getter]
    fn backend(&self) -> &str {
        &self.0.info.backend
    }
    #[getter]
    fn state(&self) -> &'static str {
        fleet::state(self.0.state)
    }
    #[getter]
    fn devices(&self) -> Vec<u32> {
        self.0.info.devices.clone()
    }
    #[getter]
    fn slots(&self) -> u32 {
        self.0.info.slots
    }
    #[getter]
    fn leased(&self) -> u32 {
        self.0.leased
    }
    #[getter]
    fn free_slots(&self) -> u32 {
        self.0.free_slots()
    }
    #[getter]
    fn warm(&self) -> Vec<u64> {
        self.0.warm.to_vec()
    }
    #[getter]
    fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes
    }
    #[getter]
    fn pinned(&self) -> bool {
        self.0.pinned
    }
    fn __repr__(&self) -> String {
        let info = &self.0.info;
        format!("<rbee.WorkerView {} of {} on {}>", info.id, info.model, info.hive)
    }
}

/// A hive, as a scheduler sees it.
#[pyclass(frozen, name = "HiveView", module = "rbee._rbee")]
pub(crate) struct Hive(Arc<HiveView>);

#[pymethods]
impl Hive {
    #[getter]
    fn id(&self) -> &str {
        self.0.id.as_str()
    }
    #[getter]
    fn online(&self) -> bool {
        self.0.online
    }
    #[getter]
    fn draining(&self) -> bool {
        self.0.draining
    }
    #[getter]
    fn labels(&self) -> BTreeMap<String, String> {
        self.0.labels.as_ref().clone()
    }
    #[getter]
    fn models(&self) -> BTreeMap<String, u64> {
        self.0.models.iter().map(|(model, held)| (model.as_str().to_owned(), held.bytes)).collect()
    }
    #[getter]
    fn devices(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        crate::queen::plain(py, &self.0.devices)
    }
    fn __repr__(&self) -> String {
        format!("<rbee.HiveView {}>", self.0.id)
    }
}
