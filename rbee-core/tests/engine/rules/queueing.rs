//! Which jobs the policy is asked about and when, and how jobs end that never run.

use std::{sync::Arc, time::Duration};

use rbee_core::{
    ErrorKind, Outcome, Placement, Priority, Settings,
    engine::{AttemptResult, Command, Effect, Input},
    id::Epoch,
    job::{JobStatus, LiveJob},
    registry::{JobRecord, Snapshot, TokenChunk},
    settings::KeepRequests,
    time::WallTime,
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

#[test]
fn batch_gets_its_turn_in_every_model_and_from_every_tenant() {
    let mut hand = Hand::with(&[worker(1, 0, 1), worker(2, 1, 1)]);
    for model in 0..2 {
        for n in 0..40 {
            let mut job = parts::job(100 * model + n + 1, parts::model(model as usize));
            if n < 4 {
                job.priority = Priority::Batch;
            }
            job.tenant = Some(format!("tenant-{}", n % 2).parse().unwrap());
            hand.submit(job);
        }
    }
    for model in 0..2_u128 {
        let worker = parts::worker(model + 1);
        let mut order = Vec::new();
        // The running job started when it was submitted; continue from its end.
        let mut lease = hand.first_leases.get(&worker).copied();
        while let Some(this) = lease {
            hand.done(this);
            let next = hand.starts().into_iter().find(|start| start.2 == worker);
            lease = next.map(|(lease, job, _)| {
                order.push((0..300).find(|n| parts::job_id(*n) == job).unwrap() - 100 * model);
                lease
            });
        }
        let last_batch = order.iter().position(|n| *n == 4).unwrap();
        assert!(
            last_batch < 3 * 9 + 1,
            "the last of the batch jobs is served {last_batch}th: {order:?}"
        );
        let tenants: Vec<_> = order.iter().filter(|n| **n > 4).map(|n| n % 2).collect();
        assert!(
            tenants.windows(3).all(|three| three.iter().any(|t| *t != three[0])),
            "{tenants:?}"
        );
    }
}

#[test]
fn a_models_parked_backlog_costs_other_models_nothing() {
    let mut hand = Hand::with(&[worker(1, 0, 1), worker(2, 1, 1)]);
    (0..200).for_each(|n| hand.job(n, 0));
    hand.asked.clear();
    for n in 1_000..1_050 {
        hand.job(n, 1);
        hand.done(hand.start().0);
    }
    assert_eq!(hand.asked.len(), 50, "one question for each job, none about the backlog");
}

#[test]
fn a_freed_slot_costs_one_question_however_many_wait() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(0, 0);
    let mut lease = hand.start().0;
    (1..200).for_each(|n| hand.job(n, 0));
    hand.asked.clear();
    for _ in 0..100 {
        hand.done(lease);
        lease = hand.start().0;
    }
    // The policy is asked about the next job too, and answers to wait.
    assert!(hand.asked.len() <= 200, "{}", hand.asked.len());
}

#[test]
fn an_answer_to_wait_that_a_freed_slot_overtook_is_asked_again() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.answers = false;
    hand.asked.clear();
    hand.job(2, 0);
    let (ticket, _) = hand.asked.pop().unwrap();
    hand.done(lease);
    hand.answer(ticket, Placement::Wait);
    let (ticket, _) = hand.asked.pop().expect("the slot that came free meanwhile is seen");
    hand.answer(ticket, Placement::Wait);
    assert!(hand.asked.is_empty(), "an answer that saw it stands");
}

#[test]
fn a_drain_admits_nothing_and_tells_once_when_the_last_job_has_ended() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    let drained = |hand: &Hand| hand.all(|e| matches!(e, Effect::Drained).then_some(())).len();
    hand.command(Command::Drain).unwrap();
    assert_eq!(drained(&hand), 0);
    hand.job(2, 0);
    let refused = hand.find(|e| match e {
        Effect::Accept { answer: Err(error), .. } => Some(error.kind()),
        _ => None,
    });
    assert_eq!(refused, Some(ErrorKind::ShuttingDown));
    hand.done(lease);
    assert_eq!((hand.finishes().len(), drained(&hand)), (1, 1));
    hand.command(Command::Drain).unwrap();
    assert_eq!(drained(&hand), 0);
}

