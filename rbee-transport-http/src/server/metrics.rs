//! Metrics in Prometheus' text format.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use rbee_core::{Error, ErrorKind, Result};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The histogram bounds of durations, in seconds: of waiting, loading and answering.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];
/// The same for decisions, which take microseconds.
const DECISIONS: [f64; 10] = [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// How often a daemon aggregates what was recorded.
const UPKEEP: Duration = Duration::from_secs(5);
/// A gauge that was not set since the previous rendering disappears, if that was longer ago than this: its hive, device
/// or tenant is gone. Servers set all their gauges right before they render them. Two clients that ask at the same time
/// must not take each other's gauges away, so the time is not zero.
const GAUGES_KEPT: Duration = Duration::from_secs(5);

/// The metrics of this process, for Prometheus. There is one recorder per process; clones share it.
///
/// ```
/// use rbee_transport_http::server::Metrics;
///
/// let metrics = Metrics::install()?;
/// assert!(metrics.render().contains("rbee_build_info"));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder. If it is already installed, returns another handle to it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the application has a recorder of its own.
    pub fn install() -> Result<Self> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let conflict = |cause: String| {
            Error::new(ErrorKind::Conflict, format!("metrics cannot be recorded: {cause}"))
        };
        let decisions = Matcher::Full("rbee_scheduling_seconds".into());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(decisions, &DECISIONS))
            .map_err(|cause| conflict(cause.to_string()))?
            .idle_timeout(MetricKindMask::GAUGE, Some(GAUGES_KEPT))
            .build_recorder();
        let metrics = Self(recorder.handle());
        metrics::set_global_recorder(recorder).map_err(|cause| conflict(cause.to_string()))?;
        rbee_core::metrics::describe();
        super::measurements::describe();
        super::request_metrics::describe();
        *installed = Some(metrics.clone());
        Ok(metrics)
    }

    /// All metrics, in Prometheus' text format, with those of the process and of its build. Gauges are as they were
    /// last set (see [`measure`](rbee_core::queen::measure)).
    pub fn render(&self) -> String {
        super::request_metrics::measure();
        let mut text = self.0.render();
        super::process_metrics::append(&mut text);
        text
    }

    /// Aggregates what was recorded; call it every few seconds, so that memory stays bounded if nothing scrapes the
    /// metrics.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// Calls [`upkeep`](Self::upkeep) regularly until the returned value is dropped. Needs a runtime.
    pub(super) fn keep_up(&self) -> DropGuard {
        let (metrics, over) = (self.clone(), CancellationToken::new());
        let beat = async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.upkeep();
            }
        };
        tokio::spawn(over.clone().run_until_cancelled_owned(beat));
        over.drop_guard()
    }

    /// The function that a server responds with.
    pub fn renderer(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let metrics = self.clone();
        Arc::new(move || metrics.render())
    }
}
