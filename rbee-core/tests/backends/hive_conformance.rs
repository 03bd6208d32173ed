//! The conformance suite of hives: `InProcessHive` passes it, and hives with one fault each do not.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Result, Worker, WorkerId,
    WorkerSpec, async_trait, conformance,
    hive::{
        Device, DeviceKind, HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress,
        WorkerFactory,
    },
    id::Epoch,
    models::ModelOnDisk,
    worker::EchoWorker,
};

#[derive(Debug)]
struct Echoes;

#[async_trait]
impl WorkerFactory for Echoes {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        progress.update(0, Some(2));
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.inspect(&spec.model, None).await?;
        progress.update(2, Some(2));
        let worker = EchoWorker::builder(spec.model.clone());
        Ok(worker.id(id).hive(hive.clone()).slots(spec.slots).build())
    }

    async fn inspect(&self, model: &ModelRef, _: Option<&Path>) -> Result<ModelOnDisk> {
        match model.as_str() {
            "good" => Ok(ModelOnDisk::new(model.clone(), 7)),
            other => Err(Error::new(ErrorKind::ModelNotFound, format!("no model {other}"))),
        }
    }
}

fn in_process() -> InProcessHive {
    let cpu = Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "cpu".into(),
        memory_total: 2,
        memory_free: 1,
    };
    InProcessHive::new()
        .with_id("hive-1".parse().unwrap())
        .with_devices(vec![cpu])
        .with_factory(Echoes)
}

fn spec(model: &str) -> WorkerSpec {
    let mut spec = WorkerSpec::new(model.parse().unwrap());
    (spec.slots, spec.devices) = (2, vec![0]);
    spec
}

