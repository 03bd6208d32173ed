//! The last turn of a queen: the jobs that it ends, those that it leaves, and what their readers get.

use std::{sync::Arc, time::Duration};

use rbee_core::{
    ErrorKind, Job, JobId, Outcome, Settings,
    engine::{Effect, Input},
    job::Idempotency,
    registry::Change,
};

use super::{
    hand::{Hand, error, worker},
    parts,
    queueing::{record, restore},
};

fn detached(n: u128) -> Job {
    Job { detached: true, ..parts::job(n, parts::model(0)) }
}

fn keyed(n: u128) -> Job {
    let key = Idempotency { key: "k".into(), part: 0, fingerprint: 1 };
    Job { idempotency: Some(Arc::new(key)), ..parts::job(n, parts::model(0)) }
}

/// Ends that the last input asks to record: the job, the kind of its error if it failed, and whether its answer stays.
fn ends(hand: &Hand) -> Vec<(JobId, Option<ErrorKind>, bool)> {
    hand.all(|effect| match effect {
        Effect::Record { changes, .. } => match &changes[..] {
            [Change::JobEnded { job, outcome, keep_output, .. }] => {
                let kind = match outcome {
                    Outcome::Failed(error) => Some(error.kind()),
                    Outcome::Complete { .. } | Outcome::Cancelled => None,
                };
                Some((*job, kind, *keep_output))
            }
            _ => None,
        },
        _ => None,
    })
}

/// Answers a record, and returns the numbers of the records that follow from it.
fn recorded(hand: &mut Hand, n: u64, result: Result<(), ErrorKind>) {
    hand.feed(Input::Recorded { n, result: result.map_err(error) });
}

fn numbers(hand: &Hand) -> Vec<u64> {
    hand.all(|effect| match effect {
        Effect::Record { n, .. } => *n,
        _ => None,
    })
}

const GOING: Option<ErrorKind> = Some(ErrorKind::ShuttingDown);

#[test]
fn a_freeze_ends_what_nobody_can_come_back_for_and_leaves_the_rest() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.job(2, 0);
    hand.submit(detached(3));
    hand.submit(keyed(4));
    hand.feed(Input::Freeze);
    let [one, two, three, four] = [1, 2, 3, 4].map(parts::job_id);
    assert_eq!(ends(&hand), [(one, GOING, false), (two, GOING, false)]);
    let told: Vec<_> = hand.finishes().into_iter().map(|(job, _)| job).collect();
    assert_eq!(told, [one, two], "each is sent after its record");
    assert_eq!(
        [one, two, three, four].map(|job| hand.engine.leaves(job)),
        [false, false, true, true]
    );
    assert!(!hand.engine.awaits_records());

    // Other inputs have no effect.
    hand.done(lease);
    assert!(hand.effects.is_empty());
    hand.job(5, 0);
    assert!(hand.effects.is_empty() && hand.engine.next_wake().is_none());
    hand.wait(Duration::from_secs(100_000));
    hand.feed(Input::Freeze);
    assert!(hand.effects.is_empty());
}

#[test]
fn an_end_that_is_not_recorded_at_a_freeze_is_not_told() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    hand.records = false;
    hand.feed(Input::Freeze);
    let [n] = numbers(&hand)[..] else { panic!("{:?}", hand.effects) };
    assert!(hand.finishes().is_empty() && hand.engine.awaits_records());
    recorded(&mut hand, n, Err(ErrorKind::Storage));
    assert!(hand.effects.is_empty(), "{:?}", hand.effects);
    assert!(!hand.engine.awaits_records() && !hand.engine.leaves(parts::job_id(1)));
}

