//! Attempts that fail, and how a worker's health follows from them.

use std::time::Duration;

use rbee_core::{
    ErrorKind,
    cluster::WorkerState,
    engine::{AttemptResult, Effect, HiveFact, Input, Note},
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

#[test]
fn another_ready_worker_takes_over_at_once() {
    let mut hand = Hand::with(&[worker(1, 0, 1), worker(2, 0, 1)]);
    hand.job(1, 0);
    let (lease, _, first) = hand.start();
    hand.fail(lease, ErrorKind::WorkerLost);
    let (_, job, second) = hand.start();
    assert_eq!(job, parts::job_id(1));
    assert_ne!(first, second);
}

#[test]
fn without_another_worker_the_delays_double_with_jitter_and_the_retries_are_bounded() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let mut delays = Vec::new();
    for full in [1_000, 2_000, 4_000] {
        let (lease, ..) = hand.start();
        hand.fail(lease, ErrorKind::WorkerLost);
        assert_eq!(hand.engine.counters().waiting, 1);
        let delay = hand.next();
        // The worker, too, gets no jobs after its third fault; its probe comes in between.
        if full == 4_000 {
            assert_eq!(delay, Duration::from_secs(1));
            hand.wait(delay);
            assert_eq!(hand.probes(), 1);
            hand.feed(Input::Probed { worker: parts::worker(1), result: Ok(Default::default()) });
            hand.wait(hand.next());
        } else {
            let (least, most) = (Duration::from_millis(full / 2), Duration::from_millis(full));
            assert!(delay >= least && delay <= most, "{delay:?}");
            delays.push(delay);
            hand.wait(delay);
        }
    }
    assert_ne!(delays[0] * 2, delays[1], "half of a delay is left to chance");
    let (lease, ..) = hand.start();
    hand.fail(lease, ErrorKind::WorkerLost);
    assert_eq!(hand.failure(), ErrorKind::WorkerLost, "four tries, then the end");
}

#[test]
fn a_busy_answer_costs_the_job_no_attempt_and_the_worker_no_health() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    for _ in 0..20 {
        let (lease, ..) = hand.start();
        hand.fail(lease, ErrorKind::WorkerBusy);
        assert!(hand.finishes().is_empty());
        hand.wait(hand.next());
    }
    let attempt = hand.find(|effect| match effect {
        Effect::Start { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempt, Some(1));
    let view = hand.engine.view().worker(parts::worker(1)).unwrap();
    assert_eq!((view.faults, view.state), (0, WorkerState::Ready));
}

#[test]
fn a_clients_error_is_not_retried_and_costs_the_worker_nothing() {
    let mut hand = Hand::with(&[worker(1, 0, 1), worker(2, 0, 1)]);
    for n in 0..5 {
        hand.job(n, 0);
        let (lease, ..) = hand.start();
        hand.fail(lease, ErrorKind::ContextExceeded);
        assert_eq!(hand.failure(), ErrorKind::ContextExceeded);
    }
    assert!(hand.engine.view().workers().all(|view| view.faults == 0));
}

#[test]
fn a_worker_that_keeps_failing_is_probed_more_and_more_rarely_until_it_does_a_job_well() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    let id = parts::worker(1);
    let fail_until_probed = |hand: &mut Hand, n| {
        while let [(lease, ..)] = hand.starts()[..] {
            hand.end(lease, AttemptResult::Failed(error(ErrorKind::WorkerFault)), 1);
            if hand.engine.view().worker(id).unwrap().state == WorkerState::Failed {
                break;
            }
            hand.wait(Duration::from_secs(60));
        }
        // After its retry is cancelled, the next timer is the probe.
        hand.feed(Input::Cancel { job: parts::job_id(n) });
        hand.next()
    };
    let probe = |hand: &mut Hand, delay| {
        hand.wait(delay);
        assert_eq!(hand.probes(), 1);
        hand.feed(Input::Probed { worker: id, result: Ok(Default::default()) });
    };
    let one = |hand: &mut Hand, n| {
        // Long enough for three attempts with their delays.
        let mut job = parts::job(n, parts::model(0));
        job.timeout = Duration::from_secs(1_000);
        hand.submit(job);
    };
    one(&mut hand, 1);
    assert_eq!(fail_until_probed(&mut hand, 1), Duration::from_secs(1));
    probe(&mut hand, Duration::from_secs(1));
    one(&mut hand, 2);
    assert_eq!(
        fail_until_probed(&mut hand, 2),
        Duration::from_secs(2),
        "on trial, one fault is enough"
    );
    probe(&mut hand, Duration::from_secs(2));
    one(&mut hand, 3);
    hand.done(hand.start().0);
    assert_eq!(hand.engine.view().worker(id).unwrap().faults, 0);
    one(&mut hand, 4);
    assert_eq!(fail_until_probed(&mut hand, 4), Duration::from_secs(1), "the patience begins anew");
}

