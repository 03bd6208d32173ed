//! Which workers are evicted for which, when, and how much memory a hive's workers may take together.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{
    ErrorKind, Placement, Settings, WorkerInfo,
    engine::{Command, Decider, Effect, HiveFact, Note, Question},
    hive::{DeviceKind, HiveReport},
    models::ModelOnDisk,
};

use super::{
    hand::{Hand, spawn, worker},
    parts::{self, GIB},
};

/// `hive-0` with six workers of model 1, 4 GiB of its 64 left, and workers that stay for at least 10 s.
fn full() -> Hand {
    let workers: Vec<_> = (1..7).map(|n| worker(n, 1, 1)).collect();
    let mut hand = Hand::new(Settings { min_loaded: SETTLED, ..Settings::default() });
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    hand
}

const SETTLED: Duration = Duration::from_secs(10);

/// `hive-0`, whose workers may take this much memory together.
fn with_budget(gib: u64, workers: u128) -> Hand {
    let workers: Vec<_> = (1..=workers).map(|n| worker(n, 1, 1)).collect();
    let hive_memory = BTreeMap::from([("hive-0".to_owned(), gib * GIB)]);
    let mut hand =
        Hand::new(Settings { min_loaded: Duration::ZERO, hive_memory, ..Settings::default() });
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    hand
}

fn load(n: u128, evict: Vec<rbee_core::WorkerId>) -> Command {
    let (hive, spec) = (parts::hive(0), parts::spec(parts::model(0), 1));
    Command::Load { worker: parts::worker(n), hive, spec, pin: false, evict }
}

#[test]
fn a_young_worker_makes_room_at_the_moment_at_which_it_has_settled() {
    let mut hand = full();
    hand.wait(SETTLED / 2);
    hand.job(1, 0);
    assert_eq!((hand.stops().len(), hand.spawns().len()), (0, 0), "all of them are young");
    let mut waited = SETTLED / 2;
    while hand.stops().is_empty() {
        waited += hand.next();
        hand.wait(hand.next());
    }
    assert_eq!((waited, hand.stops().len()), (SETTLED, 1));
}

#[test]
fn a_policy_that_names_a_young_worker_waits_until_it_has_settled() {
    let mut hand = full();
    hand.answers = false;
    hand.job(1, 0);
    let plan = || spawn(parts::model(0), 1, vec![parts::worker(3)]);
    let (ticket, _) = hand.asked.pop().unwrap();
    hand.answer(ticket, plan());
    let is_fault = |e: &Effect| matches!(e, Effect::Note(Note::PolicyFault(_))).then_some(());
    assert_eq!((hand.stops().len(), hand.find(is_fault)), (0, None));
    hand.asked.clear();
    hand.wait(SETTLED);
    let (ticket, _) = hand.asked.pop().expect("it is asked again");
    hand.answer(ticket, plan());
    assert_eq!(hand.stops(), [parts::worker(3)]);
}

#[test]
fn an_operator_may_have_a_young_worker_stopped() {
    let mut hand = full();
    hand.command(load(20, vec![parts::worker(2)])).unwrap();
    assert_eq!(hand.stops(), [parts::worker(2)]);
}

#[test]
fn a_worker_that_is_gone_before_it_settled_leaves_no_timer_behind() {
    let mut hand = full();
    for n in 1..7 {
        hand.command(Command::Unload(parts::worker(n))).unwrap();
        hand.feed(rbee_core::engine::Input::Stopped { worker: parts::worker(n) });
    }
    assert_eq!(hand.engine.next_wake(), None);
}

#[test]
fn room_within_a_budget_is_made_although_the_device_has_memory_left() {
    let mut hand = with_budget(25, 2);
    hand.job(1, 0);
    assert_eq!(hand.stops().len(), 1, "20 of 25 GiB are taken, 44 of 64 free");
    let mut hand = with_budget(35, 2);
    hand.job(1, 0);
    assert_eq!((hand.stops().len(), hand.spawns().len()), (0, 1));
}

