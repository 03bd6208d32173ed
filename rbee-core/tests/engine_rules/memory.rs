//! What makes room for what, when, and how much a hive's workers may take together.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{
    ErrorKind, Settings,
    engine::{Command, Effect, HiveFact, Note},
};

use super::{
    hand::{Hand, spawn, worker},
    parts::{self, GIB},
};

/// `hive-0` with six workers of model 1, 4 GiB of its 64 left, and workers that stay for 10 s at least.
fn full() -> Hand {
    let workers: Vec<_> = (1..7).map(|n| worker(n, 1, 1)).collect();
    let mut hand = Hand::new(Settings { min_loaded: SETTLED, ..Settings::default() });
    hand.hive(0, HiveFact::Added);
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    hand
}

const SETTLED: Duration = Duration::from_secs(10);

/// `hive-0`, whose workers may take so much together.
fn with_budget(gib: u64, workers: u128) -> Hand {
    let workers: Vec<_> = (1..=workers).map(|n| worker(n, 1, 1)).collect();
    let hive_memory = BTreeMap::from([("hive-0".to_owned(), gib * GIB)]);
    let mut hand =
        Hand::new(Settings { min_loaded: Duration::ZERO, hive_memory, ..Settings::default() });
    hand.hive(0, HiveFact::Added);
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
fn a_worker_that_is_gone_before_it_settled_leaves_no_alarm_behind() {
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
    // Overtaken by events it may be, so it is asked again before it is at fault.
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
    let fallback =
        hand.find(|effect| matches!(effect, Effect::Place { fallback: true, .. }).then_some(()));
    assert!(fallback.is_some());
}

#[test]
fn a_model_that_is_larger_than_the_budget_is_refused_at_once() {
    let mut hand = with_budget(4, 0);
    hand.job(1, 0);
    assert_eq!(hand.failure(), ErrorKind::InsufficientVram);
}