#[test]
fn a_failed_probe_is_followed_by_another() {
    let mut hand = Hand::with(&[worker(1, 0, 3)]);
    (0..3).for_each(|n| hand.job(n, 0));
    for lease in 1..40 {
        hand.fail(rbee_core::id::LeaseId(lease), ErrorKind::WorkerFault);
    }
    (0..3).for_each(|n| hand.feed(Input::Cancel { job: parts::job_id(n) }));
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        hand.wait(Duration::from_secs(seconds));
        assert_eq!(hand.probes(), 1, "after {seconds} s");
        hand.feed(Input::Probed {
            worker: parts::worker(1),
            result: Err(error(ErrorKind::WorkerFault)),
        });
    }
}

#[test]
fn a_stream_that_had_begun_goes_on_only_where_the_numerics_are_the_same() {
    let mut other = worker(2, 0, 1);
    other.numerics = "other".into();
    let mut hand = Hand::with(&[worker(1, 0, 1), other]);
    hand.job(1, 0);
    if hand.start().2 != parts::worker(1) {
        hand.feed(Input::Cancel { job: parts::job_id(1) });
        hand.end(
            hand.all(|e| if let Effect::Abort { lease } = e { Some(*lease) } else { None })[0],
            AttemptResult::Aborted,
            0,
        );
        hand.job(2, 0);
    }
    let (lease, job, first) = hand.start();
    assert_eq!(first, parts::worker(1));
    // Stopped from outside, after tokens were sent.
    hand.end(lease, AttemptResult::Aborted, 3);
    let (_, again, second) = hand.start();
    assert_eq!((again, second), (job, first));
}

#[test]
fn the_engine_refuses_a_policy_that_ignores_the_numerics() {
    let mut other = worker(2, 0, 1);
    other.numerics = "other".into();
    let mut hand = Hand::with(&[worker(1, 0, 1), other]);
    hand.answers = false;
    hand.job(1, 0);
    let place = |hand: &mut Hand, n| {
        let (ticket, _) = hand.asked.pop().expect("a question");
        hand.answer(ticket, rbee_core::Placement::Assign(parts::worker(n)));
    };
    place(&mut hand, 1);
    let lease = hand.start().0;
    hand.end(lease, AttemptResult::Failed(error(ErrorKind::WorkerLost)), 3);
    hand.wait(hand.next());
    place(&mut hand, 2);
    assert!(hand.starts().is_empty());
    assert!(hand.find(|e| matches!(e, Effect::Note(Note::StaleAnswer(_))).then_some(())).is_some());
}

#[test]
fn a_hive_is_offline_at_once_and_lost_after_45_seconds() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.hive(1, parts::added());
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    assert!(!hand.engine.view().hive(&parts::hive(0)).unwrap().online);
    hand.wait(Duration::from_millis(44_999 - 30_000));
    assert!(hand.engine.view().worker(parts::worker(1)).is_some(), "what runs there goes on");
    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    hand.done(lease);
    hand.job(2, 0);
    assert!(hand.starts().is_empty(), "no new jobs");
    hand.wait(Duration::from_millis(29_999));
    assert!(hand.engine.view().worker(parts::worker(1)).is_some());
    hand.wait(Duration::from_millis(2));
    assert!(
        hand.engine.view().worker(parts::worker(1)).is_none(),
        "counted from the first failure"
    );
}

#[test]
fn a_worker_that_comes_back_keeps_the_slots_of_attempts_that_are_still_ending() {
    let mut hand = Hand::with(&[worker(1, 0, 2)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.hive(
        0,
        HiveFact::WorkerExited { worker: parts::worker(1), why: error(ErrorKind::WorkerLost) },
    );
    hand.report(0, 2, &[worker(1, 0, 2)]);
    hand.connect(&[worker(1, 0, 2)]);
    assert_eq!(hand.engine.view().worker(parts::worker(1)).unwrap().leased, 1);
    hand.fail(lease, ErrorKind::WorkerLost);
    assert_eq!(hand.engine.view().worker(parts::worker(1)).unwrap().leased, 0);
}
