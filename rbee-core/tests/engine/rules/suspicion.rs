//! Suspected workers, stalled streams, and which attempts count against a job's retries.

use std::time::Duration;

use rbee_core::{
    ErrorKind, Settings, WorkerInfo,
    cluster::{WorkerState, WorkerView},
    engine::{AttemptResult, Effect, HiveFact, Input, Note, Silence},
    id::LeaseId,
    registry::Change,
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

/// Workers 1 to `n` of one model, with one slot each, each on its own hive. Probes are not answered.
fn apart(n: u128) -> Hand {
    let mut hand = Hand::new(Settings { min_loaded: Duration::ZERO, ..Settings::default() });
    hand.probes_succeed = false;
    for n in 1..=n {
        let hive = n as usize;
        hand.hive(hive, parts::added());
        let info = on_own_hive(n);
        hand.report(hive, 1, std::slice::from_ref(&info));
        hand.connect(&[info]);
    }
    hand
}

fn on_own_hive(n: u128) -> WorkerInfo {
    WorkerInfo { hive: parts::hive(n as usize), ..worker(n, 0, 1) }
}

fn view(hand: &Hand, n: u128) -> WorkerView {
    (**hand.engine.view().worker(parts::worker(n)).expect("it is there")).clone()
}

/// The number of the worker.
fn number(worker: rbee_core::WorkerId) -> u128 {
    (1..9).find(|n| parts::worker(*n) == worker).expect("one of ours")
}

fn probed(hand: &mut Hand, n: u128, is_well: bool) {
    let result = match is_well {
        true => Ok(Default::default()),
        false => Err(error(ErrorKind::WorkerUnreachable)),
    };
    hand.feed(Input::Probed { worker: parts::worker(n), result });
}

fn silence(is_evident: bool, produced: u32) -> Silence {
    let lasted = Duration::from_secs(3);
    Silence { lasted, began: true, is_evident, produced, resumable: true }
}

fn silent(hand: &mut Hand, lease: LeaseId, silence: Silence) {
    hand.feed(Input::Silent { lease, silence });
}

fn aborted(hand: &Hand) -> Vec<LeaseId> {
    hand.all(|effect| match effect {
        Effect::Abort { lease } => Some(*lease),
        _ => None,
    })
}

/// The attempts counted in the last record of the job's return to the queue.
fn counted(hand: &Hand) -> u32 {
    let of = |effect: &Effect| match effect {
        Effect::Record { changes, .. } => match changes[..] {
            [Change::JobRequeued { attempts, .. }] => Some(attempts),
            _ => None,
        },
        _ => None,
    };
    hand.find(of).expect("the job is queued again")
}

#[test]
fn a_worker_that_refuses_an_attempt_costs_no_try_and_gets_no_other_until_it_answers_well() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.fail(lease, ErrorKind::WorkerUnreachable);
    assert_eq!(counted(&hand), 0);
    let probe = hand.find(|effect| match effect {
        Effect::Probe { within, .. } => Some(*within),
        _ => None,
    });
    assert_eq!(probe, Some(Duration::from_millis(1_500)), "at once, with little time to answer");
    let asked = hand.find(|effect| matches!(effect, Effect::ReportHive { .. }).then_some(()));
    assert!(asked.is_some(), "its hive is asked whether it is still there");
    assert!(view(&hand, 1).suspected && view(&hand, 1).state == WorkerState::Ready);
    hand.job(2, 0);
    hand.wait(Duration::from_secs(20));
    assert_eq!((hand.starts(), hand.engine.counters().waiting), (vec![], 2));

    probed(&mut hand, 1, true);
    assert!(!view(&hand, 1).suspected);
    let (_, job, _) = hand.start();
    assert_eq!(job, parts::job_id(1), "it kept its place, and waited for nothing else");
    let attempt = hand.find(|effect| match effect {
        Effect::Start { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempt, Some(1));
}

#[test]
fn a_job_that_is_never_let_begin_ends_all_the_same() {
    let mut hand = apart(1);
    hand.probes_succeed = true;
    let mut job = parts::job(1, parts::model(0));
    job.timeout = Duration::from_secs(100_000);
    hand.submit(job);
    let mut attempts = 0;
    loop {
        if let [(lease, ..)] = hand.starts()[..] {
            attempts += 1;
            hand.fail(lease, ErrorKind::WorkerUnreachable);
            if !hand.finishes().is_empty() {
                break;
            }
        } else if hand.probes() > 0 && view(&hand, 1).state == WorkerState::Failed {
            probed(&mut hand, 1, true);
        } else {
            hand.wait(hand.next());
        }
        assert!(attempts < 100);
    }
    assert_eq!((hand.failure(), attempts), (ErrorKind::WorkerUnreachable, 16 + 4));
}

#[test]
fn the_death_of_a_worker_counts_for_the_job_that_ran_there() {
    let mut hand = apart(2);
    hand.job(1, 0);
    for tries in 1..=2 {
        let (lease, _, id) = hand.start();
        let why = error(ErrorKind::WorkerLost);
        hand.hive(number(id) as usize, HiveFact::WorkerExited { worker: id, why });
        assert_eq!(aborted(&hand), [lease]);
        hand.end(lease, AttemptResult::Aborted, 0);
        assert_eq!(counted(&hand), tries);
    }
}

#[test]
fn a_worker_that_was_stopped_or_was_lost_with_its_machine_costs_no_try() {
    let removed = |hand: &mut Hand, hive| hand.hive(hive, HiveFact::Removed);
    let lost = |hand: &mut Hand, hive| {
        hand.hive(hive, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
        for _ in 0..2 {
            // Longer than a job may run by default.
            hand.wait(Duration::from_millis(22_600));
        }
    };
    let stopped = |hand: &mut Hand, hive: usize| {
        hand.feed(Input::Stopped { worker: parts::worker(hive as u128) });
    };
    let restarted = |hand: &mut Hand, hive| {
        hand.hive(hive, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
        // The count starts again.
        hand.report(hive, 0, &[]);
    };
    let ways: [fn(&mut Hand, usize); 4] = [removed, lost, stopped, restarted];
    for (way, end) in ways.into_iter().enumerate() {
        let mut hand = apart(1);
        let mut job = parts::job(1, parts::model(0));
        job.timeout = Duration::from_secs(1_000);
        hand.submit(job);
        let (lease, _, id) = hand.start();
        end(&mut hand, number(id) as usize);
        hand.end(lease, AttemptResult::Failed(error(ErrorKind::WorkerLost)), 0);
        assert_eq!(counted(&hand), 0, "way {way}");
    }
}

#[test]
fn a_stream_that_breaks_while_the_machine_is_away_costs_no_try() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.hive(1, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
    hand.fail(lease, ErrorKind::WorkerLost);
    assert_eq!(counted(&hand), 0);
}

#[test]
fn a_try_is_given_back_when_it_turns_out_that_the_machine_is_away() {
    for is_away in [true, false] {
        let mut hand = apart(2);
        hand.job(1, 0);
        let (lease, _, first) = hand.start();
        hand.fail(lease, ErrorKind::WorkerLost);
        assert_eq!(counted(&hand), 1, "so far it looks like the death of the worker");
        let (lease, _, second) = hand.start();
        assert_ne!(first, second);
        let hive = number(first) as usize;
        match is_away {
            true => hand.hive(hive, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable))),
            false => {
                let why = error(ErrorKind::WorkerLost);
                hand.hive(hive, HiveFact::WorkerExited { worker: first, why });
            }
        }
        hand.fail(lease, ErrorKind::WorkerFault);
        assert_eq!(counted(&hand), if is_away { 1 } else { 2 });
    }
}

#[test]
fn a_silent_stream_goes_on_at_once_where_another_worker_gives_the_same_stream() {
    let mut hand = apart(2);
    hand.job(1, 0);
    let (lease, job, hung) = hand.start();
    silent(&mut hand, lease, silence(true, 3));
    assert_eq!(aborted(&hand), [lease]);
    assert!(view(&hand, number(hung)).suspected);
    hand.end(lease, AttemptResult::Aborted, 3);
    let (next, again, other) = hand.start();
    assert_eq!((again, other == hung), (job, false));
    assert_eq!(view(&hand, number(hung)).leased, 0, "its slot is free, but no job gets it");
    hand.job(2, 0);
    assert!(hand.starts().is_empty(), "a suspected worker gets no new jobs");

    // It continues after all: nothing reads it any more, but the worker is healthy again.
    hand.feed(Input::Heard { lease });
    probed(&mut hand, number(hung), true);
    assert_eq!(hand.start().2, hung);
    hand.done(next);
    assert_eq!(hand.finishes().len(), 1);
}

#[test]
fn a_silent_stream_waits_where_nobody_can_take_it_over_and_goes_on_when_somebody_can() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    silent(&mut hand, lease, silence(true, 3));
    probed(&mut hand, 1, true);
    assert!(aborted(&hand).is_empty());
    assert!(view(&hand, 1).suspected, "its stream is silent, whatever it says of itself");
    hand.hive(2, parts::added());
    hand.report(2, 1, &[on_own_hive(2)]);
    assert!(aborted(&hand).is_empty());
    hand.connect(&[on_own_hive(2)]);
    assert_eq!(aborted(&hand), [lease]);
}

#[test]
fn a_stream_that_speaks_again_goes_on_where_it_is() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    silent(&mut hand, lease, silence(true, 3));
    probed(&mut hand, 1, false);
    hand.feed(Input::Heard { lease });
    assert_eq!(hand.probes(), 1, "its answer decides");
    probed(&mut hand, 1, true);
    assert!(!view(&hand, 1).suspected);
    hand.hive(2, parts::added());
    hand.report(2, 1, &[on_own_hive(2)]);
    hand.connect(&[on_own_hive(2)]);
    assert!(aborted(&hand).is_empty());
    hand.done(lease);
    assert!(hand.engine.is_quiet(), "{:?}", hand.engine.counters());
}

