//! Replicas: where they are started, and how they end.

use std::time::Duration;

use rbee_core::{
    ErrorKind, Settings, WorkerId, WorkerInfo, WorkerSpec,
    engine::{Command, CommandOutput, Effect, Engine, HiveFact, Input, Note},
    hive::{Device, DeviceKind, EngineSupport, HiveReport},
    id::Epoch,
    models::{ModelFormat, ModelKind},
    registry::{Change, Snapshot, WorkerRecord},
    scheduler::Sizing,
};

use super::{hand::*, parts, parts::GIB};

/// A hive with a CPU of 64 GiB and a GPU of 24 GiB, on which the worker runs.
fn mixed(rev: u64, info: &WorkerInfo) -> HiveReport {
    let gpu = Device {
        index: 1,
        kind: DeviceKind::Cuda,
        name: "gpu".into(),
        memory_total: 24 * GIB,
        memory_free: 14 * GIB,
    };
    let mut report = parts::report(rev, [parts::model(0)], [info.clone()]);
    report.devices.push(gpu);
    report
}

impl Hand {
    /// Lets the first `jobs` jobs of model 0 wait for some time.
    fn backlog(&mut self, jobs: u128) {
        (0..jobs).for_each(|n| self.job(n, 0));
        self.wait(Duration::from_secs(5));
        self.wait(Duration::from_secs(5));
    }

    /// Restores these workers of `hive-0` from a previous run of the queen.
    fn remember(&mut self, workers: Vec<WorkerRecord>) {
        let snapshot = Snapshot { epoch: Epoch(1), workers, ..Snapshot::default() };
        self.feed(Input::Restore { snapshot: Box::new(snapshot) });
        self.hive(0, parts::added());
    }

    fn is_pinned(&self, n: u128) -> bool {
        self.engine.view().worker(parts::worker(n)).unwrap().pinned
    }

    /// What is recorded of models and workers; `hives.rs` tests what is recorded of hives.
    fn changes(&self) -> Vec<Change> {
        let changes = self.all(|effect| match effect {
            Effect::Record { changes, .. } => Some(changes.clone()),
            _ => None,
        });
        let of_hives = |change: &Change| matches!(change, Change::HivePut(_) | Change::HiveGone(_));
        changes.concat().into_iter().filter(|change| !of_hives(change)).collect()
    }

    /// Lets time pass in steps of the autoscaler; returns which workers are stopped and after how many seconds.
    fn idle(&mut self, seconds: u64) -> Vec<(WorkerId, u64)> {
        let mut stopped = Vec::new();
        for n in 1..=seconds / 5 {
            self.wait(Duration::from_secs(5));
            stopped.extend(self.stops().into_iter().map(|worker| (worker, n * 5)));
        }
        stopped
    }

    fn scaled_up(&self) -> Option<WorkerId> {
        self.find(|effect| match effect {
            Effect::Note(Note::ScaledUp(worker, ..)) => Some(*worker),
            _ => None,
        })
    }
}

fn plain(n: u128) -> WorkerRecord {
    WorkerRecord::new(parts::worker(n), parts::hive(0))
}

fn pinned(n: u128) -> WorkerRecord {
    WorkerRecord { pinned: true, ..plain(n) }
}

fn replica(n: u128) -> WorkerRecord {
    WorkerRecord { replica: true, ..plain(n) }
}

fn replica_of(sizing: Sizing) -> WorkerSpec {
    let mut info = worker(1, 0, 2);
    info.devices = vec![1];
    let mut hand = Hand::new(Settings::default());
    hand.engine = Engine::new(Settings::default(), Epoch(1), 7).with_sizing(sizing);
    hand.hive(0, parts::added());
    hand.hive(0, HiveFact::Report(Box::new(mixed(1, &info))));
    hand.connect(&[info]);
    hand.backlog(6);
    assert!(hand.scaled_up().is_some(), "{:?}", hand.effects);
    hand.spawns().remove(0).2
}

#[test]
fn a_replica_is_started_on_a_gpu_although_the_processor_has_more_memory() {
    assert_eq!(replica_of(Sizing::default()).devices, [1]);
}

