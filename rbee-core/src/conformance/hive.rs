//! The contract of [`HiveBackend`].
//!
//! ```no_run
//! # async fn example(hive: std::sync::Arc<dyn rbee_core::HiveBackend>) -> rbee_core::Result<()> {
//! use rbee_core::{WorkerSpec, conformance};
//!
//! let mut good = WorkerSpec::new("tiny".parse()?);
//! good.devices = vec![0];
//! let mut bad = good.clone();
//! bad.model = "file:/no/such/model".parse()?;
//! conformance::hive::check(hive, good, bad).await;
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    error::{ErrorKind, Result},
    hive::{HiveBackend, HiveEvent, HiveReport, ModelOrigin, WorkerReport},
    id::{Epoch, WorkerId},
    model_on_disk::ModelOnDisk,
    progress::Progress,
    worker::Worker,
    worker_spec::WorkerSpec,
};

/// Panics with the sentence if the condition is false.
macro_rules! must {
    ($holds:expr, $($sentence:tt)+) => {
        assert!($holds, "hive contract broken: {}", format_args!($($sentence)+))
    };
}

mod subscriptions;
mod workers;

/// The longest time of one call.
const LIMIT: Duration = Duration::from_secs(120);
/// How long to watch for events that must not occur.
const QUIET: Duration = Duration::from_millis(300);
/// How long a worker may take to stop before it is forced.
const GRACE: Duration = Duration::from_secs(5);

/// Runs every check on the hive, which must be unused and not claimed yet; it is shut down at the end.
///
/// The hive must be able to spawn `good`. It must not be able to spawn `bad`, whose model does not exist or is damaged.
/// The model of `good` is removed from the hive towards the end, and provisioned again if the hive supports that. One
/// call may take two minutes; with paused tokio time a hive without real waits is checked at once.
///
/// # Panics
/// With a sentence that names the broken part of the contract.
pub async fn check(hive: Arc<dyn HiveBackend>, good: WorkerSpec, bad: WorkerSpec) {
    let suite = Suite { hive, good, bad, rev: Mutex::new(0) };
    suite.watch_makes_the_hive_ready_and_is_idempotent().await;
    suite.provision_is_idempotent().await;
    suite.a_subscription_begins_with_a_report().await;
    suite.a_spawned_worker_is_usable_and_reported().await;
    suite.a_spawn_is_idempotent_by_name().await;
    suite.a_spawn_that_nobody_waits_for_leaves_no_orphan().await;
    suite.a_bad_spawn_is_a_typed_error_and_leaves_nothing().await;
    suite.a_stop_is_idempotent_and_no_exit().await;
    suite.an_unknown_worker_is_not_found().await;
    suite.two_subscriptions_of_one_queen_live_side_by_side().await;
    suite.a_younger_queen_fences_an_older_one().await;
    suite.a_removed_model_is_gone_and_can_come_back().await;
    suite.shutdown_leaves_nothing().await;
}

/// Checks that the death of a worker that nobody asked to stop is reported. `kill` ends the worker with this id by any
/// means except [`HiveBackend::stop`].
///
/// # Panics
/// With a sentence that names the broken part of the contract.
pub async fn a_death_is_told<K>(
    hive: Arc<dyn HiveBackend>,
    good: WorkerSpec,
    kill: impl FnOnce(WorkerId) -> K,
) where
    K: Future<Output = ()>,
{
    let mut events = bounded("watch", hive.watch(Epoch(1))).await.expect("the hive is watched");
    let id = WorkerId::random();
    let spawn = hive.spawn(id, &good, Progress::ignore());
    bounded("spawn", spawn).await.expect("the hive spawns");
    kill(id).await;
    loop {
        let event = bounded("the event of a worker's death", events.next()).await;
        match event {
            Some(HiveEvent::Report(_)) => {}
            Some(HiveEvent::Exited { worker, why }) => {
                must!(worker == id, "worker {id} died, and the death of {worker} was reported");
                must!(!why.message().is_empty(), "the death of {id} was reported without a reason");
                break;
            }
            None => must!(false, "the subscription ended when worker {id} died"),
        }
    }
    let report = bounded("report", hive.report()).await.expect("the hive reports");
    must!(find(&report, id).is_none(), "worker {id} died and is still reported");
}

/// Waits for the future, for a limited time.
async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LIMIT, future).await {
        Ok(done) => done,
        Err(_) => panic!("hive contract broken: {what} took longer than {LIMIT:?}"),
    }
}

fn find(report: &HiveReport, id: WorkerId) -> Option<&WorkerReport> {
    report.workers.iter().find(|worker| worker.info.id == id)
}

struct Suite {
    hive: Arc<dyn HiveBackend>,
    good: WorkerSpec,
    bad: WorkerSpec,
    /// The highest revision so far.
    rev: Mutex<u64>,
}

