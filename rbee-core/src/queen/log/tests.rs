use crate::answer::AnswerFormat;
use std::{
    ops::ControlFlow,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::task::{ArcWake, waker};

use super::*;
use crate::event::{Finish, JobEvent};

const MOST: usize = 1_000;
const STARTED: Started = Started {
    worker: None,
    queue_wait: std::time::Duration::ZERO,
    format: AnswerFormat { tools: None, reasoning: None, calls_alone: false },
};

fn token(id: u32) -> Output {
    Output::Token { id: Some(id), text: format!("t{id}").into(), logprobs: None }
}

fn done() -> Outcome {
    Outcome::Complete {
        finish: Finish::Stop,
        usage: crate::event::Usage::default(),
        stop_text: None,
    }
}

struct Count(AtomicUsize);

impl ArcWake for Count {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads everything that is available now.
fn read(events: &mut JobEvents, count: &Arc<Count>) -> Vec<JobEvent> {
    let waker = waker(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut seen = Vec::new();
    while let Poll::Ready(Some(event)) = Pin::new(&mut *events).poll_next(&mut context) {
        seen.push(event);
    }
    seen
}

fn texts(events: &[JobEvent]) -> Vec<&str> {
    let text = |event| match event {
        &JobEvent { kind: EventKind::Token { ref text, .. }, .. } => Some(&**text),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn an_attempt_that_lost_the_write_lease_writes_no_more() {
    let log = Arc::new(EventLog::default());
    log.begin(LeaseId(1), STARTED);
    assert_eq!(log.push(LeaseId(1), token(1), MOST), Pushed::Written);
    let resume = log.begin(LeaseId(2), STARTED);
    assert_eq!((resume.tokens, resume.text_bytes), (vec![1], 2));
    assert_eq!(log.push(LeaseId(1), token(9), MOST), Pushed::LostWriteLease);
    assert_eq!(log.push(LeaseId(2), token(2), MOST), Pushed::Written);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    assert_eq!(texts(&read(&mut log.read(None), &count)), ["t1", "t2"]);
}

#[test]
fn nothing_follows_the_one_terminal_event() {
    let log = Arc::new(EventLog::default());
    log.begin(LeaseId(1), STARTED);
    assert!(log.close(&done()));
    assert!(!log.close(&Outcome::Cancelled));
    // Not even an attempt that starts now can write.
    log.begin(LeaseId(2), STARTED);
    assert_eq!(log.push(LeaseId(2), token(1), MOST), Pushed::LostWriteLease);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let seen = read(&mut log.read(None), &count);
    assert!(matches!(
        seen[..],
        [
            JobEvent { seq: Some(0), kind: EventKind::Started(_) },
            JobEvent { seq: Some(1), kind: EventKind::End { .. } }
        ]
    ));
}

#[test]
fn a_reader_that_waits_is_woken_by_whatever_comes_next() {
    let log = Arc::new(EventLog::default());
    let (mut events, count) = (log.read(None), Arc::new(Count(AtomicUsize::new(0))));
    let mut wakes = 0;
    let mut woken = |log: &EventLog, change: &dyn Fn(&EventLog)| {
        assert!(!events.is_done());
        read(&mut events, &count);
        change(log);
        wakes += 1;
        assert_eq!(count.0.load(Ordering::Relaxed), wakes);
    };
    woken(&log, &|log| _ = log.begin(LeaseId(1), STARTED));
    woken(&log, &|log| _ = log.push(LeaseId(1), token(1), MOST));
    woken(&log, &|log| _ = log.push(LeaseId(1), Output::Metrics(Metrics::default()), MOST));
    woken(&log, &|log| _ = log.close(&done()));
}

#[test]
fn readers_that_are_gone_take_no_memory() {
    let log = Arc::new(EventLog::default());
    let _stays = log.read(None);
    let before = log.bytes();
    for _ in 0..1_000 {
        drop(log.read(None));
    }
    assert_eq!(log.bytes(), before);
}

#[test]
fn an_answer_that_is_too_long_is_not_written() {
    let log = EventLog::default();
    log.begin(LeaseId(1), STARTED);
    assert_eq!(log.push(LeaseId(1), token(1), 3), Pushed::Written);
    assert_eq!(log.push(LeaseId(1), token(2), 3), Pushed::TooLong);
    assert_eq!(log.progress(), (1, true));
}

#[test]
fn what_is_unsaved_is_handed_out_once() {
    let log =
        EventLog::taken_over(&[TokenChunk { id: Some(1), text: "a".into(), logprobs: None }], None);
    assert_eq!(log.take_unsaved(), None);
    log.begin(LeaseId(1), STARTED);
    log.push(LeaseId(1), token(2), MOST);
    let (at, chunks) = log.take_unsaved().unwrap();
    assert_eq!((at, chunks.len(), &*chunks[0].text), (1, 1, "t2"));
    assert_eq!(log.take_unsaved(), None);
}

#[test]
fn one_who_waits_for_the_end_is_woken_for_nothing_else() {
    let (log, lease, count) =
        (Arc::new(EventLog::default()), LeaseId(1), Arc::new(Count(0.into())));
    let mut events = log.read(None);
    let waker = waker(count.clone());
    let mut context = Context::from_waker(&waker);
    log.begin(lease, STARTED);
    {
        let mut ended = std::pin::pin!(events.ended());
        assert!(ended.as_mut().poll(&mut context).is_pending());
        for id in 0..5 {
            log.push(lease, token(id), MOST);
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        log.close(&done());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(ended.as_mut().poll(&mut context).is_ready());
    }
    assert_eq!(
        read(&mut events, &count).len(),
        7,
        "a start, five tokens, an end: nothing was read yet"
    );
}

#[test]
fn a_reader_may_have_enough_and_go_on_where_it_stopped() {
    let (log, lease, count) =
        (Arc::new(EventLog::default()), LeaseId(1), Arc::new(Count(0.into())));
    log.begin(lease, STARTED);
    let mut events = log.read(None);
    let waker = waker(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut seen = Vec::new();
    let mut two = |events: &mut JobEvents| {
        let mut left = 2;
        events.poll_read(&mut context, |seq, _| {
            seen.push(seq);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    for id in 0..2 {
        log.push(lease, token(id), MOST);
    }
    assert!(two(&mut events).is_ready(), "it has had enough");
    assert!(two(&mut events).is_pending(), "there is one more, and then none yet");
    log.close(&done());
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "it is woken for what it waits for");
    assert!(two(&mut events).is_ready() && events.is_done());
    assert!(two(&mut events).is_ready(), "after the last one there is nothing to wait for");
    assert_eq!(seen, [Some(0), Some(1), Some(2), Some(3)]);
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "the queen goes down")
}

#[test]
fn an_interrupted_log_gives_what_is_there_and_no_end_and_is_written_no_more() {
    let (log, count) = (Arc::new(EventLog::default()), Arc::new(Count(AtomicUsize::new(0))));
    log.begin(LeaseId(1), STARTED);
    log.push(LeaseId(1), token(1), MOST);
    let mut events = log.read(None);
    assert_eq!(read(&mut events, &count).len(), 2);
    assert!(!events.is_done() && events.interruption().is_none());
    log.interrupt(interrupted());
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "a waiting reader is woken");
    assert!(read(&mut events, &count).is_empty());
    assert!(events.is_done());
    assert_eq!(events.interruption(), Some(&interrupted()));
    // An attempt or an end that comes too late does not change that.
    assert_eq!(log.push(LeaseId(1), token(2), MOST), Pushed::LostWriteLease);
    log.begin(LeaseId(2), STARTED);
    assert_eq!(log.push(LeaseId(2), token(2), MOST), Pushed::LostWriteLease);
    assert!(!log.close(&done()));
    let mut late = log.read(None);
    assert_eq!(texts(&read(&mut late, &count)), ["t1"]);
    assert!(late.interruption().is_some());
}

#[test]
fn a_job_that_has_ended_is_not_interrupted() {
    let (log, count) = (Arc::new(EventLog::default()), Arc::new(Count(AtomicUsize::new(0))));
    log.begin(LeaseId(1), STARTED);
    log.close(&done());
    log.interrupt(interrupted());
    let mut events = log.read(None);
    assert_eq!(read(&mut events, &count).len(), 2);
    assert!(events.is_done() && events.interruption().is_none());
}

#[test]
fn one_who_waits_for_the_end_of_an_interrupted_log_waits_no_longer() {
    let (log, count) = (Arc::new(EventLog::default()), Arc::new(Count(0.into())));
    let mut events = log.read(None);
    let waker = waker(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut ended = std::pin::pin!(events.ended());
    assert!(ended.as_mut().poll(&mut context).is_pending());
    log.interrupt(interrupted());
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(ended.as_mut().poll(&mut context).is_ready());
}

/// The number and the name of each event for a reader that has read up to this number.
fn told(log: &Arc<EventLog>, after: u64) -> Vec<(Option<u64>, &'static str)> {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let name = |event: JobEvent| match event.kind {
        EventKind::Token { .. } => (event.seq, "token"),
        EventKind::End { .. } => (event.seq, "end"),
        EventKind::Error(_) => (event.seq, "error"),
        _ => (event.seq, "other"),
    };
    read(&mut log.read(Some(after)), &count).into_iter().map(name).collect()
}

#[test]
fn a_reader_at_any_place_gets_the_end_unless_it_has_read_it() {
    let chunk = |id| TokenChunk { id: Some(id), text: "a".into(), logprobs: None };
    let chunks = [chunk(1), chunk(2)];
    let log = |outcome: &Outcome, is_taken_over: bool| {
        let log = match is_taken_over {
            true => EventLog::taken_over(&chunks, Some(STARTED)),
            false => EventLog::restored(&chunks, Some(STARTED)),
        };
        log.close(outcome);
        Arc::new(log)
    };
    for is_taken_over in [false, true] {
        // The same tokens are produced again: an index in them is an index in the stream.
        let complete = log(&done(), is_taken_over);
        assert_eq!(told(&complete, 2), [(Some(3), "end")]);
        assert_eq!(told(&complete, 3), []);
        assert_eq!(told(&complete, 4), [(Some(3), "end")]);
    }
    let cancelled = log(&Outcome::Cancelled, false);
    assert_eq!(told(&cancelled, 2), [(Some(3), "error")]);
    assert_eq!(told(&cancelled, 3), []);
    assert_eq!(told(&cancelled, u64::MAX), [(Some(3), "error")]);
    // A reader of a previous run may have read more than was recorded: 3 may be the number of a token.
    let cut = log(&Outcome::Cancelled, true);
    for after in [2, 3, 4, 1_000, u64::MAX] {
        assert_eq!(told(&cut, after), [(Some(ERROR_AFTER_TAKE_OVER), "error")], "after {after}");
    }
    assert_eq!(told(&cut, 1), [(Some(2), "token"), (Some(ERROR_AFTER_TAKE_OVER), "error")]);
    assert_eq!(told(&cut, ERROR_AFTER_TAKE_OVER), []);
    let never_begun = EventLog::taken_over(&[], None);
    never_begun.close(&Outcome::Cancelled);
    assert_eq!(told(&Arc::new(never_begun), 7), [(Some(ERROR_AFTER_TAKE_OVER), "error")]);
}

fn with_logprobs(id: u32) -> Output {
    let of = |text: &str| crate::event::TokenLogprob {
        id: Some(id),
        text: text.into(),
        bytes: None,
        logprob: -0.5,
    };
    let logprobs = Logprobs { chosen: of("chosen"), top: vec![of("other")] };
    Output::Token { id: Some(id), text: "x".into(), logprobs: Some(Box::new(logprobs)) }
}

/// The ids in the log probabilities of each token.
fn logprobs(log: &Arc<EventLog>) -> Vec<Option<u32>> {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let events = read(&mut log.read(None), &count).into_iter();
    let of_token = |event: JobEvent| match event.kind {
        EventKind::Token { logprobs, .. } => Some(logprobs.and_then(|found| found.chosen.id)),
        _ => None,
    };
    events.filter_map(of_token).collect()
}

#[test]
fn log_probabilities_stay_with_their_token_and_are_stored_with_it() {
    let log = Arc::new(EventLog::default());
    let resume = log.begin(LeaseId(1), STARTED);
    assert!(resume.is_empty());
    for output in [token(1), with_logprobs(2), token(3), with_logprobs(4)] {
        assert_eq!(log.push(LeaseId(1), output, MOST), Pushed::Written);
    }
    let found = [None, Some(2), None, Some(4)];
    assert_eq!(logprobs(&log), found);
    let (_, chunks) = log.take_unsaved().unwrap();
    let restored = Arc::new(EventLog::taken_over(&chunks, Some(STARTED)));
    assert_eq!(logprobs(&restored), found);
    log.close(&done());
    assert_eq!(logprobs(&log), found);
}

#[test]
fn log_probabilities_count_as_a_part_of_the_answer() {
    let plain = EventLog::default();
    let log = EventLog::default();
    for log in [&plain, &log] {
        log.begin(LeaseId(1), STARTED);
    }
    let Output::Token { logprobs: Some(found), .. } = with_logprobs(1) else { panic!("none") };
    let each = found.memory_bytes();
    assert_eq!(log.push(LeaseId(1), with_logprobs(1), each), Pushed::TooLong, "with its text");
    let most = 2 * (each + 1);
    assert_eq!(log.push(LeaseId(1), with_logprobs(1), most), Pushed::Written);
    assert_eq!(log.push(LeaseId(1), with_logprobs(2), most), Pushed::Written);
    assert_eq!(log.push(LeaseId(1), with_logprobs(3), most), Pushed::TooLong);
    for _ in 0..2 {
        let token = Output::Token { id: Some(1), text: "x".into(), logprobs: None };
        assert_eq!(plain.push(LeaseId(1), token, most), Pushed::Written);
    }
    assert!(log.bytes() >= plain.bytes() + 2 * each, "{} {}", log.bytes(), plain.bytes());
}
