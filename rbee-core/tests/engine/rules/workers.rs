//! Workers that are started, evicted, abandoned, unloaded and reported.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, Settings,
    cluster::WorkerState,
    engine::{Command, Effect, HiveFact, Input, Note},
};

use super::{
    hand::{Hand, error, spawn, worker},
    parts,
};

fn suppressed(hand: &Hand) -> bool {
    hand.find(|e| matches!(e, Effect::Note(Note::SpawnSuppressed(_))).then_some(())).is_some()
}

#[test]
fn a_second_spawn_is_suppressed_while_the_slots_on_their_way_cover_the_queue() {
    let mut hand = Hand::with(&[]);
    hand.answers = false;
    let mut job = parts::job(1, parts::model(0));
    hand.submit(job.clone());
    hand.answer(hand.asked[0].0, spawn(parts::model(0), 2, Vec::new()));
    assert_eq!(hand.spawns().len(), 1);
    job.id = parts::job_id(2);
    job.tenant = Some("other".parse().unwrap());
    hand.submit(job.clone());
    hand.answer(hand.asked[1].0, spawn(parts::model(0), 2, Vec::new()));
    assert!(suppressed(&hand) && hand.spawns().is_empty());
    // Two slots are not enough for a third job.
    job.id = parts::job_id(3);
    job.tenant = Some("third".parse().unwrap());
    hand.submit(job);
    hand.answer(hand.asked[2].0, spawn(parts::model(0), 2, Vec::new()));
    assert_eq!(hand.spawns().len(), 1);
}

#[test]
fn a_spawn_waits_until_the_evicted_workers_are_gone() {
    let mut hand = Hand::with(&[worker(1, 1, 1), worker(2, 1, 1)]);
    hand.answers = false;
    hand.job(1, 0);
    let victims = vec![parts::worker(1), parts::worker(2)];
    hand.answer(hand.asked[0].0, spawn(parts::model(0), 1, victims.clone()));
    assert_eq!((hand.stops(), hand.spawns().len()), (victims, 0));
    hand.feed(Input::Stopped { worker: parts::worker(1) });
    assert!(hand.spawns().is_empty());
    hand.feed(Input::Stopped { worker: parts::worker(2) });
    assert_eq!(hand.spawns().len(), 1);
}

#[test]
fn a_hive_that_has_refused_a_model_is_not_told_to_start_it_again() {
    let mut hand = Hand::with(&[]);
    hand.answers = false;
    hand.job(1, 0);
    hand.answer(hand.asked[0].0, spawn(parts::model(0), 1, Vec::new()));
    let (worker, ..) = hand.spawns().remove(0);
    hand.asked.clear();
    let result = Err(error(ErrorKind::ModelIncompatible));
    hand.feed(Input::Spawned { worker, result });
    for _ in 0..3 {
        let (ticket, _) = hand.asked.pop().unwrap();
        hand.answer(ticket, spawn(parts::model(0), 1, Vec::new()));
        assert!(hand.spawns().is_empty());
    }
    let fault = hand.find(|effect| match effect {
        Effect::Note(Note::PolicyFault(error)) => Some(error.to_string()),
        _ => None,
    });
    assert!(fault.unwrap().contains("has refused to start this model: made up"));
}

#[test]
fn busy_and_pinned_workers_are_not_evicted_whatever_the_policy_says() {
    let mut hand = Hand::with(&[worker(1, 1, 1), worker(2, 1, 1)]);
    hand.command(Command::Pin(parts::worker(1), true)).unwrap();
    hand.job(1, 1);
    let (_, _, busy) = hand.start();
    hand.answers = false;
    for victim in [parts::worker(1), busy] {
        hand.asked.clear();
        hand.job(2, 0);
        let (ticket, _) = hand.asked[0];
        hand.answer(ticket, spawn(parts::model(0), 1, vec![victim]));
        assert_eq!((hand.stops().len(), hand.spawns().len()), (0, 0));
        hand.feed(Input::Cancel { job: parts::job_id(2) });
    }
}