#[test]
fn a_job_that_waits_for_its_acceptance_at_a_freeze_is_accepted_and_then_ends_or_is_left() {
    let mut hand = Hand::with(&[]);
    hand.records = false;
    let mut accepted = Vec::new();
    for job in [parts::job(1, parts::model(0)), detached(2), keyed(3)] {
        hand.submit(job);
        accepted.extend(numbers(&hand));
    }
    hand.feed(Input::Freeze);
    assert_eq!(ends(&hand), [(parts::job_id(1), GOING, false)], "after its record, in any case");
    let ended = numbers(&hand);
    let answer = |hand: &Hand| {
        hand.find(|effect| match effect {
            Effect::Accept { job, answer, .. } => Some((*job, answer.is_ok())),
            _ => None,
        })
    };
    recorded(&mut hand, accepted[0], Ok(()));
    assert_eq!(answer(&hand), Some((parts::job_id(1), true)));
    recorded(&mut hand, ended[0], Ok(()));
    assert_eq!(hand.failure(), ErrorKind::ShuttingDown);
    recorded(&mut hand, accepted[1], Ok(()));
    assert_eq!(answer(&hand), Some((parts::job_id(2), true)));
    assert!(hand.engine.leaves(parts::job_id(2)));
    // The store refuses the third one: it was never accepted, so it is not left.
    recorded(&mut hand, accepted[2], Err(ErrorKind::Storage));
    assert_eq!(answer(&hand), Some((parts::job_id(3), false)));
    assert!(!hand.engine.leaves(parts::job_id(3)));
}

#[test]
fn what_had_ended_at_a_freeze_is_told_as_it_ended() {
    let mut hand = Hand::with(&[worker(1, 0, 2)]);
    hand.submit(detached(1));
    let (done, ..) = hand.start();
    hand.submit(detached(2));
    let cancelled = parts::job_id(2);
    hand.records = false;
    hand.done(done);
    let [end] = numbers(&hand)[..] else { panic!("{:?}", hand.effects) };
    hand.feed(Input::Cancel { job: cancelled });
    assert!(ends(&hand).is_empty(), "its attempt is to end first");
    hand.feed(Input::Freeze);
    assert_eq!(ends(&hand), [(cancelled, None, true)], "the client's word stands");
    let [second] = numbers(&hand)[..] else { panic!("{:?}", hand.effects) };
    recorded(&mut hand, end, Ok(()));
    assert!(matches!(hand.finishes()[..], [(_, Outcome::Complete { .. })]));
    recorded(&mut hand, second, Ok(()));
    assert_eq!(hand.finishes(), [(cancelled, Outcome::Cancelled)]);
}

#[test]
fn an_end_that_waits_to_be_recorded_again_is_recorded_at_a_freeze() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.submit(detached(1));
    let (lease, ..) = hand.start();
    hand.records = false;
    hand.done(lease);
    let [n] = numbers(&hand)[..] else { panic!("{:?}", hand.effects) };
    recorded(&mut hand, n, Err(ErrorKind::Storage));
    hand.records = true;
    hand.feed(Input::Freeze);
    assert!(matches!(hand.finishes()[..], [(_, Outcome::Complete { .. })]), "{:?}", hand.effects);
}

#[test]
fn a_job_that_is_detached_later_is_left_and_its_answer_stays() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    for n in 1..=2 {
        hand.job(n, 0);
        hand.feed(Input::Detach { job: parts::job_id(n) });
    }
    let lease = hand.first_leases[&parts::worker(1)];
    hand.done(lease);
    assert_eq!(ends(&hand), [(parts::job_id(1), None, true)]);
    hand.feed(Input::Freeze);
    assert!(hand.effects.is_empty() && hand.engine.leaves(parts::job_id(2)));
}

#[test]
fn a_restored_job_is_left_again_and_its_answer_stays() {
    let mut hand = Hand::new(Settings::default());
    restore(&mut hand, vec![record(1, true, 0), record(2, true, 0)]);
    hand.feed(Input::Cancel { job: parts::job_id(1) });
    assert_eq!(
        ends(&hand),
        [(parts::job_id(1), None, true)],
        "who comes back for it learns of its end"
    );
    hand.feed(Input::Freeze);
    assert!(hand.effects.is_empty() && hand.engine.leaves(parts::job_id(2)));
}
