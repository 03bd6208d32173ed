//! What every [`HiveBackend`] must do.
//!
//! ```no_run
//! # async fn example(hive: std::sync::Arc<dyn rbee_core::HiveBackend>) -> rbee_core::Result<()> {
//! use rbee_core::{WorkerSpec, conformance};
//!
//! let good = WorkerSpec { model: "tiny".parse()?, slots: 1, devices: vec![0], need_bytes: 0 };
//! let bad = WorkerSpec { model: "file:/no/such/model".parse()?, ..good.clone() };
//! conformance::hive::suite(hive, good, bad).await;
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, future::join_all};
use tokio::time::timeout;

use crate::{
    Epoch, ErrorKind, HiveBackend, HiveEvent, HiveReport, Progress, Result, Worker, WorkerId,
    WorkerReport, WorkerSpec,
};

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How long nothing must happen where nothing may.
const QUIET: Duration = Duration::from_millis(300);
/// How long a worker may take to stop before it is forced.
const GRACE: Duration = Duration::from_secs(5);

/// A check that ended well, or the sentence that says what was broken.
macro_rules! must {
    ($holds:expr, $($sentence:tt)+) => {
        assert!($holds, "hive contract broken: {}", format_args!($($sentence)+))
    };
}

/// Runs every check on the hive, which nobody else uses and nobody has claimed yet; it is shut down in the end.
///
/// It can spawn `good`. It cannot spawn `bad`, whose model does not exist or is damaged. The model of `good` is
/// removed from the hive towards the end, and provisioned again where the hive can do that. One call may take two
/// minutes; with paused tokio time a hive without real waits is checked at once.
///
/// # Panics
/// With a sentence that says which part of the contract is broken.
pub async fn suite(hive: Arc<dyn HiveBackend>, good: WorkerSpec, bad: WorkerSpec) {
    let suite = Suite {
        hive,
        good,
        bad,
        rev: Mutex::new(0),
    };
    suite.start_is_idempotent().await;
    suite.provision_is_idempotent().await;
    suite.a_subscription_begins_with_a_report().await;
    suite.a_spawned_worker_is_usable_and_reported().await;
    suite.a_spawn_is_idempotent_by_name().await;
    suite.a_spawn_that_nobody_waits_for_leaves_no_orphan().await;
    suite
        .a_bad_spawn_is_a_typed_error_and_leaves_nothing()
        .await;
    suite.a_stop_is_idempotent_and_no_exit().await;
    suite.an_unknown_worker_is_not_found().await;
    suite
        .two_subscriptions_of_one_queen_live_side_by_side()
        .await;
    suite.a_younger_queen_fences_an_older_one().await;
    suite.a_removed_model_is_gone_and_can_come_back().await;
    suite.shutdown_leaves_nothing().await;
}

/// Checks that the death of a worker nobody asked to stop is told. `kill` lets the worker of this name die by any
/// means but [`HiveBackend::stop`].
///
/// # Panics
/// With a sentence that says what is broken.
pub async fn a_death_is_told<K>(
    hive: Arc<dyn HiveBackend>,
    good: WorkerSpec,
    kill: impl FnOnce(WorkerId) -> K,
) where
    K: Future<Output = ()>,
{
    bounded("start", hive.start())
        .await
        .expect("the hive starts");
    let mut events = bounded("watch", hive.watch(Epoch(1)))
        .await
        .expect("the hive is watched");
    let id = WorkerId::random();
    let spawn = hive.spawn(id, &good, Progress::ignore());
    bounded("spawn", spawn).await.expect("the hive spawns");
    kill(id).await;
    loop {
        let event = bounded("the event of a worker's death", events.next()).await;
        match event {
            Some(HiveEvent::Report(_)) => {}
            Some(HiveEvent::Exited { worker, why }) => {
                must!(
                    worker == id,
                    "worker {id} died, and the death of {worker} was told"
                );
                must!(
                    !why.message().is_empty(),
                    "the death of {id} was told without a reason"
                );
                break;
            }
            None => must!(false, "the subscription ended when worker {id} died"),
        }
    }
    let report = bounded("report", hive.report())
        .await
        .expect("the hive reports");
    must!(
        find(&report, id).is_none(),
        "worker {id} died and is still reported"
    );
}

