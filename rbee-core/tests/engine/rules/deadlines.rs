//! Deadlines: a job that cannot finish in time is refused at once; no other job is.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, Finish, Job, TenantId, Usage,
    engine::{AttemptResult, Effect},
    request::{Prompt, Sampling, Task},
};

use super::{
    hand::{Hand, worker},
    parts,
};

/// A job of this tenant with an answer of 100 tokens at most.
fn job(n: u128, tenant: &str) -> Job {
    let mut job = parts::job(n, parts::model(0));
    job.tenant = Some(TenantId::new(tenant).unwrap());
    with_answer(&mut job, 100);
    job
}

fn with_answer(job: &mut Job, max_tokens: u32) {
    let sampling = Sampling { max_tokens: Some(max_tokens), ..Sampling::default() };
    job.task = Task::Generate { prompt: Prompt::Text("hello".into()), sampling };
}

fn submit(hand: &mut Hand, job: Job) -> Option<Error> {
    hand.submit(job);
    hand.find(|effect| match effect {
        Effect::Accept { answer, .. } => Some(answer.clone().err()),
        _ => None,
    })
    .expect("a submission is answered")
}

/// A worker with one slot: a job of acme took 10 s on it and wrote 100 tokens, and another job is running.
fn learned() -> Hand {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    assert_eq!(submit(&mut hand, job(1, "acme")), None);
    let lease = hand.start().0;
    hand.wait(Duration::from_secs(10));
    let usage = Usage { prompt_tokens: 1, completion_tokens: 100, ..Usage::default() };
    hand.end(lease, AttemptResult::Done { finish: Finish::Stop, usage, stop_text: None }, 100);
    assert_eq!(submit(&mut hand, job(2, "acme")), None);
    hand
}

fn within(seconds: u64, mut job: Job) -> Job {
    job.deadline = Some(Duration::from_secs(seconds));
    job
}

#[test]
fn what_its_own_tenant_has_waiting_before_it_counts_and_nothing_before_anything_is_learned() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    assert_eq!(submit(&mut hand, within(1, job(1, "acme"))), None);

    let mut hand = learned();
    (10..13).for_each(|n| assert_eq!(submit(&mut hand, job(n, "acme")), None));
    assert_eq!(submit(&mut hand, within(40, job(20, "acme"))), None, "three wait, of 10 s each");
    let error = submit(&mut hand, within(49, job(21, "acme"))).unwrap();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.message().contains("4 jobs are ahead of it on 1 slots"), "{error}");
    assert_eq!(submit(&mut hand, within(50, job(22, "acme"))), None);
}

#[test]
fn the_backlog_of_others_is_no_reason_for_the_shares_may_let_it_go_first() {
    let mut hand = learned();
    (10..60).for_each(|n| assert_eq!(submit(&mut hand, job(n, "other")), None));
    assert_eq!(submit(&mut hand, within(10, job(60, "acme"))), None);
    assert_eq!(submit(&mut hand, within(1, job(61, "new"))), None, "nothing is learned of it");
}

#[test]
fn a_job_that_goes_first_by_its_rank_and_one_with_a_short_answer_are_not_refused() {
    let mut hand = learned();
    (10..15).for_each(|n| assert_eq!(submit(&mut hand, job(n, "acme")), None));
    let mut first = within(10, job(20, "acme"));
    first.rank = -1;
    assert_eq!(submit(&mut hand, first.clone()), None);
    first.id = parts::job_id(21);
    first.deadline = Some(Duration::from_secs(9));
    assert!(submit(&mut hand, first.clone()).is_some(), "it takes 10 s itself");
    with_answer(&mut first, 1);
    first.rank = -2;
    first.deadline = Some(Duration::from_millis(100));
    assert_eq!(submit(&mut hand, first), None, "one token of a hundred");
    // From now on one of the previous ones may be as short.
    assert_eq!(submit(&mut hand, within(11, job(22, "acme"))), None);
}