#[test]
fn memory_promised_to_a_worker_that_loads_counts_against_the_budget() {
    let mut hand = with_budget(25, 0);
    hand.command(load(20, Vec::new())).unwrap();
    hand.command(load(21, Vec::new())).unwrap();
    let error = hand.command(load(22, Vec::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    assert_eq!(
        error.message(),
        "the workers of hive hive-0 may take 26843545600 bytes together (setting hive_memory); 21474836480 are taken, and model hf:org/model-0 needs 10737418240"
    );
}

#[test]
fn a_policy_that_passes_the_budget_over_is_at_fault_and_the_built_in_one_decides() {
    let mut hand = with_budget(25, 2);
    hand.answers = false;
    hand.job(1, 0);
    // The state may have changed meanwhile, so the policy is asked again before it counts as a fault.
    for _ in 0..3 {
        let (ticket, _) = hand.asked.pop().expect("a question");
        hand.answer(ticket, spawn(parts::model(0), 1, Vec::new()));
        assert_eq!((hand.stops().len(), hand.spawns().len()), (0, 0));
    }
    let why = hand.find(|effect| match effect {
        Effect::Note(Note::PolicyFault(error)) => Some(error.message().to_owned()),
        _ => None,
    });
    assert!(why.unwrap().contains("may take 26843545600 bytes together"));
    let fallback = hand.find(|effect| {
        matches!(effect, Effect::Consult { question: Question::Place(Decider::BuiltIn), .. })
            .then_some(())
    });
    assert!(fallback.is_some());
}

#[test]
fn a_model_that_is_larger_than_the_budget_is_refused_at_once() {
    let mut hand = with_budget(4, 0);
    hand.job(1, 0);
    assert_eq!(hand.failure(), ErrorKind::InsufficientVram);
}

/// A report of `hive-0` with these workers. Each takes this much memory, or does not report it.
fn report(rev: u64, workers: &[WorkerInfo], takes: Option<u64>) -> HiveReport {
    let models = [parts::model(0), parts::model(1)];
    let mut report = parts::report(rev, models, workers.iter().cloned());
    report.workers.iter_mut().for_each(|worker| worker.health.vram_bytes = takes);
    report.devices[0].memory_free = 64 * GIB - takes.unwrap_or(0) * workers.len() as u64;
    report
}

fn send(hand: &mut Hand, report: HiveReport) {
    hand.hive(0, HiveFact::Report(Box::new(report)));
}

fn reserved(hand: &Hand) -> u64 {
    let hive = hand.engine.view().hive(&parts::hive(0)).unwrap();
    hive.reserved.values().sum()
}

/// What the built-in policy expects of the models, whose files of 4 GiB are known.
const EXPECTED: u64 = 4 * GIB * 120 / 100;

#[test]
fn two_starts_that_were_planned_side_by_side_do_not_get_the_same_memory() {
    let workers: Vec<_> = (1..6).map(|n| worker(n, 2, 1)).collect();
    let mut hand = Hand::with(&workers);
    hand.answers = false;
    hand.job(1, 0);
    hand.job(2, 1);
    let [(first, _), (second, _)] = hand.asked[..] else { panic!("{:?}", hand.asked) };
    hand.asked.clear();
    hand.answer(first, spawn(parts::model(0), 1, Vec::new()));
    assert_eq!(hand.spawns().len(), 1, "14 GiB were free, and it needs 10");
    hand.answer(second, spawn(parts::model(1), 1, Vec::new()));
    let is_fault = |e: &Effect| matches!(e, Effect::Note(Note::PolicyFault(_))).then_some(());
    assert_eq!((hand.spawns().len(), hand.find(is_fault)), (0, None));
    let (again, job) = hand.asked.pop().expect("the question is put again");
    assert_eq!(job, parts::job_id(2));
    let mut spec = parts::spec(parts::model(1), 1);
    spec.need_bytes = 0;
    let (hive, evict) = (parts::hive(0), Vec::new());
    hand.answer(again, Placement::Spawn { hive, spec, evict });
    assert_eq!(hand.spawns().len(), 1, "who does not say what it needs may");
}

#[test]
fn who_makes_room_counts_for_the_one_that_is_started() {
    let workers: Vec<_> = (1..7).map(|n| worker(n, 2, 1)).collect();
    let mut hand = Hand::with(&workers);
    hand.answers = false;
    hand.job(1, 0);
    let (ticket, _) = hand.asked.pop().unwrap();
    hand.answer(ticket, spawn(parts::model(0), 1, vec![parts::worker(3)]));
    assert_eq!(hand.stops(), [parts::worker(3)], "4 GiB are free, and 10 in the worker");
}

#[test]
fn a_start_that_names_no_device_is_promised_the_processors_memory() {
    let mut hand = Hand::with(&[]);
    let load = |n, gib| {
        let mut spec = parts::spec(parts::model(0), 1);
        (spec.devices, spec.need_bytes) = (Vec::new(), gib * GIB);
        let (hive, worker, evict) = (parts::hive(0), parts::worker(n), Vec::new());
        Command::Load { worker, hive, spec, pin: false, evict }
    };
    hand.command(load(20, 40)).unwrap();
    assert_eq!(reserved(&hand), 40 * GIB);
    let error = hand.command(load(21, 40)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    assert!(error.message().contains("on device 0"), "{error}");
    hand.command(load(22, 24)).unwrap();
}

#[test]
fn a_worker_that_is_found_and_says_nothing_of_its_memory_is_taken_to_need_what_is_expected() {
    let mut hand = Hand::new(Settings { min_loaded: Duration::ZERO, ..Settings::default() });
    hand.hive(0, parts::added());
    let found = [worker(1, 1, 4)];
    let mut full = report(1, &found, None);
    full.devices[0].memory_free = GIB;
    send(&mut hand, full);
    hand.connect(&found);
    let memory = |hand: &Hand| hand.engine.view().worker(parts::worker(1)).unwrap().memory_bytes;
    assert_eq!((memory(&hand), reserved(&hand)), (EXPECTED, 0));
    hand.job(1, 0);
    assert_eq!(hand.stops(), [parts::worker(1)], "so it makes room");
}

#[test]
fn what_a_worker_is_going_to_take_stays_promised_until_it_takes_it() {
    let mut hand = Hand::with(&[]);
    hand.job(1, 0);
    let (id, hive, spec) = hand.spawns().remove(0);
    assert_eq!((spec.need_bytes, reserved(&hand)), (EXPECTED, EXPECTED));
    let info = parts::info(id, hive, spec.model, spec.slots);
    hand.spawned(id, info.clone());
    let memory = |hand: &Hand| hand.engine.view().worker(id).unwrap().memory_bytes;
    for (rev, takes) in [(2, 3 * GIB), (3, 4 * GIB), (4, 3 * GIB)] {
        send(&mut hand, report(rev, std::slice::from_ref(&info), Some(takes)));
        assert_eq!((memory(&hand), reserved(&hand)), (EXPECTED, EXPECTED - takes));
    }
    send(&mut hand, report(5, std::slice::from_ref(&info), Some(6 * GIB)));
    assert_eq!((memory(&hand), reserved(&hand)), (6 * GIB, 0));
    send(&mut hand, report(6, &[], None));
    assert_eq!((hand.engine.view().worker_count(), reserved(&hand)), (0, 0));
}

#[test]
fn a_worker_that_claims_more_than_its_device_has_teaches_nothing() {
    let mut hand = Hand::with(&[]);
    let found = [worker(1, 1, 4)];
    let measured = |hand: &Hand| hand.engine.view().measured(&parts::model(1), DeviceKind::Cpu);
    let memory = |hand: &Hand| hand.engine.view().worker(parts::worker(1)).unwrap().memory_bytes;
    let mut absurd = report(2, &found, None);
    absurd.workers[0].health.vram_bytes = Some(u64::MAX);
    send(&mut hand, absurd);
    assert_eq!((memory(&hand), measured(&hand)), (EXPECTED, None));
    send(&mut hand, report(3, &found, Some(7 * GIB)));
    assert_eq!((memory(&hand), measured(&hand)), (7 * GIB, Some(7 * GIB)));
    assert_eq!(hand.engine.view().measured(&parts::model(1), DeviceKind::Cuda), None);
}

/// A busy worker of model 1, and jobs 2 and 3 that wait for models 0 and 3; model 3 has files of 200 GiB.
fn starved() -> (Hand, rbee_core::id::LeaseId) {
    let mut hand = Hand::new(Settings { min_loaded: Duration::ZERO, ..Settings::default() });
    hand.hive(0, parts::added());
    let workers = [worker(1, 1, 1)];
    send(&mut hand, with_large(report(1, &workers, Some(10 * GIB))));
    hand.connect(&workers);
    hand.job(1, 1);
    let (lease, ..) = hand.start();
    hand.answers = false;
    hand.asked.clear();
    hand.job(2, 0);
    hand.job(3, 3);
    for (ticket, _) in std::mem::take(&mut hand.asked) {
        hand.answer(ticket, Placement::Wait);
    }
    assert!(hand.asked.is_empty());
    (hand, lease)
}

fn with_large(mut report: HiveReport) -> HiveReport {
    report.models.push(ModelOnDisk::new(parts::model(3), 200 * GIB));
    report
}

#[test]
fn a_worker_that_falls_idle_is_offered_to_models_that_fit_in_its_place() {
    let (mut hand, lease) = starved();
    hand.done(lease);
    let asked: Vec<_> = hand.asked.iter().map(|(_, job)| *job).collect();
    assert_eq!(asked, [parts::job_id(2)]);
}

#[test]
fn a_report_of_more_free_memory_is_news_for_models_that_fit_and_of_less_for_none() {
    let (mut hand, _) = starved();
    let workers = [worker(1, 1, 1)];
    for (rev, free, asked) in [(2, 50 * GIB, 0), (3, 50 * GIB + 1, 0), (4, 54 * GIB, 1)] {
        let mut report = with_large(report(rev, &workers, Some(10 * GIB)));
        report.devices[0].memory_free = free;
        send(&mut hand, report);
        assert_eq!(hand.asked.len(), asked, "{free} bytes free");
    }
    assert_eq!(hand.asked[0].1, parts::job_id(2));
}