#[test]
fn a_start_that_ends_after_it_was_given_up_is_stopped() {
    let mut hand = Hand::with(&[]);
    hand.job(1, 0);
    let (id, _, spec) = hand.spawns().remove(0);
    hand.wait(Duration::from_secs(300));
    assert_eq!(hand.stops(), [id]);
    hand.feed(Input::Stopped { worker: id });
    let info = parts::info(id, parts::hive(0), spec.model.clone(), spec.slots);
    hand.spawned(id, info.clone());
    assert_eq!(hand.stops(), [id]);
    assert!(hand.engine.view().worker(id).is_none());

    // Also if a stop that overtook the start is not answered yet.
    let other = parts::worker(50);
    let load =
        Command::Load { worker: other, hive: parts::hive(0), spec, evict: Vec::new(), pin: false };
    hand.command(load).unwrap();
    hand.command(Command::Unload(other)).unwrap();
    assert_eq!(hand.stops(), [other]);
    hand.spawned(other, rbee_core::WorkerInfo { id: other, ..info });
    assert_eq!(hand.stops(), [other], "the first stop found nothing to stop");
}

#[test]
fn a_hive_that_starts_another_worker_than_it_was_told_to_has_failed_to_start_it() {
    let mut hand = Hand::with(&[worker(1, 1, 2)]);
    hand.job(1, 1);
    let (lease, ..) = hand.start();
    hand.job(2, 0);
    let (id, ..) = hand.spawns().remove(0);
    hand.spawned(id, worker(1, 1, 2));
    assert!(hand.engine.view().worker(id).is_none());
    assert_eq!(hand.engine.view().worker(parts::worker(1)).unwrap().leased, 1);
    hand.done(lease);
    assert!(!hand.finishes().is_empty());
}

#[test]
fn a_report_older_than_a_worker_says_nothing_about_it() {
    let mut hand = Hand::with(&[]);
    hand.job(1, 0);
    let (id, _, spec) = hand.spawns().remove(0);
    let mut info = parts::info(id, parts::hive(0), spec.model, spec.slots);
    info.since = 5;
    hand.spawned(id, info.clone());
    let (lease, ..) = hand.start();
    hand.report(0, 4, &[]);
    assert!(hand.engine.view().worker(id).is_some());
    hand.report(0, 5, &[info.clone()]);
    hand.report(0, 4, &[]);
    assert!(hand.engine.view().worker(id).is_some(), "overtaken by a younger report");
    hand.report(0, 6, &[]);
    assert!(hand.engine.view().worker(id).is_none());
    assert!(
        hand.find(|e| matches!(e, Effect::Abort { lease: l } if *l == lease).then_some(()))
            .is_some()
    );
}

#[test]
fn a_hive_that_was_started_again_without_its_workers_has_lost_them() {
    let mut late = worker(1, 0, 1);
    late.since = 9;
    let mut hand = Hand::new(Settings::default());
    hand.hive(0, parts::added());
    hand.report(0, 9, &[late]);
    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    hand.report(0, 1, &[]);
    assert!(hand.engine.view().worker(parts::worker(1)).is_none());
}

#[test]
fn a_report_of_a_hive_that_was_removed_does_not_bring_it_back() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.hive(0, HiveFact::Removed);
    hand.report(0, 2, &[worker(1, 0, 1)]);
    assert!(hand.engine.view().hive(&parts::hive(0)).is_none());
    assert!(hand.engine.view().worker(parts::worker(1)).is_none());
}

#[test]
fn a_worker_that_is_ready_while_its_hive_is_offline_gets_no_jobs_until_it_is_back() {
    let mut hand = Hand::with(&[]);
    hand.job(1, 0);
    let (id, _, spec) = hand.spawns().remove(0);
    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    let info = parts::info(id, parts::hive(0), spec.model, spec.slots);
    hand.spawned(id, info.clone());
    assert!(hand.starts().is_empty());
    hand.report(0, 2, &[info]);
    assert_eq!(hand.start().2, id);
}

#[test]
fn a_worker_that_is_being_connected_can_be_unloaded() {
    let mut hand = Hand::new(Settings::default());
    hand.hive(0, parts::added());
    hand.report(0, 1, &[worker(1, 0, 1)]);
    hand.command(Command::Unload(parts::worker(1))).unwrap();
    assert_eq!(hand.stops(), [parts::worker(1)]);
    hand.connect(&[worker(1, 0, 1)]);
    let state = hand.engine.view().worker(parts::worker(1)).unwrap().state;
    assert_eq!(state, WorkerState::Draining);
}