#[test]
fn a_worker_without_heartbeats_loses_its_silent_stream_only_if_it_does_not_answer_either() {
    let mut hand = apart(2);
    hand.job(1, 0);
    let (lease, _, id) = hand.start();
    silent(&mut hand, lease, silence(false, 0));
    assert!(aborted(&hand).is_empty());
    probed(&mut hand, number(id), true);
    assert!(!view(&hand, number(id)).suspected && aborted(&hand).is_empty());
    // Perhaps a long prompt. It is probed again, and this time it has died.
    hand.wait(Duration::from_secs(1));
    assert_eq!(hand.probes(), 1);
    probed(&mut hand, number(id), false);
    assert_eq!(aborted(&hand), [lease]);
    assert!(view(&hand, number(id)).suspected);
}

#[test]
fn silence_does_not_move_a_stream_that_would_be_another_or_could_not_go_on() {
    let other_numerics = |info: &mut WorkerInfo| info.numerics = "other".into();
    let cannot_resume = |info: &mut WorkerInfo| info.capabilities.resume = false;
    let of = |change: fn(&mut WorkerInfo)| {
        let mut hand = apart(1);
        hand.job(1, 0);
        let (lease, ..) = hand.start();
        let mut info = on_own_hive(2);
        change(&mut info);
        hand.hive(2, parts::added());
        hand.report(2, 1, std::slice::from_ref(&info));
        hand.connect(&[info]);
        (hand, lease)
    };
    for change in [other_numerics as fn(&mut WorkerInfo), cannot_resume] {
        let (mut hand, lease) = of(change);
        silent(&mut hand, lease, silence(true, 3));
        assert!(aborted(&hand).is_empty());
        let (mut hand, lease) = of(change);
        silent(&mut hand, lease, silence(true, 0));
        assert_eq!(aborted(&hand), [lease], "without tokens any worker begins anew");
    }
    let (mut hand, lease) = of(|_| {});
    silent(&mut hand, lease, Silence { resumable: false, ..silence(true, 3) });
    assert!(aborted(&hand).is_empty(), "its tokens have no ids");
}

