//! The HTTP API of a queen, served from this process: [`Serving`].

use std::{
    path::PathBuf,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use pyo3::prelude::*;
use rbee_core::{Error, Queen};
use rbee_transport_http::{
    Token,
    server::{AllowedHost, AllowedOrigin, BatchLimits, ListenHost, Metrics, QueenServer, Server},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{pending::Pending, queen::parsed};

/// How long answers have to reach their clients when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// How often what was recorded is aggregated.
const UPKEEP: Duration = Duration::from_secs(5);

/// A server that runs until it is closed or dropped.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct Serving {
    url: String,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Serving {
    #[expect(clippy::too_many_arguments, reason = "each is an argument in Python")]
    pub(crate) fn start(
        py: Python<'_>,
        queen: Queen,
        host: &str,
        port: u16,
        token: Option<&str>,
        allow_origins: &[String],
        allow_hosts: &[String],
        batches: Option<PathBuf>,
    ) -> PyResult<Pending> {
        let host = parsed::<ListenHost>(py, host)?;
        let token = token.map(|token| parsed::<Token>(py, token)).transpose()?;
        if token.is_none() && !host.is_loopback() {
            let message =
                "a token is needed to serve others than this machine: token=secrets.token_hex(32)";
            return Err(pyo3::exceptions::PyValueError::new_err(message));
        }
        let origins = allow_origins
            .iter()
            .map(|text| parsed::<AllowedOrigin>(py, text))
            .collect::<PyResult<Vec<_>>>()?;
        let hosts = allow_hosts
            .iter()
            .map(|text| parsed::<AllowedHost>(py, text))
            .collect::<PyResult<Vec<_>>>()?;
        let work = async move {
            let stop = CancellationToken::new();
            let server = Server::bind_host(host, port).await?.with_drain(stop.clone());
            let url = format!("http://{}", server.address());
            let mut api = QueenServer::new(queen).stop(stop.clone());
            if let Some(token) = token {
                api = api.with_token(token);
            }
            for origin in origins {
                api = api.with_allowed_origin(origin);
            }
            for host in hosts {
                api = api.with_allowed_host(host);
            }
            if let Some(directory) = batches {
                api = api.with_batches(directory, BatchLimits::default())?;
            }
            api = api.with_metrics(Metrics::install()?.renderer());
            let task = tokio::spawn(server.run(api.router(), stop.clone(), GRACE));
            Ok(Self { url, stop, task: Mutex::new(Some(task)) })
        };
        Ok(Pending::making(work, |py, serving| Ok(Py::new(py, serving)?.into_any())))
    }
}

#[pymethods]
impl Serving {
    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    fn close(&self) -> Pending {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        Pending::new(async move {
            if let Some(task) = task {
                // A server that panicked has ended too.
                let _ = task.await;
            }
            Ok(())
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Records metrics from now on, and aggregates them regularly. Must be called on the runtime.
pub(crate) fn record_metrics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The extension has the only recorder of its own copy of the crate `metrics`.
        let Ok(metrics) = Metrics::install() else { return };
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.upkeep();
            }
        });
    });
}

/// The metrics of this process in Prometheus' text format.
pub(crate) async fn metrics(queen: Queen) -> Result<String, Error> {
    let metrics = Metrics::install()?;
    rbee_core::queen::measure(&queen).await?;
    Ok(metrics.render())
}
