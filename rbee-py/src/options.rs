//! Options that come as keyword arguments: [`Options`].

use std::{collections::BTreeMap, time::Duration};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};
use rbee_core::{Error, Settings};
use serde_json::{Value, json};

use crate::{error::to_python, pending::seconds};

/// Keyword arguments; errors name them.
pub(crate) struct Options<'py>(Bound<'py, PyDict>);

impl<'py> Options<'py> {
    pub(crate) fn new(dict: Bound<'py, PyDict>) -> Self {
        Self(dict)
    }

    /// The value of an option; `None` if it was left out or is `None`.
    ///
    /// # Errors
    /// `TypeError` with the name of the option.
    pub(crate) fn get<T>(&self, name: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        let Some(value) = self.0.get_item(name)?.filter(|value| !value.is_none()) else {
            return Ok(None);
        };
        let wrong = |error: PyErr| {
            let py = value.py();
            let said = error.value(py).to_string();
            let (given, kind) = (value.repr().map(|text| text.to_string()), value.get_type());
            let given = given.unwrap_or_else(|_| kind.to_string());
            PyTypeError::new_err(format!("{name} is {given}: {said}"))
        };
        value.extract().map(Some).map_err(|error: T::Error| wrong(error.into()))
    }

    /// The value of an option that was given as a text: an id, for example.
    ///
    /// # Errors
    /// `TypeError`, or the error of rbee, with the name of the option.
    pub(crate) fn parsed<T>(&self, name: &str) -> PyResult<Option<T>>
    where
        T: std::str::FromStr<Err = Error>,
    {
        let Some(text) = self.get::<String>(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: Error| to_python(self.0.py(), &error.context(name)))
    }

    /// The value of an option that is a time in seconds.
    ///
    /// # Errors
    /// `TypeError` or `ValueError` with the name of the option.
    pub(crate) fn seconds(&self, name: &str) -> PyResult<Option<Duration>> {
        let Some(number) = self.get::<f64>(name)? else { return Ok(None) };
        let named =
            |error: PyErr| PyValueError::new_err(format!("{name}: {}", error.value(self.0.py())));
        seconds(number).map(Some).map_err(named)
    }
}

/// The settings that are times. Python has them in seconds.
const TIMES: [&str; 22] = [
    "interactive_wait",
    "batch_wait",
    "job_timeout",
    "max_job_timeout",
    "retry_delay",
    "max_retry_delay",
    "stall_timeout",
    "suspect_after",
    "spawn_timeout",
    "provision_silence",
    "abort_grace",
    "autoscale_interval",
    "scale_up_after",
    "scale_back_after",
    "keep_alive",
    "min_loaded",
    "probe_interval",
    "probe_timeout",
    "hive_lost_after",
    "owner_lease",
    "events_kept",
    "replay_limit",
];
/// The setting that is a time for each model.
const TIME_OF_EACH: &str = "model_keep_alive";

fn time(name: &str, value: &Value) -> PyResult<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let wrong =
        || PyTypeError::new_err(format!("{name} is {value}; allowed is a number of seconds"));
    let named = |error: PyErr| {
        Python::attach(|py| PyValueError::new_err(format!("{name}: {}", error.value(py))))
    };
    let time = seconds(value.as_f64().ok_or_else(wrong)?).map_err(named)?;
    Ok(json!({"secs": time.as_secs(), "nanos": time.subsec_nanos()}))
}

/// The settings with these changed. Times are in seconds.
///
/// # Errors
/// `TypeError` for an unknown name or a value of a wrong type, `ValueError` for a time that is none.
pub(crate) fn settings(changes: &Bound<'_, PyDict>) -> PyResult<Settings> {
    let changes: BTreeMap<String, Value> = pythonize::depythonize(changes)?;
    let internal = |error: serde_json::Error| PyTypeError::new_err(error.to_string());
    let mut all = serde_json::to_value(Settings::default()).map_err(internal)?;
    for (name, value) in changes {
        let value = match &value {
            Value::Object(times) if name == TIME_OF_EACH => {
                let each =
                    times.iter().map(|(model, value)| Ok((model.clone(), time(&name, value)?)));
                Value::Object(each.collect::<PyResult<_>>()?)
            }
            value if TIMES.contains(&name.as_str()) => time(&name, value)?,
            value => value.clone(),
        };
        let known = all.get_mut(&name);
        let known =
            known.ok_or_else(|| PyTypeError::new_err(format!("there is no setting {name}")))?;
        let before = std::mem::replace(known, value.clone());
        serde_json::from_value::<Settings>(all.clone()).map_err(|error| {
            PyTypeError::new_err(format!("{name} is {value}: {error} (the default is {before})"))
        })?;
    }
    serde_json::from_value(all).map_err(internal)
}

/// The default of each setting, with times in seconds.
#[pyfunction]
pub(crate) fn default_settings(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let internal = |error: serde_json::Error| PyTypeError::new_err(error.to_string());
    let mut all = serde_json::to_value(Settings::default()).map_err(internal)?;
    for name in TIMES {
        if let Some(value) = all.get_mut(name)
            && let Ok(time) = serde_json::from_value::<Duration>(value.clone())
        {
            *value = json!(time.as_secs_f64());
        }
    }
    Ok(pythonize::pythonize(py, &all)?)
}
