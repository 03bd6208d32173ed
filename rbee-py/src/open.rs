//! Opening a queen: [`open`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use pyo3::{prelude::*, types::PyDict};
use rbee_core::{
    HiveId, InProcessHive, Queen, SqliteRegistry,
    id::QueenId,
    models::{Hub, ModelStore, StoreOptions},
};
use rbee_transport_http::{ProcessHive, Program};

use crate::{
    hives::Hive,
    options::{Options, settings},
    pending::Pending,
    queen::QueenCore,
    registry::PyRegistry,
    scheduler::PyScheduler,
    serving,
    worker::{self, PyWorker},
};

/// The store of a queen, as it was given.
enum Store {
    File(PathBuf),
    Part(PyRegistry),
}

/// Opens a queen with these options; see `rbee.Queen`.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, options: Bound<'_, PyDict>) -> PyResult<Pending> {
    crate::exit::register(py)?;
    let options = Options::new(options);
    let mut builder = Queen::builder();
    if let Some(id) = options.parsed::<QueenId>("id")? {
        builder = builder.id(id);
    }
    if let Some(changes) = options.get::<Bound<'_, PyDict>>("settings")? {
        builder = builder.settings(settings(&changes)?);
    }
    for (name, model) in options.get::<BTreeMap<String, String>>("aliases")?.unwrap_or_default() {
        builder = builder.alias(name, model);
    }
    if let Some(seed) = options.get("seed")? {
        builder = builder.seed(seed);
    }
    let event_loop = options.get::<Py<PyAny>>("event_loop")?;
    let loop_of_part = || event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
    let registry = match options.get::<Bound<'_, PyAny>>("registry")? {
        None => None,
        Some(given) => Some(match given.extract::<PathBuf>() {
            Ok(path) => Store::File(path),
            Err(_) => Store::Part(PyRegistry::new(&given, loop_of_part())?),
        }),
    };
    let program = options.get::<PathBuf>("program")?;
    let local = options.get::<PathBuf>("local_hive")?;
    let store_directory = options.get::<PathBuf>("models_dir")?;
    let store_budget = options.get("models_budget")?;
    let offline = options.get("offline")?.unwrap_or(false);
    let context = options.get("context")?;
    let mut hives = Vec::new();
    for hive in options.get::<Vec<Bound<'_, PyAny>>>("hives")?.unwrap_or_default() {
        hives.push(Hive::read(&hive, program.as_deref(), loop_of_part())?);
    }
    let mut workers = Vec::new();
    for worker in options.get::<Vec<Bound<'_, PyAny>>>("workers")?.unwrap_or_default() {
        workers.push(Arc::new(PyWorker::new(&worker, loop_of_part())?));
    }
    if let Some(scheduler) = options.get::<Bound<'_, PyAny>>("scheduler")? {
        builder = builder.scheduler(PyScheduler::new(&scheduler)?);
    }
    let work = async move {
        serving::record_metrics();
        builder = builder.hub(Hub::builder().environment()?.offline(offline).build()?);
        builder = match registry {
            None => builder,
            Some(Store::File(path)) => builder.registry(SqliteRegistry::open(path)?),
            Some(Store::Part(registry)) => builder.registry(registry),
        };
        if let Some(state) = local {
            let mut hive = ProcessHive::new(HiveId::local(), state);
            if let Some(directory) = store_directory {
                let options = StoreOptions { budget: store_budget, ..StoreOptions::default() };
                hive = hive.with_store(ModelStore::open(directory, options)?);
            }
            if let Some(path) = &program {
                hive = hive.with_program(Program::new(path, "llm-worker-rbee"));
            }
            if let Some(tokens) = context {
                hive = hive.with_context(tokens);
            }
            builder = builder.hive(hive);
        }
        if !workers.is_empty() {
            let hive = InProcessHive::new().with_id(HiveId::new(worker::HIVE)?);
            builder = builder
                .hive(workers.into_iter().fold(hive, |hive, worker| hive.with_worker(worker)));
        }
        for hive in hives {
            builder = builder.hive(hive.backend().await?);
        }
        builder.build().await
    };
    Ok(Pending::making(work, move |py, queen| {
        let core = Py::new(py, QueenCore::new(queen))?;
        crate::exit::opened(py, &core);
        Ok(core.into_any())
    }))
}