#[test]
fn as_many_silent_streams_move_as_others_have_free_slots() {
    let mut hand = apart(0);
    for (n, slots) in [(1, 4), (2, 2)] {
        let info = WorkerInfo { slots, ..on_own_hive(n) };
        hand.hive(n as usize, parts::added());
        hand.report(n as usize, 1, std::slice::from_ref(&info));
        hand.connect(&[info]);
    }
    let mut leases = Vec::new();
    for n in 0..6 {
        hand.job(n, 0);
        leases.push(hand.start());
    }
    let (hung, busy): (Vec<_>, Vec<_>) =
        leases.into_iter().partition(|(.., worker)| *worker == parts::worker(1));
    for (lease, ..) in &hung {
        silent(&mut hand, *lease, silence(true, 1));
        assert!(aborted(&hand).is_empty(), "there is no free slot");
    }
    hand.done(busy[0].0);
    assert_eq!(aborted(&hand).len(), 1);
}

#[test]
fn silence_does_not_take_a_job_its_last_try() {
    let mut hand = apart(2);
    hand.job(1, 0);
    let mut running = hand.start();
    for _ in 0..3 {
        let (lease, _, id) = running;
        silent(&mut hand, lease, silence(true, 1));
        assert_eq!(aborted(&hand), [lease]);
        hand.end(lease, AttemptResult::Aborted, 1);
        let started = hand.starts();
        // It is healthy again in the meantime.
        probed(&mut hand, number(id), true);
        running = match started[..] {
            [start] => start,
            _ => {
                hand.wait(hand.next());
                hand.start()
            }
        };
    }
    silent(&mut hand, running.0, silence(true, 1));
    assert!(aborted(&hand).is_empty(), "a worker that is only slow would cost it its end");
}

