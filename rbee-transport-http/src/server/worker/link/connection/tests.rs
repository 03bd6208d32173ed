use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rbee_core::{Worker, worker::EchoWorker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{super::super::WorkerServer, *};
use crate::link::put;

fn execute() -> Vec<u8> {
    let page = include_str!("../../../../../../docs/worker-protocol.md");
    let block = page.split("```json execute\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
    serde_json::to_vec(&json).unwrap()
}

/// Sends these bytes to a worker and closes the connection in this direction. Returns what it sends.
async fn exchange(echo: &Arc<EchoWorker>, bytes: &[u8]) -> Vec<u8> {
    let server = WorkerServer::new(echo.info().id);
    server.ready(echo.clone());
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let taken = TakenOver { io: Box::new(far), read: Bytes::new(), stop: CancellationToken::new() };
    let serving = tokio::spawn(Connection::new(server.inner.clone(), taken).serve());
    // It may have ended before it has read everything.
    let _ = near.write_all(bytes).await;
    let _ = near.shutdown().await;
    let mut answer = Vec::new();
    let read = async {
        near.read_to_end(&mut answer).await.unwrap();
        serving.await.expect("no panic");
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the link ends");
    answer
}

fn frames() -> impl Strategy<Value = Vec<(u8, u32, Vec<u8>)>> {
    let credit = prop_oneof![Just(0_u32), Just(64), Just(65_536), any::<u32>()];
    let run = (any::<bool>(), credit.clone()).prop_map(|(is_whole, credit)| {
        let json = if is_whole { execute() } else { b"{}".to_vec() };
        (kind::RUN, [&credit.to_le_bytes()[..], &json].concat())
    });
    let more = credit.prop_map(|credit| (kind::CREDIT, credit.to_le_bytes().to_vec()));
    let other = (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12));
    let frame = prop_oneof![4 => run, 2 => more, 2 => Just((kind::CANCEL, Vec::new())),
        1 => Just((kind::PING, Vec::new())), 1 => other];
    let frame = (frame, 0..3_u32);
    proptest::collection::vec(frame, 0..10).prop_map(|frames| {
        let mut last = 0_u32;
        let number = |((kind, payload), back): ((u8, Vec<u8>), u32)| {
            if kind == kind::RUN && back < 2 {
                last += 1;
                return (kind, last, payload);
            }
            (kind, last.saturating_sub(back), payload)
        };
        frames.into_iter().map(number).collect()
    })
}

proptest! {
    #[test]
    fn any_frames_of_a_client_are_answered_with_whole_frames_and_leave_no_run(
        frames in frames(),
        rest in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes = BytesMut::new();
        for (kind, run, payload) in frames {
            put(&mut bytes, kind, run, &payload);
        }
        bytes.extend_from_slice(&rest);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let echo = EchoWorker::builder("org/model".parse().unwrap()).slots(2).build();
        let answer = runtime.block_on(exchange(&echo, &bytes));
        prop_assert_eq!(echo.active(), 0);
        let mut buffer = FrameBuffer::new(&answer);
        let mut size = 0;
        while let Some((frame, bytes)) = buffer.next_frame().unwrap() {
            prop_assert!((kind::ACCEPTED..=kind::PONG).contains(&frame.kind));
            size += bytes.len();
        }
        prop_assert_eq!(size, answer.len());
    }
}