/// The sentence with which the suite fails; `None` if the hive passes.
async fn verdict(hive: Arc<dyn HiveBackend>) -> Option<String> {
    let suite = conformance::hive::check(hive, spec("good"), spec("bad"));
    let panic = tokio::spawn(suite).await.err()?.into_panic();
    Some(*panic.downcast::<String>().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_in_process_hive_passes() {
    assert_eq!(verdict(Arc::new(in_process())).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_in_process_hive_tells_of_a_death() {
    let hive = Arc::new(in_process());
    let kill = |id| {
        assert!(hive.kill(id));
        std::future::ready(())
    };
    conformance::hive::a_death_is_told(hive.clone(), spec("good"), kill).await;
}

/// The fault of a broken hive.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    SecondWatchFails,
    NoFirstReport,
    StaleFirstReport,
    SpawnUnderAnotherName,
    SpawnNotReported,
    EverySpawnIsNew,
    AbandonedSpawnIsNotStopped,
    BadModelIsInternal,
    BadModelIsSpawned,
    SinceTooEarly,
    SinceTooLate,
    StopDoesNothing,
    StopOfUnknownFails,
    StopTellsAnExit,
    StopHangs,
    UnknownWorkerIsLost,
    OneSubscriptionOnly,
    NobodyIsFenced,
    FencedStreamGoesOn,
    RevisionFalls,
    RevisionStands,
    SizeChanges,
    RemovedModelStays,
    ShutdownDoesNothing,
}

/// A correct hive with one fault.
#[derive(Debug)]
struct Broken {
    hive: InProcessHive,
    flaw: Flaw,
    calls: AtomicU64,
}

impl Broken {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn count(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn spoil(&self, report: &mut HiveReport) {
        match self.flaw {
            Flaw::RevisionFalls => report.rev = 1000 - self.count(),
            Flaw::RevisionStands => report.rev = 1000,
            Flaw::SinceTooLate => {
                let workers = report.workers.iter_mut();
                workers.for_each(|worker| worker.info.since = report.rev + 1);
            }
            Flaw::SpawnNotReported => report.workers.clear(),
            _ => {}
        }
    }
}

#[async_trait]
impl ModelHost for Broken {
    fn info(&self) -> &HiveInfo {
        self.hive.info()
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let mut on_disk = self.hive.provision(model, from, progress).await?;
        if self.is(Flaw::SizeChanges) {
            on_disk.bytes += self.count();
        }
        Ok(on_disk)
    }

    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        match self.flaw {
            Flaw::RemovedModelStays => Ok(()),
            _ => self.hive.remove_model(model).await,
        }
    }
}

#[async_trait]
impl HiveBackend for Broken {
    async fn report(&self) -> Result<HiveReport> {
        let mut report = self.hive.report().await?;
        self.spoil(&mut report);
        Ok(report)
    }

    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        if self.is(Flaw::SecondWatchFails) && self.count() == 1 {
            return Err(Error::new(ErrorKind::Internal, "it runs already"));
        }
        let owner = match self.flaw {
            Flaw::NobodyIsFenced => Epoch(1),
            Flaw::OneSubscriptionOnly => Epoch(owner.0 * 100 + self.count()),
            _ => owner,
        };
        let mut events = self.hive.watch(owner).await?;
        Ok(match self.flaw {
            Flaw::NoFirstReport => {
                events.next().await;
                Box::pin(events)
            }
            Flaw::StaleFirstReport => {
                let report = HiveEvent::Report(Box::default());
                Box::pin(stream::iter([report]).chain(events))
            }
            Flaw::FencedStreamGoesOn => Box::pin(events.chain(stream::pending())),
            _ => events,
        })
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        let mut spec = spec.clone();
        let id = match self.flaw {
            Flaw::SpawnUnderAnotherName => WorkerId::random(),
            // The first spawn with an id is correct.
            Flaw::EverySpawnIsNew if self.hive.worker(id).await.is_ok() => WorkerId::random(),
            _ => id,
        };
        if self.is(Flaw::BadModelIsSpawned) {
            spec.model = "good".parse().unwrap();
        }
        let spawned = self.hive.spawn(id, &spec, progress).await;
        match (self.flaw, spawned) {
            (Flaw::BadModelIsInternal, Err(error)) => {
                Err(Error::new(ErrorKind::Internal, error.message().to_owned()))
            }
            (Flaw::SinceTooEarly, Ok(worker)) => {
                let info = worker.info();
                let worker = EchoWorker::builder(info.model.clone());
                Ok(worker.id(id).hive(info.hive.clone()).slots(2).build())
            }
            (_, spawned) => spawned,
        }
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        let lost = |error: Error| match self.flaw {
            Flaw::UnknownWorkerIsLost => Error::new(ErrorKind::WorkerLost, "it is gone"),
            _ => error,
        };
        self.hive.worker(id).await.map_err(lost)
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        let there = self.hive.worker(id).await;
        match self.flaw {
            Flaw::StopDoesNothing => return Ok(()),
            Flaw::StopHangs => std::future::pending().await,
            Flaw::AbandonedSpawnIsNotStopped if there.is_err() => return Ok(()),
            Flaw::StopOfUnknownFails => drop(there?),
            Flaw::StopTellsAnExit => {
                self.hive.kill(id);
            }
            _ => {}
        }
        self.hive.stop(id, grace).await
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        match self.flaw {
            Flaw::ShutdownDoesNothing => Ok(()),
            _ => self.hive.shutdown(grace).await,
        }
    }
}

/// How the suite misjudges a hive with this fault; `None` if it fails as expected.
async fn misjudged(flaw: Flaw, words: &str) -> Option<String> {
    let hive = Broken { hive: in_process(), flaw, calls: AtomicU64::new(0) };
    match verdict(Arc::new(hive)).await {
        None => Some(format!("{flaw:?} passes")),
        Some(sentence) if sentence.contains(words) => None,
        Some(sentence) => Some(format!("{flaw:?} fails with: {sentence}")),
    }
}

#[tokio::test(start_paused = true)]
async fn every_flaw_is_caught_and_named() {
    use Flaw::*;
    let mut wrong = Vec::new();
    for (flaw, words) in [
        (SecondWatchFails, "a second watch failed"),
        (NoFirstReport, "the first event"),
        (StaleFirstReport, "the revision fell"),
        (SpawnUnderAnotherName, "does not list worker"),
        (SpawnNotReported, "is not reported"),
        (EverySpawnIsNew, "five spawns"),
        (AbandonedSpawnIsNotStopped, "its spawn was abandoned"),
        (BadModelIsInternal, "internal error"),
        (BadModelIsSpawned, "which is no model, was spawned"),
        (SinceTooEarly, "is said to have appeared at revision"),
        (SinceTooLate, "after the"),
        (StopDoesNothing, "before and after a stop"),
        (StopOfUnknownFails, "stop failed"),
        (StopTellsAnExit, "its exit was reported"),
        (StopHangs, "stop took longer"),
        (UnknownWorkerIsLost, "not NOT_FOUND"),
        (OneSubscriptionOnly, "is None, not a report"),
        (NobodyIsFenced, "the end of a fenced queen's subscription"),
        (FencedStreamGoesOn, "the end of a fenced queen's subscription"),
        (RevisionFalls, "the revision fell"),
        (RevisionStands, "revision"),
        (SizeChanges, "was provisioned again with"),
        (RemovedModelStays, "was removed and is still reported"),
        (ShutdownDoesNothing, "shutdown"),
    ] {
        wrong.extend(misjudged(flaw, words).await);
    }
    assert_eq!(wrong, Vec::<String>::new());
}
