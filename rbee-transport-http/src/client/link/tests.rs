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