#[test]
fn a_suspected_worker_that_does_not_answer_fails_and_comes_back_when_it_does() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    silent(&mut hand, lease, silence(true, 1));
    for after in [0, 1, 2] {
        hand.wait(Duration::from_secs(after));
        assert!(after == 0 || hand.probes() == 1, "after {after} s");
        probed(&mut hand, 1, false);
    }
    assert_eq!(view(&hand, 1).state, WorkerState::Failed);
    hand.end(lease, AttemptResult::Failed(error(ErrorKind::WorkerFault)), 1);
    probed(&mut hand, 1, true);
    let trusted = |effect: &Effect| matches!(effect, Effect::Note(Note::WorkerTrusted(_)));
    assert!(hand.find(|effect| trusted(effect).then_some(())).is_some());
    hand.wait(Duration::from_secs(2));
    let (lease, _, id) = hand.start();
    assert_eq!(id, parts::worker(1));
    // In its trial it fails at once, and is probed soon, because it had recovered before.
    silent(&mut hand, lease, silence(true, 1));
    probed(&mut hand, 1, false);
    assert_eq!(view(&hand, 1).state, WorkerState::Failed);
    hand.wait(Duration::from_secs(1));
    assert_eq!(hand.probes(), 1);
}

#[test]
fn what_is_said_of_attempts_that_are_over_changes_nothing() {
    let mut hand = apart(1);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.done(lease);
    silent(&mut hand, lease, silence(true, 1));
    hand.feed(Input::Heard { lease });
    assert!(hand.effects.is_empty() && !view(&hand, 1).suspected);
    assert!(hand.engine.is_quiet());
}