type Events = BoxStream<'static, HiveEvent>;

impl Suite {
    async fn ok<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> T {
        match bounded(what, call).await {
            Ok(done) => done,
            Err(error) => panic!("hive contract broken: {what} failed with {error:?}"),
        }
    }

    async fn report(&self) -> HiveReport {
        let report = self.ok("report", self.hive.report()).await;
        self.look_at(&report);
        report
    }

    /// Checks the rules for every report.
    fn look_at(&self, report: &HiveReport) {
        let mut highest = self.rev.lock().unwrap_or_else(PoisonError::into_inner);
        must!(report.rev >= *highest, "the revision fell from {highest} to {}", report.rev);
        *highest = report.rev;
        let mut names = BTreeSet::new();
        for WorkerReport { info, .. } in &report.workers {
            must!(names.insert(info.id), "worker {} is reported twice", info.id);
            must!(
                info.since <= report.rev,
                "worker {} appeared at revision {}, after the {} of the report that lists it",
                info.id,
                info.since,
                report.rev
            );
            must!(
                info.hive == self.hive.info().id,
                "worker {} is reported as one of hive {}",
                info.id,
                info.hive
            );
        }
        for device in &report.devices {
            must!(
                device.memory_free <= device.memory_total,
                "device {} has more free memory than memory",
                device.index
            );
        }
    }

    async fn watch(&self, epoch: u64) -> Events {
        self.ok("watch", self.hive.watch(Epoch(epoch))).await
    }

    async fn first_report(&self, events: &mut Events) -> HiveReport {
        match bounded("the first event of a subscription", events.next()).await {
            Some(HiveEvent::Report(report)) => {
                self.look_at(&report);
                *report
            }
            other => panic!(
                "hive contract broken: the first event of a subscription is {other:?}, not a report"
            ),
        }
    }

    async fn spawn(&self, id: WorkerId) -> Arc<dyn Worker> {
        let spawn = self.hive.spawn(id, &self.good, Progress::ignore());
        self.ok("spawn", spawn).await
    }

    async fn stop(&self, id: WorkerId) {
        self.ok("stop", self.hive.stop(id, GRACE)).await;
    }

    async fn watch_makes_the_hive_ready_and_is_idempotent(&self) {
        drop(self.watch(1).await);
        drop(self.ok("a second watch", self.hive.watch(Epoch(1))).await);
        self.report().await;
    }

    async fn provision_is_idempotent(&self) {
        let provision =
            || self.hive.provision(&self.good.model, ModelOrigin::Here, Progress::ignore());
        match bounded("provision", provision()).await {
            Ok(ModelOnDisk { bytes, .. }) => {
                let again = self.ok("a second provision", provision()).await.bytes;
                must!(
                    bytes == again,
                    "a model of {bytes} bytes was provisioned again with {again}"
                );
                let report = self.report().await;
                let listed = report.models.iter().find(|listed| listed.model == self.good.model);
                must!(
                    bytes == 0 || listed.is_some_and(|listed| listed.bytes == bytes),
                    "a model of {bytes} bytes was provisioned; reported is {listed:?}"
                );
            }
            Err(error) => must!(
                error.kind() == ErrorKind::Unsupported,
                "provision of a model that can be spawned failed with {error:?}"
            ),
        }
    }

    async fn a_removed_model_is_gone_and_can_come_back(&self) {
        let model = &self.good.model;
        let remove = || self.hive.remove_model(model);
        match bounded("remove_model", remove()).await {
            Ok(()) => {
                self.ok("a second remove_model", remove()).await;
                let listed = self.report().await.models;
                must!(
                    listed.iter().all(|listed| listed.model != *model),
                    "{model} was removed and is still reported"
                );
            }
            Err(error) => {
                must!(error.kind() == ErrorKind::Unsupported, "remove_model failed with {error:?}")
            }
        }
        self.provision_is_idempotent().await;
    }

    async fn shutdown_leaves_nothing(&self) {
        let mut events = self.watch(5).await;
        self.first_report(&mut events).await;
        let id = WorkerId::random();
        self.spawn(id).await;
        self.ok("shutdown", self.hive.shutdown(GRACE)).await;
        let end = async { while events.next().await.is_some() {} };
        bounded("the end of a subscription after shutdown", end).await;
        if let Ok(report) = bounded("report", self.hive.report()).await {
            must!(
                report.workers.is_empty(),
                "after shutdown {} workers are reported",
                report.workers.len()
            );
        }
        let worker = bounded("worker", self.hive.worker(id)).await;
        must!(worker.is_err(), "after shutdown worker {id} is still returned");
        self.ok("a second shutdown", self.hive.shutdown(GRACE)).await;
    }
}