#[test]
fn a_replica_is_started_only_on_a_hive_that_can_read_the_model() {
    for (engines, is_started) in [(None, true), (Some(vec![EngineSupport::candle()]), false)] {
        let info = worker(1, 0, 2);
        let mut full = parts::report(1, [parts::model(0)], [info.clone()]);
        full.devices.iter_mut().for_each(|device| device.memory_free = 0);
        let mut other = parts::report(1, [], []);
        other.engines = engines;
        let mut hand = Hand::new(Settings::default());
        for (n, report) in [(0, full), (1, other)] {
            hand.hive(n, parts::added());
            hand.hive(n, HiveFact::Report(Box::new(report)));
        }
        let mut kind = ModelKind::new(ModelFormat::Gguf);
        kind.architecture = Some("mamba".into());
        hand.feed(Input::ModelKind { model: parts::model(0), kind });
        hand.connect(&[info]);
        hand.backlog(6);
        // The model is fetched there first.
        let is_fetched = hand.find(|effect| match effect {
            Effect::Provision { hive, .. } => Some(*hive == parts::hive(1)),
            _ => None,
        });
        assert_eq!(is_fetched, is_started.then_some(true), "{:?}", hand.effects);
    }
}

#[test]
fn a_replica_is_reckoned_as_the_built_in_policy_reckons_and_has_the_slots_of_its_like() {
    // Files of 4 GiB; nothing else is known.
    let spec = replica_of(Sizing::default().with_memory_percent(300).with_slots(8));
    assert_eq!((spec.need_bytes, spec.slots), (12 * GIB, 2));
    // The first worker was measured to take more than its files suggest.
    assert_eq!(replica_of(Sizing::default()).need_bytes, 10 * GIB);
}

#[test]
fn a_model_is_kept_alive_as_its_alias_or_repository_says_whatever_commit_the_worker_has() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let models =
        ["org/a", "org/a::file=q4.gguf", "org/b"].map(|model| match model.split_once("::") {
            Some((repo, file)) => format!("hf:{repo}@{commit}::{file}"),
            None => format!("hf:{model}@{commit}"),
        });
    let workers: Vec<_> = (1..)
        .zip(&models)
        .map(|(n, model)| {
            let model = model.parse().unwrap();
            parts::info(parts::worker(n), parts::hive(0), model, 1)
        })
        .collect();
    let settings = Settings {
        keep_alive: Some(Duration::from_secs(300)),
        model_keep_alive: [
            ("hf:org/a".to_owned(), Duration::from_secs(30)),
            ("hf:org/a@main::file=q4.gguf".to_owned(), Duration::from_secs(90)),
        ]
        .into(),
        ..Settings::default()
    };
    settings.validate().unwrap();
    let mut hand = Hand::new(settings);
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    let stopped = hand.idle(300);
    let expected = [30, 90, 300];
    let expected: Vec<_> = workers.iter().map(|info| info.id).zip(expected).collect();
    assert_eq!(stopped, expected);
}

#[test]
fn who_is_pinned_and_who_is_a_replica_is_known_after_a_restart_and_after_an_outage() {
    let workers = [worker(1, 0, 1), worker(2, 0, 1), worker(3, 1, 1)];
    let keep_alive = Some(Duration::from_secs(600));
    let mut hand = Hand::new(Settings { keep_alive, ..Settings::default() });
    hand.remember(vec![replica(2), pinned(3)]);
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    assert!(hand.is_pinned(3) && !hand.is_pinned(2));

    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    hand.wait(Duration::from_secs(46));
    assert_eq!(hand.engine.view().worker_count(), 0, "they count as lost");
    hand.report(0, 2, &workers);
    hand.connect(&workers);
    assert!(hand.is_pinned(3) && hand.changes().is_empty(), "{:?}", hand.changes());
    let stopped = hand.idle(1_000);
    assert_eq!(stopped, [(parts::worker(2), 300), (parts::worker(1), 600)]);
}

