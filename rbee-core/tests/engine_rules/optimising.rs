//! Replicas: where they are started, and what becomes of them.

use std::time::Duration;

use rbee_core::{
    Device, DeviceKind, Epoch, HiveReport, LeastLoaded, Settings, WorkerId, WorkerInfo, WorkerSpec,
    engine::{Effect, Engine, HiveFact, Note},
};

use super::{hand::*, parts, parts::GIB};

/// A hive with a processor of 64 GiB and a GPU of 24 GiB, on which the worker is.
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
    /// Lets the first `jobs` jobs of model 0 wait for a while.
    fn backlog(&mut self, jobs: u128) {
        (0..jobs).for_each(|n| self.job(n, 0));
        self.wait(Duration::from_secs(5));
        self.wait(Duration::from_secs(5));
    }

    fn scaled_up(&self) -> Option<WorkerId> {
        self.find(|effect| match effect {
            Effect::Note(Note::ScaledUp(worker, ..)) => Some(*worker),
            _ => None,
        })
    }
}

fn replica_of(policy: LeastLoaded) -> WorkerSpec {
    let mut info = worker(1, 0, 2);
    info.devices = vec![1];
    let mut hand = Hand::new(Settings::default());
    hand.engine = Engine::new(Settings::default(), Epoch(1), 7).with_built_in(policy);
    hand.hive(0, HiveFact::Added);
    hand.hive(0, HiveFact::Report(Box::new(mixed(1, &info))));
    hand.connect(&[info]);
    hand.backlog(6);
    assert!(hand.scaled_up().is_some(), "{:?}", hand.effects);
    hand.spawns().remove(0).2
}

#[test]
fn a_replica_is_started_on_a_gpu_although_the_processor_has_more_memory() {
    assert_eq!(replica_of(LeastLoaded::default()).devices, [1]);
}

#[test]
fn a_replica_is_reckoned_as_the_built_in_policy_reckons_and_has_the_slots_of_its_like() {
    // Files of 4 GiB, of which nothing else is known.
    let spec = replica_of(LeastLoaded::default().with_memory_percent(300).with_slots(8));
    assert_eq!((spec.need_bytes, spec.slots), (12 * GIB, 2));
    // What the first worker was seen to take is more than the files let expect.
    assert_eq!(replica_of(LeastLoaded::default()).need_bytes, 10 * GIB);
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
    hand.hive(0, HiveFact::Added);
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    let mut stopped = Vec::new();
    for n in 1..=60 {
        hand.wait(Duration::from_secs(5));
        stopped.extend(hand.stops().into_iter().map(|worker| (worker, n * 5)));
    }
    let expected = [30, 90, 300];
    let expected: Vec<_> = workers.iter().map(|info| info.id).zip(expected).collect();
    assert_eq!(stopped, expected);
}
