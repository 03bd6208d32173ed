//! The store as the engine sees it: readers get an end after it is recorded, or after a timeout, and only once.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, Outcome,
    engine::{Effect, Input, Note},
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A job that has ended; its end is handed in and not recorded yet.
fn ending() -> Hand {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    hand.job(1, 0);
    let (lease, ..) = hand.start();
    hand.records = false;
    hand.done(lease);
    hand
}

/// The record that the last input handed in.
fn record(hand: &Hand) -> Option<u64> {
    hand.find(|effect| match effect {
        Effect::Record { n, .. } => *n,
        _ => None,
    })
}

fn full() -> Error {
    error(ErrorKind::Storage).with_retry_after(Duration::from_secs(3))
}

#[test]
fn the_end_is_told_when_it_is_recorded() {
    let mut hand = ending();
    let n = record(&hand).expect("the end is handed in");
    hand.wait(TIMEOUT - Duration::from_millis(1));
    assert!(hand.finishes().is_empty());
    hand.feed(Input::Recorded { n, result: Ok(()) });
    assert_eq!(hand.finishes().len(), 1);
    assert!(hand.engine.is_quiet());
}

#[test]
fn an_end_that_is_not_recorded_in_time_is_told_once_and_recorded_later() {
    let mut hand = ending();
    let n = record(&hand).expect("the end is handed in");
    hand.wait(TIMEOUT);
    assert_eq!(hand.finishes().len(), 1, "a reader does not wait for ever");
    assert!(record(&hand).is_none(), "it is handed in already");
    assert!(!hand.engine.is_quiet(), "it is still to be recorded");
    hand.wait(Duration::from_secs(3_600));
    hand.feed(Input::Recorded { n, result: Ok(()) });
    assert!(hand.finishes().is_empty(), "it was sent before");
    assert!(hand.engine.is_quiet());
}

#[test]
fn an_end_that_the_store_gives_back_is_handed_in_again_until_it_is_recorded() {
    let mut hand = ending();
    let mut told = 0;
    for _ in 0..50 {
        let n = record(&hand).expect("the end is handed in");
        hand.feed(Input::Recorded { n, result: Err(full()) });
        hand.wait(hand.next());
        told += hand.finishes().len();
    }
    assert_eq!(told, 1);
    let n = record(&hand).expect("the end is handed in");
    hand.feed(Input::Recorded { n, result: Ok(()) });
    assert!(hand.finishes().is_empty() && hand.engine.is_quiet());
}

#[test]
fn an_end_that_is_refused_for_good_is_told_and_not_handed_in_again() {
    let mut hand = ending();
    let n = record(&hand).expect("the end is handed in");
    hand.feed(Input::Recorded { n, result: Err(error(ErrorKind::Fenced)) });
    assert!(matches!(&hand.finishes()[..], [(_, Outcome::Complete { .. })]));
    assert!(hand.engine.is_quiet());
}

#[test]
fn nothing_is_admitted_while_the_store_fails_and_the_client_is_told_when_to_come_back() {
    let mut hand = Hand::with(&[worker(1, 0, 2)]);
    hand.job(1, 0);
    for message in ["the disk is full", "the disk is still full"] {
        let fault =
            Error::new(ErrorKind::Storage, message).with_retry_after(Duration::from_secs(3));
        hand.feed(Input::Store { fault: Some(fault) });
        hand.wait(Duration::from_secs(1));
    }
    let fault = hand.engine.store_fault().unwrap();
    assert_eq!(fault.error.message(), "the disk is still full");
    assert_eq!(hand.now - fault.since, Duration::from_secs(2), "since the first failure");
    hand.job(2, 0);
    let answer = hand.find(|effect| match effect {
        Effect::Accept { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    let refused = answer.unwrap().unwrap_err();
    assert_eq!((refused.kind(), refused.kind().http_status()), (ErrorKind::Storage, 503));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(3)));
    assert!(!refused.message().contains("disk"), "the reason is for the operator");
    assert!(!hand.engine.has_job(parts::job_id(2)));

    hand.feed(Input::Store { fault: None });
    let back = hand.find(|effect| match effect {
        Effect::Note(Note::StoreBack(after)) => Some(*after),
        _ => None,
    });
    assert_eq!(back, Some(Duration::from_secs(2)));
    hand.job(3, 0);
    assert!(hand.engine.has_job(parts::job_id(3)));
}
