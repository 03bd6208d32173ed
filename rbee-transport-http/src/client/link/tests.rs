use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use futures_core::Stream;
use futures_util::task::{noop_waker, noop_waker_ref};
use proptest::prelude::*;
use rbee_core::{Error, ErrorKind, Output, Result};

use super::{
    shared::{Link, Shared},
    stream::RunStream,
};
use crate::{
    link::{self, FrameBuffer, kind, put},
    wire::worker::Execute,
};

/// A link without a connection: the test is the worker.
fn link() -> (Arc<Shared>, Arc<Link>) {
    let shared = Shared::new("worker:1".into());
    let link = Link::new(&shared);
    (shared, link)
}

fn execute() -> Execute {
    let page = include_str!("../../../../docs/worker-protocol.md");
    let block = page.split("```json execute\n").nth(1).unwrap();
    serde_json::from_str(block.split("```").next().unwrap()).unwrap()
}

/// Begins a run, to which the worker sends these bytes at once. Also returns whether the connection goes on.
fn begin(shared: &Shared, link: &Arc<Link>, bytes: &[u8]) -> (Option<Result<RunStream>>, bool) {
    let cx = &mut Context::from_waker(noop_waker_ref());
    let execute = execute();
    let mut begun = std::pin::pin!(RunStream::begin(link.clone(), &execute));
    assert!(begun.as_mut().poll(cx).is_pending());
    let goes_on = shared.dispatch(&mut FrameBuffer::new(bytes), &mut Vec::new()).is_ok();
    match begun.as_mut().poll(cx) {
        Poll::Ready(begun) => (Some(begun), goes_on),
        Poll::Pending => (None, goes_on),
    }
}

fn next(stream: &mut RunStream) -> Poll<Option<Result<Output>>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(noop_waker_ref()))
}

/// The frames that the client sends, after that of the run.
fn sent(shared: &Shared) -> Vec<(u8, u32, Vec<u8>)> {
    let mut unsent = BytesMut::new();
    shared.take_unsent(&mut unsent, &noop_waker());
    let mut buffer = FrameBuffer::new(&unsent);
    let mut frames = Vec::new();
    while let Some((frame, _)) = buffer.next_frame().unwrap() {
        if frame.kind != kind::RUN {
            frames.push((frame.kind, frame.run, frame.payload.to_vec()));
        }
    }
    frames
}

#[test]
fn credit_is_returned_as_the_reader_reads_and_not_before() {
    let (shared, link) = link();
    let mut bytes = BytesMut::new();
    put(&mut bytes, kind::ACCEPTED, 1, b"");
    let mut tokens = BytesMut::new();
    for _ in 0..40 {
        let at = link::begin(&mut tokens, kind::TOKENS, 1);
        link::put_token(&mut tokens, Some(1), &"x".repeat(1_000), None);
        assert!(link::finish(&mut tokens, at));
    }
    bytes.extend_from_slice(&tokens);
    let (begun, _) = begin(&shared, &link, &bytes);
    let mut stream = begun.unwrap().ok().unwrap();
    assert_eq!(sent(&shared), []);
    for _ in 0..40 {
        assert!(matches!(next(&mut stream), Poll::Ready(Some(Ok(Output::Token { .. })))));
    }
    assert_eq!(sent(&shared), [], "the frames are still held");
    assert!(next(&mut stream).is_pending());
    let all = u32::try_from(tokens.len()).unwrap();
    assert_eq!(sent(&shared), [(kind::CREDIT, 1, all.to_le_bytes().to_vec())]);
    drop(stream);
    assert_eq!(sent(&shared), [(kind::CANCEL, 1, Vec::new())]);
}

