//! Admission by policy: the question before a job joins the queue, and the effect of each answer.

use std::{sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, Job, JobId, Placement, Settings,
    engine::{Advice, Decider, Effect, Input, Note, Question, Submission, Submitted},
    id::{Epoch, Ticket},
    job::Idempotency,
    registry::{Change, JobRecord, Snapshot},
    scheduler::Admission,
    time::WallTime,
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

/// One worker with two slots, under a policy that admits jobs.
fn hand() -> Hand {
    let mut hand = Hand::with(&[worker(1, 0, 2)]);
    hand.feed(Input::PolicyChanged { admits: true });
    hand
}

fn admit(hand: &mut Hand, ticket: Ticket, admission: Admission) {
    hand.feed(Input::Advised { ticket, advice: Advice::Admission(admission) });
}

/// The admission question that the last input caused.
fn question(hand: &Hand) -> Option<Ticket> {
    hand.find(|effect| match effect {
        Effect::Consult { ticket, question: Question::Admit, .. } => Some(*ticket),
        _ => None,
    })
}

fn recorded(hand: &Hand) -> Vec<Arc<Job>> {
    let queued = |change: &Change| match change {
        Change::JobQueued(record) => record.request.clone(),
        _ => None,
    };
    let changes = hand.all(|effect| match effect {
        Effect::Record { changes, .. } => Some(changes.clone()),
        _ => None,
    });
    changes.iter().flatten().filter_map(queued).collect()
}

fn answers(hand: &Hand) -> Vec<(u64, Result<Submitted, ErrorKind>)> {
    hand.all(|effect| match effect {
        Effect::Accept { n, answer, .. } => Some((*n, answer.clone().map_err(|why| why.kind()))),
        _ => None,
    })
}

/// Job `n`, with its own idempotency key.
fn keyed(n: u128, fingerprint: u64) -> Job {
    let key = format!("key-{n}").into();
    let idempotency = Some(Arc::new(Idempotency { key, part: 0, fingerprint }));
    Job { idempotency, ..parts::job(n, parts::model(0)) }
}

#[test]
fn a_job_joins_the_queue_with_the_rank_that_the_policy_gives_and_not_before() {
    let mut hand = hand();
    hand.job(1, 0);
    let ticket = question(&hand).expect("the policy is asked");
    assert!(recorded(&hand).is_empty() && !hand.engine.has_job(parts::job_id(1)));
    assert!(!hand.engine.is_quiet(), "a question is out");
    admit(&mut hand, ticket, Admission::Accept { rank: -4 });
    assert_eq!(recorded(&hand)[0].rank, -4);
    assert_eq!(answers(&hand), [(1, Ok(Submitted::Accepted))]);
    assert_eq!(hand.start().1, parts::job_id(1));
}

#[test]
fn a_job_that_the_policy_refuses_is_answered_and_nothing_of_it_is_recorded() {
    let mut hand = hand();
    hand.job(1, 0);
    let ticket = question(&hand).unwrap();
    admit(&mut hand, ticket, Admission::Refuse(error(ErrorKind::Rejected)));
    assert_eq!(answers(&hand), [(1, Err(ErrorKind::Rejected))]);
    assert!(recorded(&hand).is_empty() && hand.engine.is_quiet());
    assert!(
        hand.find(|e| matches!(e, Effect::Note(Note::RefusedByPolicy(..))).then_some(())).is_some()
    );
    assert_eq!(hand.engine.policy_health().faults, 0);
    admit(&mut hand, ticket, Admission::default());
    assert!(recorded(&hand).is_empty(), "a second answer counts for nothing");
}

#[test]
fn a_policy_that_fails_to_admit_lets_jobs_in_and_is_asked_nothing_more_after_five_faults() {
    let mut hand = hand();
    for n in 1..=5 {
        hand.job(n, 0);
        let ticket = question(&hand).expect("it is asked");
        let advice = match n {
            // An answer to another question does not count.
            2 => Advice::Placement(Placement::Wait),
            _ => Advice::Failed(error(ErrorKind::Internal)),
        };
        hand.feed(Input::Advised { ticket, advice });
        assert_eq!(recorded(&hand)[0].rank, 0);
        assert_eq!(hand.engine.policy_health().faults, n as u64);
    }
    assert!(hand.engine.policy_health().is_suspended);
    let told = hand.all(|effect| match effect {
        Effect::Note(Note::PolicySuspended(error)) => Some(error.clone()),
        _ => None,
    });
    assert_eq!(told.len(), 1);
    hand.answers = false;
    hand.job(6, 1);
    assert_eq!(question(&hand), None);
    let asked = hand.find(|effect| match effect {
        Effect::Consult { question, .. } => Some(*question),
        _ => None,
    });
    assert_eq!(asked, Some(Question::Place(Decider::BuiltIn)));
    hand.feed(Input::PolicyChanged { admits: true });
    hand.job(7, 1);
    assert!(question(&hand).is_some(), "the next policy begins anew");
}

#[test]
fn what_a_policy_that_was_replaced_answers_is_heeded_and_says_nothing_of_the_next_one() {
    let mut hand = hand();
    hand.job(1, 0);
    hand.job(2, 0);
    let tickets = [hand.admissions[0].0, hand.admissions[1].0];
    hand.feed(Input::PolicyChanged { admits: false });
    admit(&mut hand, tickets[0], Admission::Refuse(error(ErrorKind::Rejected)));
    assert_eq!(answers(&hand), [(1, Err(ErrorKind::Rejected))]);
    hand.feed(Input::Advised {
        ticket: tickets[1],
        advice: Advice::Failed(error(ErrorKind::Internal)),
    });
    assert_eq!(answers(&hand), [(2, Ok(Submitted::Accepted))]);
    assert_eq!(*hand.engine.policy_health(), Default::default());
    hand.job(3, 0);
    assert_eq!(question(&hand), None, "this one does not admit");
}

#[test]
fn a_repeat_while_the_policy_thinks_is_answered_with_the_first_and_a_conflict_at_once() {
    let mut hand = hand();
    hand.submit(keyed(1, 7));
    let ticket = question(&hand).unwrap();
    hand.submit(keyed(1, 7));
    assert!(question(&hand).is_none() && answers(&hand).is_empty(), "it is asked about once");
    hand.submit(keyed(1, 8));
    assert_eq!(answers(&hand), [(3, Err(ErrorKind::Conflict))]);
    admit(&mut hand, ticket, Admission::default());
    assert_eq!(recorded(&hand).len(), 1);
    assert_eq!(answers(&hand), [(2, Ok(Submitted::Before)), (1, Ok(Submitted::Accepted))]);
    hand.submit(keyed(1, 7));
    assert_eq!(answers(&hand), [(4, Ok(Submitted::Before))]);
    hand.submit(keyed(1, 8));
    assert_eq!(answers(&hand), [(5, Err(ErrorKind::Conflict))]);
    // Without a key it is not recognized as the same job.
    hand.job(9, 0);
    let ticket = question(&hand).unwrap();
    hand.job(9, 0);
    assert_eq!(answers(&hand), [(7, Err(ErrorKind::InvalidRequest))]);
    admit(&mut hand, ticket, Admission::default());

    hand.submit(keyed(2, 7));
    let ticket = question(&hand).unwrap();
    hand.submit(keyed(2, 7));
    admit(&mut hand, ticket, Admission::Refuse(error(ErrorKind::Rejected)));
    assert_eq!(answers(&hand).len(), 2, "both are refused");
}

#[test]
fn a_job_whose_client_went_away_while_the_policy_thought_does_not_join() {
    let mut hand = hand();
    let job = parts::job_id(1);
    hand.submit(keyed(1, 7));
    let ticket = question(&hand).unwrap();
    hand.feed(Input::Withdraw { n: 1, job });
    hand.feed(Input::Advised { ticket, advice: Advice::Failed(error(ErrorKind::Internal)) });
    assert!(recorded(&hand).is_empty() && answers(&hand).is_empty() && hand.engine.is_quiet());
    assert_eq!(hand.engine.policy_health().faults, 1, "the policy failed anyway");

    // Another caller waits for it.
    hand.submit(keyed(1, 7));
    let ticket = question(&hand).unwrap();
    hand.submit(keyed(1, 7));
    hand.feed(Input::Withdraw { n: 2, job });
    admit(&mut hand, ticket, Admission::default());
    assert_eq!(answers(&hand), [(3, Ok(Submitted::Accepted))]);
    hand.feed(Input::Withdraw { n: 3, job });
    assert!(hand.engine.has_job(job), "what has joined is left alone");
}

#[test]
fn a_job_that_is_cancelled_while_the_policy_thinks_is_answered_and_does_not_join() {
    let mut hand = hand();
    hand.submit(keyed(1, 7));
    let ticket = question(&hand).unwrap();
    hand.feed(Input::Cancel { job: parts::job_id(1) });
    assert_eq!(answers(&hand), [(1, Err(ErrorKind::Cancelled))]);
    admit(&mut hand, ticket, Admission::default());
    assert!(recorded(&hand).is_empty() && hand.engine.is_quiet());
}

#[test]
fn a_job_that_was_taken_over_from_another_queen_while_the_policy_thought_is_not_done_twice() {
    let mut hand = hand();
    hand.submit(keyed(1, 7));
    let ticket = question(&hand).unwrap();
    let (order, submitted) = (1, WallTime::default());
    let record = JobRecord::queued(Arc::new(keyed(1, 7)), order, submitted, Epoch(1));
    let snapshot = Snapshot { jobs: vec![record], ..Snapshot::default() };
    hand.feed(Input::Restore { snapshot: Box::new(snapshot) });
    assert_eq!(hand.start().1, parts::job_id(1));
    admit(&mut hand, ticket, Admission::default());
    assert_eq!(answers(&hand), [(1, Ok(Submitted::Before))]);
    assert!(recorded(&hand).is_empty() && hand.starts().is_empty());
}

#[test]
fn a_question_that_nobody_has_time_for_is_no_fault() {
    let mut hand = hand();
    hand.answers = false;
    hand.job(1, 0);
    let ticket = question(&hand).unwrap();
    hand.feed(Input::Advised { ticket, advice: Advice::NoTime });
    assert_eq!(recorded(&hand).len(), 1);
    // So is a placement question: the built-in policy decides it at once.
    let (ticket, job) = hand.asked[0];
    hand.feed(Input::Advised { ticket, advice: Advice::NoTime });
    let health = hand.engine.policy_health();
    assert_eq!((health.passed_over, health.faults), (2, 0));
    let asked = hand.find(|effect| match effect {
        Effect::Consult { question, ask, .. } => Some((*question, ask.job.id)),
        _ => None,
    });
    assert_eq!(asked, Some((Question::Place(Decider::BuiltIn), job)));
    // A late answer has no effect.
    hand.answer(ticket, Placement::Wait);
    let unheeded = |effect: &Effect| matches!(effect, Effect::Unheeded { .. }).then_some(());
    assert!(hand.find(unheeded).is_some());
}

#[test]
fn jobs_that_are_submitted_together_take_the_free_slots_beside_each_other() {
    for admits in [false, true] {
        let mut hand = Hand::new(Settings { queue_capacity: 1, ..Settings::default() });
        hand.hive(0, parts::added());
        let workers = [worker(1, 0, 5)];
        hand.report(0, 1, &workers);
        hand.connect(&workers);
        hand.feed(Input::PolicyChanged { admits });
        // Meanwhile nothing decides where they run.
        hand.answers = false;
        let submissions =
            (1..=6).map(|n| Submission::new(n, Arc::new(parts::job(n.into(), parts::model(0)))));
        hand.feed(Input::SubmitAll(submissions.collect()));
        let mut told = answers(&hand);
        for (ticket, _) in std::mem::take(&mut hand.admissions) {
            admit(&mut hand, ticket, Admission::default());
            told.extend(answers(&hand));
        }
        let accepted: Vec<_> = (1..=6).map(|n| (n, Ok(Submitted::Accepted))).collect();
        assert_eq!(told, accepted, "five run, one waits (admits: {admits})");
        let more =
            (7..=8).map(|n| Submission::new(n, Arc::new(parts::job(n.into(), parts::model(0)))));
        hand.feed(Input::SubmitAll(more.collect()));
        let refused = Err(ErrorKind::SystemAtCapacity);
        assert_eq!(answers(&hand), [(7, refused), (8, refused)], "all or none");
    }
}

#[test]
fn the_seed_of_a_request_that_names_none_follows_from_the_engines() {
    let seeds = |waits: bool| -> Vec<u64> {
        let mut hand = Hand::with(&[worker(1, 0, 8)]);
        let mut seeds = Vec::new();
        for n in 1..=4 {
            let submission = Submission {
                has_seed: n == 2,
                ..Submission::new(n, Arc::new(parts::job(n.into(), parts::model(0))))
            };
            hand.feed(Input::Submit(submission));
            seeds.push(recorded(&hand)[0].seed);
            if waits {
                hand.wait(Duration::from_secs(7));
            }
        }
        seeds
    };
    let one = seeds(false);
    assert_eq!(one[1], 1, "this one is named");
    assert!(one[0] != one[2] && one[2] != one[3]);
    assert_eq!(one, seeds(true), "whatever else was drawn meanwhile");
}

#[test]
fn an_answer_that_does_not_fit_is_no_fault_at_first() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.answers = false;
    hand.job(1, 0);
    for n in 1..=3 {
        let (ticket, _) = hand.asked.pop().unwrap();
        hand.answer(ticket, Placement::Assign(parts::worker(77)));
        let unheeded = hand.all(|effect| match effect {
            Effect::Unheeded { ticket } => Some(*ticket),
            _ => None,
        });
        assert_eq!(unheeded, [ticket]);
        assert_eq!(hand.engine.policy_health().faults, u64::from(n == 3));
    }
    let (id, why): (JobId, Error) =
        (hand.asked.pop().unwrap().1, hand.engine.policy_health().last_fault.clone().unwrap().1);
    assert_eq!(id, parts::job_id(1), "the built-in policy is asked");
    assert!(why.message().contains("there is no such worker"), "{why}");
}
