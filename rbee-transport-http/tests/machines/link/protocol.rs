//! What a worker answers to the frames of any client.

use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, Worker,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::client::LinkWorker;

use super::{
    super::support::{always_answers, run},
    raw::{
        ACCEPTED, CANCEL, CREDIT, END, ERROR, PING, PONG, RUN, RawLink, TOKENS, ask, frame,
        run_frame,
    },
    serve, until_active,
};

fn code(payload: &[u8]) -> String {
    let error: serde_json::Value = serde_json::from_slice(payload).unwrap();
    error["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_run_is_accepted_and_sends_its_tokens_in_few_frames_and_its_end() {
    let daemon = serve(&EchoWorker::new("echo".parse().unwrap())).await;
    let mut link = RawLink::open(&daemon).await;
    link.send(&run_frame(1, run(3), 1_000)).await;
    assert_eq!(link.next().await.unwrap(), (ACCEPTED, 1, Vec::new()));
    let (kind, number, payload) = link.next().await.unwrap();
    assert_eq!((kind, number), (TOKENS, 1));
    let expected: Vec<u8> = (0..3)
        .flat_map(|position| {
            let (id, text) = EchoWorker::token(7, position);
            let mut bytes = varint((u64::from(id) + 1) << 1);
            bytes.extend(varint(text.len() as u64));
            bytes.extend(text.into_bytes());
            bytes
        })
        .collect();
    assert_eq!(payload, expected);
    let (kind, number, payload) = link.next().await.unwrap();
    assert_eq!((kind, number), (END, 1));
    let end: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&end["finish"], &end["usage"]["completion_tokens"]), (&"length".into(), &3.into()));
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[tokio::test]
async fn frames_of_a_newer_version_and_of_runs_that_have_ended_are_ignored() {
    let daemon = serve(&EchoWorker::new("echo".parse().unwrap())).await;
    let mut link = RawLink::open(&daemon).await;
    for ignored in [
        frame(9, 7, b"from the future"),
        frame(255, 0, b""),
        frame(CANCEL, 5, b""),
        frame(CREDIT, 5, &[1, 0, 0, 0]),
        // More than a field may follow it in a newer version.
        frame(CREDIT, 5, &[1, 0, 0, 0, 0xff]),
        frame(PING, 0, b"more"),
    ] {
        link.send(&ignored).await;
    }
    assert_eq!(link.next().await.unwrap(), (PONG, 0, Vec::new()));
    link.send(&run_frame(8, run(1), 1_000)).await;
    assert_eq!(link.next().await.unwrap().0, ACCEPTED);
}

#[tokio::test]
async fn a_run_that_is_not_understood_is_refused_and_the_link_goes_on() {
    let daemon = serve(&EchoWorker::new("echo".parse().unwrap())).await;
    let mut link = RawLink::open(&daemon).await;
    link.send(&frame(RUN, 1, b"\x10\0\0\0{\"job\":1}")).await;
    let (kind, number, payload) = link.next().await.unwrap();
    assert_eq!((kind, number, code(&payload)), (ERROR, 1, "INVALID_REQUEST".into()));
    link.send(&run_frame(2, run(1), 1_000)).await;
    assert_eq!(link.next().await.unwrap(), (ACCEPTED, 2, Vec::new()));
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_gets_an_error_and_its_runs_end() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(&echo).await;
    let malformed = [
        // Lengths that are not allowed: too short for a header, and too long.
        vec![4, 0, 0, 0, 0, 0, 0, 0],
        vec![0xff; 9],
        frame(CREDIT, 2, &[1, 0, 0]),
        frame(RUN, 3, &[1, 0, 0]),
        // The numbers of runs increase.
        run_frame(2, run(1), 1_000),
        run_frame(0, run(1), 1_000),
    ];
    for bytes in malformed {
        let mut link = RawLink::open(&daemon).await;
        link.send(&run_frame(2, run(1), 1_000)).await;
        assert_eq!(link.next().await.unwrap(), (ACCEPTED, 2, Vec::new()));
        link.send(&bytes).await;
        let (kind, number, payload) = link.next().await.unwrap();
        assert_eq!((kind, number), (ERROR, 0), "{bytes:?}");
        assert!(["INVALID_REQUEST", "WORKER_FAULT"].contains(&&*code(&payload)));
        assert_eq!(link.next().await, None, "{bytes:?}");
        until_active(&echo, 0).await;
    }
}

#[tokio::test]
async fn a_request_for_a_link_without_its_headers_is_refused() {
    let daemon = serve(&EchoWorker::new("echo".parse().unwrap())).await;
    let token = "t".repeat(64);
    let good = format!(
        "POST /v1/link HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         connection: keep-alive, upgrade\r\nupgrade: rbee-link/1\r\ncontent-length: 0\r\n\r\n"
    );
    let (_stream, answer) = ask(&daemon, &good).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for (from, to, status) in [
        ("keep-alive, upgrade", "keep-alive", "400"),
        ("upgrade: rbee-link/1", "upgrade: rbee-link/2", "400"),
        ("upgrade: rbee-link/1", "upgrade: websocket", "400"),
        ("content-length: 0\r\n\r\n", "content-length: 2\r\n\r\n{}", "400"),
        ("Bearer t", "Bearer u", "401"),
        ("POST", "GET", "405"),
    ] {
        let (_stream, answer) = ask(&daemon, &good.replace(from, to)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {answer}");
    }
}

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_gives_an_error_that_may_be_tried_elsewhere() {
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: rbee-link/1\r\n\r\n";
    let accepted = "\u{5}\0\0\0\u{10}\u{1}\0\0\0";
    let answers = [
        String::new(),
        "SSH-2.0-OpenSSH_9.2\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".into(),
        "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nboom".into(),
        switched.into(),
        // A length that is not allowed.
        format!("{switched}\0\0\0\0"),
        format!("{switched}{accepted}\0\0\0\0"),
        // An output of a run that was not accepted.
        format!("{switched}\u{5}\0\0\0\u{12}\u{1}\0\0\0"),
        // A token whose text is cut off; metrics, an end and an error that are not JSON.
        format!("{switched}{accepted}\u{7}\0\0\0\u{11}\u{1}\0\0\0\u{2}\u{9}"),
        format!("{switched}{accepted}\u{6}\0\0\0\u{13}\u{1}\0\0\0x"),
        format!("{switched}{accepted}\u{6}\0\0\0\u{15}\u{1}\0\0\0x"),
        format!("{switched}{accepted}\u{6}\0\0\0\u{16}\u{1}\0\0\0x"),
        // Vectors that are cut off; the error of the connection.
        format!("{switched}{accepted}\u{6}\0\0\0\u{14}\u{1}\0\0\0\u{1}"),
        format!("{switched}{accepted}\u{6}\0\0\0\u{16}\0\0\0\0x"),
        // Nothing follows.
        format!("{switched}{accepted}"),
    ];
    let info = EchoWorker::new("echo".parse().unwrap()).info().clone();
    for answer in answers {
        let daemon = always_answers(answer.clone()).await;
        let worker = LinkWorker::new(daemon.endpoint(None), info.clone());
        let error = match worker.execute(run(1)).await {
            Err(error) => error,
            Ok(stream) => stream.collect::<Vec<_>>().await.pop().unwrap().unwrap_err(),
        };
        assert!(error.kind().is_retryable(), "{answer:?}: {error:?}");
        assert_ne!(error.kind(), ErrorKind::Internal, "{answer:?}: {error:?}");
    }
}