/// Waits for the future, but not for ever.
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
    /// The highest revision seen.
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

    /// What holds for every report.
    fn look_at(&self, report: &HiveReport) {
        let mut highest = self.rev.lock().unwrap_or_else(PoisonError::into_inner);
        must!(
            report.rev >= *highest,
            "the revision fell from {highest} to {}",
            report.rev
        );
        *highest = report.rev;
        let mut names = BTreeSet::new();
        for WorkerReport { info, .. } in &report.workers {
            must!(
                names.insert(info.id),
                "worker {} is reported twice",
                info.id
            );
            must!(
                info.since <= report.rev,
                "worker {} appeared at revision {}, after the {} of the report that lists it",
                info.id,
                info.since,
                report.rev
            );
            must!(
                info.hive == *self.hive.id(),
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

    async fn must_be_gone(&self, id: WorkerId, after: &str) {
        let report = self.report().await;
        must!(
            find(&report, id).is_none(),
            "worker {id} is still reported after {after}"
        );
        self.must_not_be_found(id, after).await;
    }

    async fn must_not_be_found(&self, id: WorkerId, after: &str) {
        match bounded("worker", self.hive.worker(id)).await {
            Ok(_) => must!(false, "worker {id} is still given out after {after}"),
            Err(error) => must!(
                error.kind() == ErrorKind::NotFound,
                "asked for worker {id} after {after}, the hive says {}, not NOT_FOUND",
                error.kind()
            ),
        }
    }

    async fn start_is_idempotent(&self) {
        self.ok("start", self.hive.start()).await;
        self.ok("a second start", self.hive.start()).await;
        self.report().await;
    }

    async fn provision_is_idempotent(&self) {
        let provision = || self.hive.provision(&self.good.model, Progress::ignore());
        match bounded("provision", provision()).await {
            Ok(bytes) => {
                let again = self.ok("a second provision", provision()).await;
                must!(
                    bytes == again,
                    "a model of {bytes} bytes was provisioned again with {again}"
                );
                let report = self.report().await;
                let listed = report
                    .models
                    .iter()
                    .find(|(model, _)| *model == self.good.model);
                must!(
                    bytes == 0 || listed.is_some_and(|(_, size)| *size == bytes),
                    "a model of {bytes} bytes was provisioned; reported is {listed:?}"
                );
            }
            Err(error) => must!(
                error.kind() == ErrorKind::Unsupported,
                "provision of a model that can be spawned failed with {error:?}"
            ),
        }
    }

    async fn a_subscription_begins_with_a_report(&self) {
        let id = WorkerId::random();
        self.spawn(id).await;
        let mut events = self.watch(1).await;
        let report = self.first_report(&mut events).await;
        must!(
            find(&report, id).is_some(),
            "the first report of a subscription does not list worker {id}, which was there before"
        );
        self.stop(id).await;
    }

    async fn a_spawned_worker_is_usable_and_reported(&self) {
        let id = WorkerId::random();
        let before = self.report().await.rev;
        let worker = self.spawn(id).await;
        let info = worker.info();
        must!(
            info.id == id,
            "asked for worker {id}, the hive made {}",
            info.id
        );
        must!(
            info.model == self.good.model,
            "asked for a worker with {}, the hive made one with {}",
            self.good.model,
            info.model
        );
        must!(info.slots >= 1, "worker {id} has no slots");
        must!(
            info.since > before,
            "worker {id} is said to have appeared at revision {}, and was not in the report of {before}",
            info.since
        );
        self.ok("health", worker.health()).await;
        let report = self.report().await;
        match find(&report, id) {
            Some(found) => must!(
                found.info == **info,
                "worker {id} is {info:?}, reported as {:?}",
                found.info
            ),
            None => must!(false, "worker {id} was spawned and is not reported"),
        }
        let again = self.ok("worker", self.hive.worker(id)).await;
        must!(
            again.info() == info,
            "worker {id} is given out as {:?}",
            again.info()
        );
        self.stop(id).await;
        let after = self.report().await.rev;
        must!(
            after > report.rev,
            "the revision is {after} before and after a stop"
        );
    }

    async fn a_spawn_is_idempotent_by_name(&self) {
        let id = WorkerId::random();
        let count = self.report().await.workers.len();
        let all = join_all((0..4).map(|_| self.spawn(id))).await;
        let late = self.spawn(id).await;
        for worker in &all {
            must!(
                worker.info() == late.info(),
                "five spawns of worker {id} gave {:?} and {:?}",
                worker.info(),
                late.info()
            );
        }
        let now = self.report().await.workers.len();
        must!(
            now == count + 1,
            "five spawns of one worker made {}",
            now - count
        );
        self.stop(id).await;
        self.must_be_gone(id, "it was spawned five times and stopped once")
            .await;
    }

    async fn a_spawn_that_nobody_waits_for_leaves_no_orphan(&self) {
        let id = WorkerId::random();
        // Polled once and dropped: whoever asked has gone away.
        let _ = self
            .hive
            .spawn(id, &self.good, Progress::ignore())
            .now_or_never();
        self.stop(id).await;
        tokio::time::sleep(QUIET).await;
        self.must_be_gone(id, "its spawn was abandoned and it was stopped")
            .await;
    }

    async fn a_bad_spawn_is_a_typed_error_and_leaves_nothing(&self) {
        let id = WorkerId::random();
        let spawn = self.hive.spawn(id, &self.bad, Progress::ignore());
        match bounded("the spawn of a bad model", spawn).await {
            Ok(_) => must!(false, "{}, which is no model, was spawned", self.bad.model),
            Err(error) => {
                must!(
                    error.kind() != ErrorKind::Internal,
                    "a bad model is an internal error: {error:?}"
                );
                must!(
                    !error.message().is_empty(),
                    "a bad model is an error without a message"
                );
            }
        }
        self.must_be_gone(id, "its spawn failed").await;
        let other = WorkerId::random();
        self.spawn(other).await;
        self.stop(other).await;
    }

    async fn a_stop_is_idempotent_and_no_exit(&self) {
        let mut events = self.watch(1).await;
        self.first_report(&mut events).await;
        let id = WorkerId::random();
        self.spawn(id).await;
        self.stop(id).await;
        self.must_be_gone(id, "it was stopped").await;
        self.stop(id).await;
        let over = tokio::time::sleep(QUIET);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                event = events.next() => match event {
                    Some(HiveEvent::Report(report)) => self.look_at(&report),
                    Some(HiveEvent::Exited { worker, why }) => must!(
                        worker != id,
                        "worker {id} was asked to stop, and its exit was told: {why}"
                    ),
                    None => must!(false, "the subscription ended when a worker was stopped"),
                },
            }
        }
    }

    async fn an_unknown_worker_is_not_found(&self) {
        let id = WorkerId::random();
        self.stop(id).await;
        self.must_not_be_found(id, "nobody had spawned it").await;
    }

    async fn two_subscriptions_of_one_queen_live_side_by_side(&self) {
        let mut both = [self.watch(2).await, self.watch(2).await];
        for events in &mut both {
            self.first_report(events).await;
        }
        for events in &mut both {
            self.must_live(events, "beside another of the same queen")
                .await;
        }
    }

    async fn a_younger_queen_fences_an_older_one(&self) {
        let mut older = self.watch(3).await;
        self.first_report(&mut older).await;
        let mut younger = self.watch(4).await;
        self.first_report(&mut younger).await;
        let end = async { while older.next().await.is_some() {} };
        bounded("the end of a fenced queen's subscription", end).await;
        match bounded("watch", self.hive.watch(Epoch(3))).await {
            Ok(_) => must!(
                false,
                "a queen of epoch 3 may watch after one of epoch 4 has claimed the hive"
            ),
            Err(error) => must!(
                error.kind() == ErrorKind::Fenced,
                "a queen of an older epoch is refused with {}, not FENCED",
                error.kind()
            ),
        }
        self.must_live(&mut younger, "after an older queen was refused")
            .await;
    }

    /// The subscription does not end.
    async fn must_live(&self, events: &mut Events, when: &str) {
        let end = async { while events.next().await.is_some() {} };
        must!(
            timeout(QUIET, end).await.is_err(),
            "a subscription ended {when}"
        );
    }

    async fn a_removed_model_is_gone_and_can_come_back(&self) {
        let model = &self.good.model;
        let remove = || self.hive.remove_model(model);
        match bounded("remove_model", remove()).await {
            Ok(()) => {
                self.ok("a second remove_model", remove()).await;
                let listed = self.report().await.models;
                must!(
                    listed.iter().all(|(listed, _)| listed != model),
                    "{model} was removed and is still reported"
                );
            }
            Err(error) => must!(
                error.kind() == ErrorKind::Unsupported,
                "remove_model failed with {error:?}"
            ),
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
        must!(
            worker.is_err(),
            "after shutdown worker {id} is still given out"
        );
        self.ok("a second shutdown", self.hive.shutdown(GRACE))
            .await;
    }
}
