//! The suite of a registry.

use std::{sync::Arc, time::Duration};

use pyo3::prelude::*;
use rbee_core::{
    Registry, async_trait,
    conformance::{self, registry::Subject},
    time::WallTime,
};

use super::checked;
use crate::{pending::Pending, registry::PyRegistry, runtime};

/// One store: a function that opens it, and the clock that it uses if that can be moved.
struct Store {
    open: Py<PyAny>,
    clock: Option<Arc<Py<PyAny>>>,
}

/// Calls what the test has given. It has no other way to fail than a panic, which is the result of the check.
fn given<T>(what: &str, call: impl FnOnce(Python<'_>) -> PyResult<T>) -> T {
    Python::attach(call).unwrap_or_else(|error| panic!("{what} raised {error}"))
}

#[async_trait]
impl Subject for Store {
    async fn handle(&self) -> Arc<dyn Registry> {
        let opened = given("the function that opens the store", |py| {
            PyRegistry::new(&self.open.bind(py).call0()?, None)
        });
        Arc::new(opened)
    }

    async fn advance(&self, time: Duration) {
        match &self.clock {
            Some(clock) => given("the clock", |py| {
                clock.call_method1(py, "advance", (time.as_secs_f64(),)).map(drop)
            }),
            None => tokio::time::sleep(time).await,
        }
    }

    fn now(&self) -> WallTime {
        match &self.clock {
            Some(clock) => WallTime::from_millis(given("the clock", |py| {
                clock.call_method0(py, "millis")?.extract(py)
            })),
            None => WallTime::now(),
        }
    }
}

/// Checks a registry. `fresh` makes an empty store and returns the function that opens it.
#[pyfunction]
pub(crate) fn check_registry(
    py: Python<'_>,
    fresh: Py<PyAny>,
    clock: Option<Py<PyAny>>,
) -> PyResult<Pending> {
    crate::exit::register(py)?;
    let clock = clock.map(Arc::new);
    let runtime = runtime::handle()?;
    // The suite is asked from a thread that may wait for the interpreter.
    let suite = move || {
        let store = async || Store {
            open: given("the function that makes a store", |py| fresh.call0(py)),
            clock: clock.clone(),
        };
        tokio::runtime::Handle::current().block_on(conformance::registry::check(store));
    };
    Ok(checked(async move { runtime.spawn_blocking(suite).await }))
}
