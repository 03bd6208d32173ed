//! The suite of a hive.

use std::sync::Arc;

use pyo3::prelude::*;
use rbee_core::{WorkerId, conformance};

use super::checked;
use crate::{
    hive::{PyHive, spec},
    pending::Pending,
    runtime,
};

/// Checks a hive, which can spawn `good` and not `bad`.
#[pyfunction]
pub(crate) fn check_hive(
    hive: &Bound<'_, PyAny>,
    good: &Bound<'_, PyAny>,
    bad: &Bound<'_, PyAny>,
) -> PyResult<Pending> {
    crate::exit::register(hive.py())?;
    let (hive, good, bad) = (Arc::new(PyHive::new(hive, None)?), spec(good)?, spec(bad)?);
    let runtime = runtime::handle()?;
    let suite = async move { conformance::hive::check(hive, good, bad).await };
    Ok(checked(async move { runtime.spawn(suite).await }))
}

/// Checks that a hive reports the end of a worker that `kill` ends.
#[pyfunction]
pub(crate) fn check_worker_exit(
    hive: &Bound<'_, PyAny>,
    good: &Bound<'_, PyAny>,
    kill: Py<PyAny>,
) -> PyResult<Pending> {
    crate::exit::register(hive.py())?;
    let (hive, good) = (Arc::new(PyHive::new(hive, None)?), spec(good)?);
    let runtime = runtime::handle()?;
    let suite = async move {
        let kill = async move |id: WorkerId| {
            let kill = move || Python::attach(|py| kill.call1(py, (id.to_string(),)).map(drop));
            let killed = tokio::task::spawn_blocking(kill).await;
            if let Ok(Err(error)) = killed {
                panic!("the function that ends a worker raised {error}");
            }
        };
        conformance::hive::a_death_is_told(hive, good, kill).await;
    };
    Ok(checked(async move { runtime.spawn(suite).await }))
}
