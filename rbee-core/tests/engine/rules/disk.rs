//! Hives whose disks have no space for a model, because other models' files are in use.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, WorkerId, WorkerInfo,
    engine::{Command, Effect, HiveFact, Input, Note},
    models::Digest,
};

use super::{
    hand::{Hand, error, worker},
    parts::{self, GIB},
};

/// `hive-0`, whose store has models 0, 1 and 2 of 4 GiB each, and a job for a model that it does not have.
fn full(workers: &[WorkerInfo]) -> Hand {
    let mut hand = Hand::with(&[]);
    let models = (0..3).map(parts::model);
    let mut report = parts::report(2, models, workers.iter().cloned());
    for held in &mut report.models {
        held.digest = Some(Digest::of(held.model.as_str()));
    }
    hand.hive(0, HiveFact::Report(Box::new(report)));
    hand.connect(workers);
    hand
}

fn provisions(hand: &Hand) -> usize {
    hand.all(|effect| matches!(effect, Effect::Provision { .. }).then_some(())).len()
}

fn refuse(hand: &mut Hand, error: Error) {
    assert_eq!(provisions(hand), 1, "{:?}", hand.effects);
    let (hive, model) = (parts::hive(0), parts::model(7));
    hand.feed(Input::Provisioned { hive, model, result: Err(error) });
}

fn in_use(short: u64) -> Error {
    error(ErrorKind::DiskInUse).with_short_bytes(short)
}

fn evicted(hand: &Hand) -> Vec<WorkerId> {
    hand.all(|effect| match effect {
        Effect::Note(Note::Evicted(worker, _)) => Some(*worker),
        _ => None,
    })
}

#[test]
fn idle_workers_are_stopped_where_their_files_make_the_room_those_used_longest_ago_first() {
    let mut hand = full(&[worker(1, 0, 1), worker(2, 1, 1), worker(3, 2, 1)]);
    hand.command(Command::Pin(parts::worker(1), true)).unwrap();
    hand.wait(Duration::from_secs(1));
    hand.job(1, 1);
    let (lease, _, used) = hand.start();
    assert_eq!(used, parts::worker(2));
    hand.done(lease);
    hand.job(2, 7);
    refuse(&mut hand, in_use(3 * GIB));
    assert_eq!((evicted(&hand), hand.stops()), (vec![parts::worker(3)], vec![parts::worker(3)]));
    // The worker is not gone yet when the hive is asked again.
    hand.wait(Duration::from_secs(1));
    refuse(&mut hand, in_use(3 * GIB));
    assert_eq!(evicted(&hand), []);
    hand.wait(Duration::from_secs(1));
    refuse(&mut hand, in_use(5 * GIB));
    assert_eq!(evicted(&hand), [parts::worker(2)]);
    assert!(hand.finishes().is_empty());
}

#[test]
fn where_they_do_not_none_is_stopped_and_the_hive_is_asked_again_for_as_long_as_the_job_waits() {
    let mut hand = full(&[worker(1, 0, 1), worker(2, 1, 1)]);
    hand.command(Command::Pin(parts::worker(1), true)).unwrap();
    hand.job(1, 7);
    let began = hand.now;
    let mut asked = 0;
    while hand.finishes().is_empty() {
        if provisions(&hand) == 1 {
            asked += 1;
            refuse(&mut hand, in_use(5 * GIB));
            assert_eq!(evicted(&hand), []);
        } else {
            hand.wait(hand.next());
        }
    }
    assert_eq!(hand.failure(), ErrorKind::QueueTimeout);
    assert_eq!(hand.now - began, Duration::from_secs(600));
    assert!((600 / 16..=600 / 8).contains(&asked), "{asked}");
}

#[test]
fn a_model_that_is_larger_than_the_whole_budget_is_refused_at_once() {
    let mut hand = full(&[worker(1, 0, 1)]);
    hand.job(1, 7);
    refuse(&mut hand, error(ErrorKind::Storage));
    assert_eq!((hand.failure(), evicted(&hand).len()), (ErrorKind::Storage, 0));
}
