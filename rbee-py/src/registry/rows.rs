//! The rows of a store as plain data: dicts of Python that JSON can hold, described in `rbee.registry`.
//!
//! They are what serde makes of the records, with one difference: the status of a job is in fields of its own, because
//! a store filters by its state and changes it.

use pyo3::{exceptions::PyTypeError, prelude::*};
use rbee_core::{
    Outcome, WorkerId,
    id::Epoch,
    job::{EndedJob, JobStatus, LiveJob},
    registry::{JobRecord, PolicyOrigin, PolicyRecord, Snapshot},
    scheduler::{PolicyLanguage, PolicySource},
    time::WallTime,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The field of a job's record that is in fields of its own here.
const STATUS: &str = "status";

/// Those fields.
#[derive(Serialize, Deserialize)]
struct Status {
    state: rbee_core::JobState,
    worker: Option<WorkerId>,
    started_at: Option<WallTime>,
    completed_at: Option<WallTime>,
    outcome: Option<PlainOutcome>,
}

/// How a job has ended. Its kind is the state of the job.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum PlainOutcome {
    Complete {
        finish: rbee_core::Finish,
        usage: rbee_core::Usage,
        #[serde(default)]
        stop_text: Option<Box<str>>,
    },
    Failed {
        error: rbee_core::Error,
    },
    Cancelled,
}

impl From<&Outcome> for PlainOutcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Complete { finish, usage, stop_text } => {
                Self::Complete { finish: *finish, usage: *usage, stop_text: stop_text.clone() }
            }
            Outcome::Failed(error) => Self::Failed { error: error.clone() },
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<PlainOutcome> for Outcome {
    fn from(outcome: PlainOutcome) -> Self {
        match outcome {
            PlainOutcome::Complete { finish, usage, stop_text } => {
                Self::Complete { finish, usage, stop_text }
            }
            PlainOutcome::Failed { error } => Self::Failed(error),
            PlainOutcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<&JobStatus> for Status {
    fn from(status: &JobStatus) -> Self {
        let (completed_at, outcome) = match status {
            JobStatus::Live(_) => (None, None),
            JobStatus::Ended(ended) => (Some(ended.completed_at), Some((&ended.outcome).into())),
        };
        Self {
            state: status.state(),
            worker: status.worker(),
            started_at: status.started_at(),
            completed_at,
            outcome,
        }
    }
}

impl TryFrom<Status> for JobStatus {
    type Error = String;

    fn try_from(status: Status) -> Result<Self, String> {
        let Status { state, worker, started_at, completed_at, outcome } = status;
        let status: Self = match (outcome, completed_at) {
            (Some(outcome), Some(completed_at)) => {
                EndedJob { outcome: outcome.into(), worker, started_at, completed_at }.into()
            }
            (None, None) => LiveJob::from_parts(worker, started_at).into(),
            _ => return Err("outcome and completed_at must be both set or both None".into()),
        };
        if status.state() != state {
            return Err(format!(
                "state is {state}, but its worker and its outcome are those of a job that is {}",
                status.state()
            ));
        }
        Ok(status)
    }
}

/// A value of serde as an object that JSON can hold: the keys of all dicts are texts.
pub(super) fn plain<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).map_err(wrong)?;
    Ok(pythonize::pythonize(py, &value)?)
}

/// The record of a job as a dict.
pub(super) fn of_job<'py>(py: Python<'py>, record: &JobRecord) -> PyResult<Bound<'py, PyAny>> {
    let mut row = serde_json::to_value(record).map_err(wrong)?;
    let status = serde_json::to_value(Status::from(&record.status)).map_err(wrong)?;
    if let (Value::Object(row), Value::Object(status)) = (&mut row, status) {
        row.remove(STATUS);
        row.extend(status);
    }
    Ok(pythonize::pythonize(py, &row)?)
}

/// The record of a policy as a dict.
pub(super) fn of_policy<'py>(
    py: Python<'py>,
    record: &PolicyRecord,
) -> PyResult<Bound<'py, PyAny>> {
    plain(
        py,
        &PlainPolicy {
            version: record.version,
            at: record.at,
            hash: record.hash.clone(),
            origin: record.origin,
            language: record.source.language,
            text: record.source.text.to_string(),
        },
    )
}

/// A version of the policy.
#[derive(Serialize, Deserialize)]
struct PlainPolicy {
    version: u64,
    at: WallTime,
    hash: String,
    origin: PolicyOrigin,
    language: PolicyLanguage,
    text: String,
}

fn wrong(error: serde_json::Error) -> PyErr {
    PyTypeError::new_err(error.to_string())
}

/// Reads a value of serde.
fn read<T: DeserializeOwned>(value: Value) -> PyResult<T> {
    serde_json::from_value(value).map_err(wrong)
}

/// Reads the record of a job.
///
/// # Errors
/// `TypeError` with what is wrong.
pub(super) fn job(value: Value) -> PyResult<JobRecord> {
    let id = value.get("id").cloned().unwrap_or_default();
    let named = |error: String| PyTypeError::new_err(format!("job {id}: {error}"));
    let status = Status::deserialize(&value).map_err(|error| error.to_string());
    let status = status.and_then(JobStatus::try_from).map_err(named)?;
    let mut value = value;
    if let Value::Object(row) = &mut value {
        row.insert(STATUS.to_owned(), serde_json::to_value(status).map_err(wrong)?);
    }
    serde_json::from_value(value).map_err(|error| named(error.to_string()))
}

/// Reads a version of the policy.
///
/// # Errors
/// `TypeError` with what is wrong.
pub(super) fn policy(value: Value) -> PyResult<PolicyRecord> {
    let PlainPolicy { version, at, hash, origin, language, text } = read(value)?;
    let source = PolicySource { language, text: text.into() };
    Ok(PolicyRecord { version, at, hash, origin, source })
}

/// Reads a list of records.
///
/// # Errors
/// `TypeError` with what is wrong.
pub(super) fn list<T>(
    found: &Bound<'_, PyAny>,
    one: impl Fn(Value) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let found: Vec<Value> = pythonize::depythonize(found)?;
    found.into_iter().map(one).collect()
}

/// Reads what `open` and `renew` return.
///
/// # Errors
/// `TypeError` with what is wrong.
pub(super) fn snapshot(found: &Bound<'_, PyAny>) -> PyResult<Snapshot> {
    #[derive(Deserialize)]
    struct Found {
        epoch: u64,
        jobs: Vec<Value>,
        hives: Value,
        models: Value,
        workers: Value,
        tenants: Value,
    }
    let Found { epoch, jobs, hives, models, workers, tenants } = pythonize::depythonize(found)?;
    let py = found.py();
    let named = |name: &'static str| {
        move |error: PyErr| PyTypeError::new_err(format!("{name}: {}", error.value(py)))
    };
    Ok(Snapshot {
        epoch: Epoch(epoch),
        jobs: jobs.into_iter().map(job).collect::<PyResult<_>>()?,
        hives: read(hives).map_err(named("hives"))?,
        models: read(models).map_err(named("models"))?,
        workers: read(workers).map_err(named("workers"))?,
        tenants: read(tenants).map_err(named("tenants"))?,
    })
}

/// How a job has ended, as a dict.
pub(super) fn of_outcome<'py>(py: Python<'py>, outcome: &Outcome) -> PyResult<Bound<'py, PyAny>> {
    plain(py, &PlainOutcome::from(outcome))
}
