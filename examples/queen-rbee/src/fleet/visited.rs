//! [`Visited`]: a hive whose daemon was started separately.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rbee_core::{
    ErrorKind, HiveBackend, ModelRef, Result, Worker, WorkerId, WorkerSpec, async_trait,
    hive::{HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelFiles, ModelOnDisk},
};
use rbee_transport_http::{
    client::HttpHive,
    wire::queen::{HiveCheck, LogLine, Verdict},
};
use tokio_util::sync::CancellationToken;

use crate::hive_access::HiveAccess;

/// A hive that was started separately: when the queen shuts down, the workers that the queen started there end, and
/// the hive's daemon continues.
#[derive(Debug)]
pub(super) struct Visited {
    info: HiveInfo,
    /// The latest connection.
    hive: Mutex<Arc<HttpHive>>,
    access: HiveAccess,
    draining: CancellationToken,
}

impl Visited {
    pub(super) fn new(
        hive: HttpHive,
        access: HiveAccess,
        labels: BTreeMap<String, String>,
        draining: CancellationToken,
    ) -> Self {
        let mut info =
            HiveInfo::http(hive.info().id.clone(), access.url().host(), access.url().port());
        info.labels = labels;
        Self { info, hive: Mutex::new(Arc::new(hive)), access, draining }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        self.access.url().to_string()
    }

    /// The last lines of its log.
    pub(super) async fn logs(&self, lines: usize) -> Result<Vec<LogLine>> {
        self.hive().logs(lines).await.map_err(|error| self.access.explain(error))
    }

    /// Checks that it answers, takes the token, and is of this version.
    pub(super) async fn examine(&self) -> Vec<HiveCheck> {
        let began = Instant::now();
        let answered = async {
            let hive = HttpHive::new(self.info.id.clone(), self.access.endpoint().await?);
            hive.health().await
        };
        let answered = answered.await.map_err(|error| self.access.explain(error));
        let duration_ms = Some(millis(began.elapsed()));
        let url = self.access.url();
        let health = match answered {
            Ok(health) => health,
            Err(error) => {
                // A refused token is an answer.
                let what = match error.kind() {
                    ErrorKind::Unauthorized => "token",
                    _ => "connection",
                };
                let failed = HiveCheck::new(what, Verdict::Failed, error.message());
                return vec![HiveCheck { duration_ms, ..failed }];
            }
        };
        let reached = HiveCheck::new("connection", Verdict::Ok, format!("rbee-hive at {url}"));
        let mut checks = vec![
            HiveCheck { duration_ms, ..reached },
            HiveCheck::new("token", Verdict::Ok, "accepted"),
        ];
        let own = env!("CARGO_PKG_VERSION");
        checks.push(if health.version == own {
            HiveCheck::new("version", Verdict::Ok, own)
        } else {
            let message = format!("{}, and the queen is {own}", health.version);
            let fix = format!("put rbee-hive {own} on {} and restart it", health.hostname);
            HiveCheck { fix: Some(fix), ..HiveCheck::new("version", Verdict::Warning, message) }
        });
        checks
    }

    fn hive(&self) -> Arc<HttpHive> {
        // Only ever replaced as a whole.
        self.hive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ModelHost for Visited {
    fn info(&self) -> &HiveInfo {
        &self.info
    }
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.hive().provision(model, from, progress).await
    }
    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.hive().files(model).await
    }
    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.hive().verify(model, progress).await
    }
    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.hive().remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for Visited {
    async fn watch(
        &self,
        owner: Epoch,
    ) -> Result<futures_util::stream::BoxStream<'static, HiveEvent>> {
        if self.access.may_change() {
            let hive = HttpHive::new(self.info.id.clone(), self.access.endpoint().await?);
            *self.hive.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hive);
        }
        self.hive().watch(owner).await.map_err(|error| self.access.explain(error))
    }
    async fn report(&self) -> Result<HiveReport> {
        self.hive().report().await
    }
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.hive().spawn(id, spec, progress).await
    }
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.hive().worker(id).await
    }
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.hive().stop(id, grace).await
    }
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        if !self.draining.is_cancelled() {
            return self.hive().shutdown(grace).await;
        }
        let hive = self.hive();
        let workers = hive.report().await?.workers;
        let stops = workers.iter().map(|worker| hive.stop(worker.info.id, grace));
        join_all(stops).await.into_iter().collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