#[test]
fn a_pin_is_answered_when_it_is_recorded_and_forgotten_with_its_worker() {
    let workers = [worker(1, 0, 1), worker(2, 0, 1)];
    let mut hand = Hand::with(&workers);
    hand.records = false;
    hand.feed(Input::Command { n: 5, command: Command::Pin(parts::worker(1), true) });
    let (n, changes) = hand
        .find(|effect| match effect {
            Effect::Record { n, changes } => Some((n.unwrap(), changes.clone())),
            _ => None,
        })
        .unwrap();
    assert_eq!((changes, hand.effects.len()), (vec![Change::WorkerPut(pinned(1))], 1));
    hand.feed(Input::Recorded { n, result: Ok(()) });
    assert!(matches!(hand.effects[..], [Effect::Answer { n: 5, result: Ok(CommandOutput::Done) }]));
    hand.records = true;
    // Again: nothing must be written.
    hand.command(Command::Pin(parts::worker(1), true)).unwrap();
    assert_eq!(hand.changes(), []);
    hand.command(Command::Pin(parts::worker(2), true)).unwrap();
    hand.command(Command::Pin(parts::worker(2), false)).unwrap();
    let gone = |n| Change::WorkerGone { hive: parts::hive(0), worker: parts::worker(n) };
    assert_eq!(hand.changes(), [gone(2)]);
    hand.report(0, 2, &workers[1..]);
    assert_eq!(hand.changes(), [gone(1)]);
    hand.report(0, 3, &workers[1..]);
    assert_eq!(hand.changes(), []);
}

#[test]
fn a_replica_stays_while_it_is_the_only_one_that_works_and_goes_when_the_others_are_back() {
    let replicas = [worker(1, 0, 1)];
    let first = [parts::info(parts::worker(2), parts::hive(1), parts::model(0), 1)];
    let mut hand = Hand::new(Settings::default());
    hand.remember(vec![replica(1)]);
    hand.hive(1, parts::added());
    hand.report(0, 1, &replicas);
    hand.report(1, 1, &first);
    hand.connect(&replicas);
    hand.connect(&first);
    hand.wait(Duration::from_secs(290));
    // Unreachable, and then lost.
    hand.hive(1, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    assert_eq!(hand.idle(600), []);
    hand.report(1, 2, &first);
    hand.connect(&first);
    assert_eq!(hand.idle(600), [(parts::worker(1), 5)]);
}

#[test]
fn after_the_end_of_a_replica_that_is_not_kept_alive_longer_none_is_started_for_the_pause() {
    let keep_alive = Some(Duration::from_secs(20));
    let mut hand = Hand::new(Settings { keep_alive, ..Settings::default() });
    hand.remember(vec![pinned(1), replica(2)]);
    let workers = [worker(1, 0, 1), worker(2, 0, 1)];
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    assert_eq!(hand.idle(20), [(parts::worker(2), 20)]);
    hand.feed(Input::Stopped { worker: parts::worker(2) });
    hand.report(0, 2, &workers[..1]);
    (0..40).for_each(|n| hand.job(n, 0));
    let mut waited = 0;
    while hand.scaled_up().is_none() {
        hand.wait(Duration::from_secs(5));
        waited += 5;
        assert!(waited <= 310, "the pause is over");
    }
    assert!(waited >= 300, "one was started {waited} s after another was stopped");
}

#[test]
fn models_that_are_on_a_hive_no_more_are_forgotten_those_of_an_earlier_life_too() {
    let record = |n| rbee_core::registry::ModelRecord {
        hive: parts::hive(0),
        model: parts::model(n),
        bytes: 4 * GIB,
        checksum: None,
        last_used: rbee_core::time::WallTime::default(),
    };
    let mut hand = Hand::new(Settings::default());
    let models = vec![record(1), record(5)];
    let snapshot = Snapshot { epoch: Epoch(1), models, ..Snapshot::default() };
    hand.feed(Input::Restore { snapshot: Box::new(snapshot) });
    hand.hive(0, parts::added());
    let gone = |n| Change::ModelGone { hive: parts::hive(0), model: parts::model(n) };
    // It reports models 0 and 1.
    hand.report(0, 1, &[]);
    assert_eq!(hand.changes(), [gone(5)]);
    let result = Ok(rbee_core::models::ModelOnDisk::new(parts::model(2), 4 * GIB));
    hand.feed(Input::Provisioned { hive: parts::hive(0), model: parts::model(2), result });
    assert!(matches!(hand.changes()[..], [Change::ModelPut(_)]));
    hand.report(0, 2, &[]);
    assert_eq!(hand.changes(), [gone(2)]);
    hand.report(0, 3, &[]);
    assert_eq!(hand.changes(), []);
}
