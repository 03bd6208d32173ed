//! The data of hives, between Rust and the classes of `rbee.types`.

use std::path::PathBuf;

use pyo3::{exceptions::PyTypeError, prelude::*};
use rbee_core::{
    Error, ModelRef, WorkerId, WorkerSpec,
    hive::{Device, DeviceKind, Progress},
    models::{Damage, Digest, ModelOnDisk},
};

use crate::{error::to_python, job::object};

/// What the object says of the machine.
pub(super) struct Machine {
    pub(super) devices: Vec<Device>,
    pub(super) models: Vec<ModelOnDisk>,
    pub(super) workers: Vec<WorkerId>,
}

/// Reads an `rbee.HiveReport`.
///
/// # Errors
/// `TypeError`, or the error of rbee, with what is wrong.
pub(super) fn machine(report: &Bound<'_, PyAny>) -> PyResult<Machine> {
    Ok(Machine {
        devices: each(report, "devices", device)?,
        models: each(report, "models", model)?,
        workers: each(report, "workers", worker_id)?,
    })
}

/// Reads each item of an attribute.
fn each<T>(
    of: &Bound<'_, PyAny>,
    name: &str,
    read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    of.getattr(name)?.try_iter()?.map(|item| read(&item?)).collect()
}

/// Reads an attribute.
fn part<T>(of: &Bound<'_, PyAny>, name: &str) -> PyResult<T>
where
    T: for<'a, 'py> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    let value = of.getattr(name)?;
    value.extract().map_err(|error: <T as FromPyObject<'_, '_>>::Error| {
        let said = error.into();
        PyTypeError::new_err(format!("{name} is {value}: {}", said.value(of.py())))
    })
}

/// Reads a text that has rules: an id, for example.
fn parsed<T: std::str::FromStr<Err = Error>>(text: &Bound<'_, PyAny>) -> PyResult<T> {
    text.extract::<String>()?.parse().map_err(|error| to_python(text.py(), &error))
}

pub(super) fn worker_id(text: &Bound<'_, PyAny>) -> PyResult<WorkerId> {
    parsed(text)
}

fn device(device: &Bound<'_, PyAny>) -> PyResult<Device> {
    let kind = match part::<String>(device, "kind")?.as_str() {
        "cpu" => DeviceKind::Cpu,
        "cuda" => DeviceKind::Cuda,
        "metal" => DeviceKind::Metal,
        other => {
            let message = format!("kind of a device is {other:?}; allowed are cpu, cuda and metal");
            return Err(PyTypeError::new_err(message));
        }
    };
    Ok(Device {
        index: part(device, "index")?,
        kind,
        name: part(device, "name")?,
        memory_total: part(device, "memory_total")?,
        memory_free: part(device, "memory_free")?,
    })
}

/// Reads an `rbee.ModelOnDisk`.
///
/// # Errors
/// `TypeError`, or the error of rbee, with what is wrong.
pub(super) fn model(model: &Bound<'_, PyAny>) -> PyResult<ModelOnDisk> {
    let name: ModelRef = parsed(&model.getattr("model")?)?;
    Ok(ModelOnDisk::new(name, part(model, "bytes")?))
}

/// Reads a list of `rbee.Damage`.
///
/// # Errors
/// `TypeError`, or the error of rbee, with what is wrong.
pub(super) fn damages(found: &Bound<'_, PyAny>) -> PyResult<Vec<Damage>> {
    let digest = |text: &str| text.parse::<Digest>().map_err(|error| to_python(found.py(), &error));
    found
        .try_iter()?
        .map(|one| {
            let one = one?;
            Ok(Damage {
                file: part(&one, "file")?,
                expected: digest(&part::<String>(&one, "expected")?)?,
                found: part::<Option<String>>(&one, "found")?.as_deref().map(digest).transpose()?,
                kept: part::<Option<PathBuf>>(&one, "kept")?,
            })
        })
        .collect()
}

/// Reads an `rbee.WorkerSpec`.
///
/// # Errors
/// `TypeError`, or the error of rbee, with what is wrong.
pub(crate) fn spec(given: &Bound<'_, PyAny>) -> PyResult<WorkerSpec> {
    let mut spec = WorkerSpec::new(parsed(&given.getattr("model")?)?);
    spec.slots = part(given, "slots")?;
    spec.devices = part(given, "devices")?;
    spec.need_bytes = part(given, "need_bytes")?;
    Ok(spec)
}

/// An order as an `rbee.WorkerSpec`.
pub(super) fn of_spec<'py>(py: Python<'py>, spec: &WorkerSpec) -> PyResult<Bound<'py, PyAny>> {
    let values = (spec.model.as_str(), spec.slots, spec.devices.clone(), spec.need_bytes);
    object(py, "WorkerSpec", values)
}

/// A function that takes reports of progress.
#[pyclass(frozen, name = "ProgressSink", module = "rbee._rbee")]
pub(super) struct ProgressView(Progress);

impl ProgressView {
    pub(super) fn new(progress: Progress) -> Self {
        Self(progress)
    }
}

#[pymethods]
impl ProgressView {
    #[pyo3(signature = (done, total=None))]
    fn __call__(&self, done: u64, total: Option<u64>) {
        self.0.update(done, total);
    }
}