#[test]
fn runs_wait_while_the_connection_takes_nothing() {
    const RUNS: usize = 40;
    const PROMPT: usize = 100 << 10;
    let mut json = serde_json::to_value(execute()).unwrap();
    json["job"]["task"]["generate"]["prompt"] = serde_json::json!({"text": "x".repeat(PROMPT)});
    let execute: Execute = serde_json::from_value(json).unwrap();
    let (shared, link) = link();
    let cx = &mut Context::from_waker(noop_waker_ref());
    let mut begun: Vec<_> =
        (0..RUNS).map(|_| Box::pin(RunStream::begin(link.clone(), &execute))).collect();
    let mut sent = 0;
    while sent < RUNS {
        for run in &mut begun {
            assert!(run.as_mut().poll(cx).is_pending());
        }
        let mut unsent = BytesMut::new();
        shared.take_unsent(&mut unsent, &noop_waker());
        // A megabyte, and the frame that goes beyond it.
        assert!(unsent.len() < (1 << 20) + PROMPT + 1_000, "{} bytes are unsent", unsent.len());
        let mut frames = FrameBuffer::new(&unsent);
        while let Some((frame, _)) = frames.next_frame().unwrap() {
            sent += 1;
            assert_eq!((frame.kind, frame.run as usize), (kind::RUN, sent));
        }
        assert!(!unsent.is_empty(), "{sent} runs are sent, and the others wait");
    }
}

#[test]
fn a_worker_that_sends_more_than_the_credit_of_a_run_loses_the_link() {
    let token = |run: u32, bytes: usize| {
        let mut frame = BytesMut::new();
        let at = link::begin(&mut frame, kind::TOKENS, run);
        link::put_token(&mut frame, None, &"x".repeat(bytes), None);
        assert!(link::finish(&mut frame, at));
        frame
    };
    let (shared, link) = link();
    let mut bytes = BytesMut::new();
    put(&mut bytes, kind::ACCEPTED, 1, b"");
    // What takes no credit is not kept, however often it comes: only the first of these.
    for _ in 0..100_000 {
        put(&mut bytes, kind::ACCEPTED, 1, b"and more");
        put(&mut bytes, 99, 1, b"of a newer version");
    }
    let (begun, goes_on) = begin(&shared, &link, &bytes);
    let mut stream = begun.unwrap().ok().unwrap();
    assert!(goes_on && stream.held() < 1_000, "{} bytes are held", stream.held());
    // The last frame may be larger than the rest of the credit.
    let credit = RunStream::CREDIT as usize;
    let first = token(1, 10);
    for frame in [&first, &token(1, 2 * credit)] {
        shared.dispatch(&mut FrameBuffer::new(frame), &mut Vec::new()).unwrap();
    }
    let next = shared.dispatch(&mut FrameBuffer::new(&first), &mut Vec::new()).unwrap_err();
    assert_eq!(next.kind(), ErrorKind::WorkerFault);
    assert!(next.message().contains("credit"), "{next}");
    // With the credit that is returned it may go on.
    let taken = std::iter::from_fn(|| match super::tests::next(&mut stream) {
        Poll::Ready(Some(Ok(Output::Token { .. }))) => Some(()),
        _ => None,
    });
    assert_eq!(taken.count(), 2);
    shared.dispatch(&mut FrameBuffer::new(&first), &mut Vec::new()).unwrap();
}

#[test]
fn a_run_that_has_ended_is_not_cancelled_and_gets_no_credit() {
    let (shared, link) = link();
    let mut bytes = BytesMut::new();
    put(&mut bytes, kind::ACCEPTED, 1, b"");
    let at = link::begin(&mut bytes, kind::VECTORS, 1);
    link::put_vectors(&mut bytes, &[vec![0.5; 30_000]]);
    assert!(link::finish(&mut bytes, at));
    let end = br#"{"finish":"stop","usage":{"prompt_tokens":1,"completion_tokens":0}}"#;
    put(&mut bytes, kind::END, 1, end);
    let (begun, _) = begin(&shared, &link, &bytes);
    let mut stream = begun.unwrap().ok().unwrap();
    assert!(matches!(next(&mut stream), Poll::Ready(Some(Ok(Output::Vectors(_))))));
    assert!(matches!(next(&mut stream), Poll::Ready(Some(Ok(Output::End { .. })))));
    assert!(matches!(next(&mut stream), Poll::Ready(None)));
    drop(stream);
    assert_eq!(sent(&shared), []);
}