#[test]
fn an_unloaded_worker_ends_its_runs_and_is_stopped_then() {
    let mut hand = Hand::with(&[worker(1, 0, 2)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.command(Command::Unload(parts::worker(1))).unwrap();
    assert!(hand.stops().is_empty());
    hand.job(2, 0);
    assert!(hand.starts().is_empty());
    hand.done(lease);
    assert_eq!(hand.stops(), [parts::worker(1)]);
}

#[test]
fn a_download_is_not_counted_as_a_start() {
    let mut hand = Hand::new(Settings { retries: 0, ..Settings::default() });
    hand.hive(0, parts::added());
    hand.report(0, 1, &[]);
    hand.job(1, 7);
    let (hive, model) = (parts::hive(0), parts::model(7));
    assert!(hand.find(|e| matches!(e, Effect::Provision { .. }).then_some(())).is_some());
    let result = Ok(rbee_core::models::ModelOnDisk::new(model.clone(), parts::GIB));
    hand.feed(Input::Provisioned { hive, model, result });
    assert_eq!(hand.spawns().len(), 1);
}

#[test]
fn a_download_without_progress_is_given_up_and_one_with_progress_is_not() {
    let mut hand = Hand::with(&[]);
    let mut job = parts::job(1, parts::model(7));
    job.priority = rbee_core::Priority::Batch;
    hand.submit(job);
    let (hive, model) = (parts::hive(0), parts::model(7));
    for _ in 0..5 {
        hand.wait(Duration::from_secs(599));
        assert_eq!(hand.engine.counters().provisioning, 1);
        hand.feed(Input::ProvisionProgress { hive: hive.clone(), model: model.clone() });
    }
    hand.wait(Duration::from_secs(600));
    assert_eq!(hand.engine.counters().provisioning, 0);
}

#[test]
fn a_failed_start_is_tried_again_later_and_not_without_end() {
    let mut hand = Hand::with(&[]);
    hand.job(1, 0);
    for tries in 1.. {
        let spawns = hand.spawns();
        let [(id, ..)] = &spawns[..] else { panic!("try {tries}: {:?}", hand.effects) };
        hand.feed(Input::Spawned {
            worker: *id,
            result: Err(Error::new(ErrorKind::WorkerFault, "no")),
        });
        if !hand.finishes().is_empty() {
            assert_eq!(tries, 4, "three retries");
            return;
        }
        assert!(hand.spawns().is_empty(), "not at once");
        while hand.spawns().is_empty() {
            hand.wait(hand.next());
        }
    }
}

#[test]
fn a_cold_model_that_found_no_memory_is_asked_about_again_when_a_worker_falls_idle() {
    let workers: Vec<_> = (1..7).map(|n| worker(n, 1, 1)).collect();
    let mut hand = Hand::with(&workers);
    let leases: Vec<_> = (1..7)
        .map(|n| {
            hand.job(n, 1);
            hand.start().0
        })
        .collect();
    hand.job(20, 0);
    assert_eq!((hand.spawns().len(), hand.stops().len()), (0, 0), "no memory, and no idle worker");
    hand.done(leases[0]);
    assert_eq!(hand.stops().len(), 1, "the idle one makes room");
}

#[test]
fn many_models_that_wait_for_memory_take_turns_when_a_worker_falls_idle() {
    let mut hand = Hand::with(&[worker(1, 1, 1)]);
    hand.answers = false;
    for n in 0..30 {
        hand.job(100 + n, 10 + n as usize);
        let (ticket, _) = hand.asked.pop().unwrap();
        hand.answer(ticket, rbee_core::Placement::Wait);
    }
    let mut asked = std::collections::BTreeSet::new();
    for n in 0..4 {
        hand.job(1 + n, 1);
        let (ticket, _) = hand.asked.pop().unwrap();
        hand.answer(ticket, rbee_core::Placement::Assign(parts::worker(1)));
        hand.done(hand.start().0);
        let questions = std::mem::take(&mut hand.asked);
        assert!(questions.len() <= 8, "an end of a job costs at most so much");
        for (ticket, job) in questions {
            asked.insert(job);
            hand.answer(ticket, rbee_core::Placement::Wait);
        }
    }
    assert_eq!(asked.len(), 30, "everyone has had a turn");
}