pub(super) fn record(n: u128, request: bool, attempts: u32) -> JobRecord {
    let job = Arc::new(parts::job(n, parts::model(0)));
    JobRecord {
        id: job.id,
        tenant: None,
        model: job.model.clone(),
        priority: job.priority,
        status: JobStatus::Live(LiveJob::queued()),
        order: n as u64,
        submitted_at: WallTime::default(),
        attempts,
        restarts: 0,
        correlation_id: job.correlation_id.clone(),
        idempotency: None,
        owner: Epoch(1),
        request: request.then_some(job),
        outline: None,
        numerics: None,
        format: rbee_core::answer::AnswerFormat::default(),
        chunks: Vec::new(),
        vectors: None,
        output_kept: false,
        taken_over: false,
        tokens_generated: 0,
    }
}

pub(super) fn restore(hand: &mut Hand, jobs: Vec<JobRecord>) {
    let snapshot = Box::new(Snapshot { epoch: Epoch(1), jobs, ..Snapshot::default() });
    hand.feed(Input::Restore { snapshot });
}

#[test]
fn a_restored_job_without_its_request_or_its_retries_ends_and_the_others_keep_their_order() {
    let settings = Settings { keep_requests: KeepRequests::Never, ..Settings::default() };
    let mut hand = Hand::new(settings);
    restore(
        &mut hand,
        vec![record(5, true, 0), record(3, true, 0), record(4, false, 0), record(2, true, 4)],
    );
    let ended: Vec<_> = hand
        .finishes()
        .into_iter()
        .map(|(job, outcome)| match outcome {
            Outcome::Failed(error) => (job, error.kind()),
            other => panic!("{other:?}"),
        })
        .collect();
    let restarted = |n| (parts::job_id(n), ErrorKind::QueenRestarted);
    assert_eq!(ended, [restarted(4), restarted(2)]);
    let position = |n| hand.engine.position(parts::job_id(n));
    assert_eq!((position(3), position(5)), (Some(0), Some(1)));
}