#[test]
fn what_has_arrived_before_a_link_is_lost_is_read_and_an_end_among_it_stands() {
    let end = br#"{"finish":"stop","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    for has_ended in [true, false] {
        let (shared, link) = link();
        let mut bytes = BytesMut::new();
        put(&mut bytes, kind::ACCEPTED, 1, b"");
        let (begun, _) = begin(&shared, &link, &bytes);
        let mut stream = begun.unwrap().ok().unwrap();
        bytes.clear();
        let at = link::begin(&mut bytes, kind::TOKENS, 1);
        link::put_token(&mut bytes, Some(1), "a", None);
        assert!(link::finish(&mut bytes, at));
        if has_ended {
            put(&mut bytes, kind::END, 1, end);
        }
        shared.dispatch(&mut FrameBuffer::new(&bytes), &mut Vec::new()).unwrap();
        shared.lose("the worker has closed the connection");
        assert!(matches!(next(&mut stream), Poll::Ready(Some(Ok(Output::Token { .. })))));
        match next(&mut stream) {
            Poll::Ready(Some(Ok(Output::End { .. }))) => assert!(has_ended),
            Poll::Ready(Some(Err(error))) => {
                assert!(!has_ended && error.kind() == ErrorKind::WorkerLost, "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(next(&mut stream), Poll::Ready(None)));
    }
}

#[test]
fn an_error_of_the_connection_ends_it_with_the_message_of_the_worker() {
    let (shared, _link) = link();
    let mut bytes = BytesMut::new();
    put(&mut bytes, kind::ERROR, 0, br#"{"code":"INVALID_REQUEST","message":"no such thing"}"#);
    let error: Error = shared.dispatch(&mut FrameBuffer::new(&bytes), &mut Vec::new()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidRequest, "no such thing"));
}

fn frames() -> impl Strategy<Value = Vec<(u8, u32, Vec<u8>)>> {
    let json = prop::sample::select(vec![
        &br#"{"finish":"stop","usage":{"prompt_tokens":1,"completion_tokens":0}}"#[..],
        br#"{"code":"WORKER_BUSY","message":"full"}"#,
        br#"{"prompt_tokens":3,"prefill":{"secs":0,"nanos":1}}"#,
    ]);
    let payload =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..24), json.prop_map(<[u8]>::to_vec),];
    let kind = prop_oneof![9 => kind::ACCEPTED..=kind::PONG, 1 => any::<u8>()];
    let run = prop_oneof![9 => Just(1_u32), 1 => 0..3_u32];
    proptest::collection::vec((kind, run, payload), 0..10)
}

proptest! {
    #[test]
    fn any_frames_of_a_worker_are_read_without_a_panic_and_nothing_follows_an_end(
        frames in frames(),
        is_accepted: bool,
        rest in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let (shared, link) = link();
        let mut bytes = BytesMut::new();
        if is_accepted {
            put(&mut bytes, kind::ACCEPTED, 1, b"");
        }
        for (kind, run, payload) in frames {
            put(&mut bytes, kind, run, &payload);
        }
        bytes.extend_from_slice(&rest);
        let (begun, goes_on) = begin(&shared, &link, &bytes);
        if !goes_on {
            shared.lose("the connection has ended");
        }
        if let Some(Ok(mut stream)) = begun {
            let mut is_over = false;
            // A token takes at least two bytes.
            for _ in 0..bytes.len() + 2 {
                match next(&mut stream) {
                    Poll::Ready(Some(item)) => {
                        prop_assert!(!is_over, "{:?} after the end", item);
                        is_over = matches!(item, Err(_) | Ok(Output::End { .. }));
                    }
                    Poll::Ready(None) => {
                        prop_assert!(is_over);
                        break;
                    }
                    Poll::Pending => {
                        prop_assert!(goes_on && !is_over);
                        break;
                    }
                }
            }
        }
    }
}