#[test]
fn an_attempt_under_way_when_a_queen_dies_costs_no_try_but_not_without_end() {
    let running = |n, attempts, restarts| JobRecord {
        status: JobStatus::Live(LiveJob::queued().started(parts::worker(9), WallTime::default())),
        restarts,
        ..record(n, true, attempts)
    };
    let mut hand = Hand::with(&[]);
    // The fourth attempt of the first job, the twentieth restart of the second.
    restore(&mut hand, vec![running(1, 4, 1), running(2, 1, 20), running(3, 1, 21)]);
    let requeued = hand.all(|effect| match effect {
        Effect::Record { changes, .. } => match changes[..] {
            [rbee_core::registry::Change::JobRequeued { job, attempts }] => Some((job, attempts)),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(requeued, [(parts::job_id(1), 3), (parts::job_id(2), 0)]);
    match &hand.finishes()[..] {
        [(job, Outcome::Failed(error))] => {
            assert_eq!((*job, error.kind()), (parts::job_id(3), ErrorKind::QueenRestarted));
            assert!(
                error.message().contains("at 21 such ends in a row (setting restarts)"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_to_be_kept_is_not_in_the_record() {
    for (keep, kept) in [(KeepRequests::Never, false), (KeepRequests::UntilDone, true)] {
        let mut hand = Hand::new(Settings { keep_requests: keep, ..Settings::default() });
        hand.job(1, 0);
        let has_request = hand.find(|e| match e {
            Effect::Record { changes, .. } => match &changes[0] {
                rbee_core::registry::Change::JobQueued(record) => Some(record.request.is_some()),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(has_request, Some(kept));
    }
}

#[test]
fn an_accepted_job_that_could_not_be_recorded_is_refused_and_its_run_is_stopped() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.records = false;
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.feed(Input::Recorded { n: 1, result: Err(error(ErrorKind::Storage)) });
    let n = hand.find(|e| matches!(e, Effect::Abort { lease: l } if *l == lease).then_some(()));
    assert!(n.is_some(), "{:?}", hand.effects);
    assert!(
        hand.find(|e| matches!(e, Effect::Accept { answer: Err(_), .. }).then_some(())).is_some()
    );
    hand.records = true;
    hand.end(lease, AttemptResult::Aborted, 0);
    assert!(hand.engine.is_quiet());
}

#[test]
fn a_job_that_never_gets_a_worker_ends_with_the_limit_of_its_priority() {
    for (priority, limit) in [(Priority::Interactive, 600), (Priority::Batch, 24 * 3600)] {
        let mut hand = Hand::new(Settings::default());
        hand.hive(0, parts::added());
        let mut job = parts::job(1, parts::model(0));
        job.priority = priority;
        hand.submit(job);
        hand.wait(Duration::from_secs(limit) - Duration::from_micros(1));
        assert!(hand.finishes().is_empty());
        hand.wait(Duration::from_micros(1));
        assert_eq!(hand.failure(), ErrorKind::QueueTimeout);
        assert!(hand.engine.is_quiet());
    }
}

#[test]
fn an_attempt_that_ignores_its_abort_gives_its_slot_back_after_the_grace() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.feed(Input::Cancel { job: parts::job_id(1) });
    assert!(hand.finishes().is_empty());
    hand.wait(Duration::from_secs(5));
    assert_eq!(hand.finishes(), [(parts::job_id(1), Outcome::Cancelled)]);
    hand.job(2, 0);
    assert_eq!(hand.starts().len(), 1);
    hand.done(lease);
    assert_eq!(
        hand.engine.view().worker(parts::worker(1)).unwrap().leased,
        1,
        "the old lease is past"
    );
}

#[test]
fn the_timeout_counts_from_the_first_start_and_the_deadline_from_the_submission() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    let mut job = parts::job(2, parts::model(0));
    job.deadline = Some(Duration::from_secs(20));
    hand.submit(job);
    hand.wait(Duration::from_secs(20));
    assert_eq!(hand.failure(), ErrorKind::DeadlineExceeded);
    hand.job(3, 0);
    hand.wait(Duration::from_secs(10));
    hand.end(lease, AttemptResult::Aborted, 0);
    let (lease, job, _) = hand.start();
    assert_eq!((hand.failure(), job), (ErrorKind::JobTimeout, parts::job_id(3)));
    hand.wait(Duration::from_secs(29));
    assert!(hand.effects.is_empty(), "its 30 s began with its start");
    hand.done(lease);
}

#[test]
fn a_question_says_how_long_its_job_has_waited() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.job(2, 0);
    hand.now = hand.now + Duration::from_secs(5);
    hand.done(lease);
    let asked = hand.find(|effect| match effect {
        Effect::Consult { ask, .. } => Some((ask.job.id, ask.waited)),
        _ => None,
    });
    assert_eq!(asked, Some((parts::job_id(2), Duration::from_secs(5))));
}

/// A job whose answer had begun when the previous queen ended: a token for each of these ids.
fn begun(n: u128, ids: &[Option<u32>]) -> JobRecord {
    let status = LiveJob::queued().started(parts::worker(9), WallTime::default());
    JobRecord {
        status: JobStatus::Live(status),
        numerics: Some(parts::info(parts::worker(9), parts::hive(0), parts::model(0), 1).numerics),
        format: rbee_core::answer::AnswerFormat::default(),
        chunks: ids
            .iter()
            .map(|id| TokenChunk { id: *id, text: "x".into(), logprobs: None })
            .collect(),
        tokens_generated: u32::try_from(ids.len()).unwrap(),
        ..record(n, true, 1)
    }
}

#[test]
fn an_answer_that_cannot_be_continued_ends_with_the_restart_and_is_not_begun_again() {
    let why = "the stream had begun and cannot be continued elsewhere";
    let ended = |hand: &Hand| match &hand.finishes()[..] {
        [(job, Outcome::Failed(error))] => {
            assert_eq!(error.kind(), ErrorKind::QueenRestarted);
            assert!(error.message().contains(why), "{error}");
            *job
        }
        other => panic!("{other:?}"),
    };
    let mut hand = Hand::with(&[]);
    let jobs = vec![begun(1, &[Some(1), None]), begun(2, &[Some(1), Some(2)]), begun(3, &[])];
    restore(&mut hand, jobs);
    assert_eq!(ended(&hand), parts::job_id(1), "a token without an id");
    let position = |n| hand.engine.position(parts::job_id(n));
    assert_eq!((position(2), position(3)), (Some(0), Some(1)));

    for resumes in [true, false] {
        let mut only = worker(9, 0, 1);
        only.capabilities.resume = resumes;
        let mut hand = Hand::with(&[only]);
        restore(&mut hand, vec![begun(2, &[Some(1), Some(2)])]);
        match resumes {
            true => assert_eq!(hand.start().1, parts::job_id(2)),
            false => {
                assert_eq!(ended(&hand), parts::job_id(2), "no worker continues it");
                assert!(hand.starts().is_empty());
                restore(&mut hand, vec![begun(3, &[])]);
                assert_eq!(hand.start().1, parts::job_id(3), "the slot is free");
            }
        }
    }
}
