//! The other side of a link, byte for byte, as `docs/worker-protocol.md` describes it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::super::support::Daemon;

pub(super) const RUN: u8 = 1;
pub(super) const CANCEL: u8 = 2;
pub(super) const CREDIT: u8 = 3;
pub(super) const PING: u8 = 4;
pub(super) const ACCEPTED: u8 = 16;
pub(super) const TOKENS: u8 = 17;
pub(super) const END: u8 = 21;
pub(super) const ERROR: u8 = 22;
pub(super) const PONG: u8 = 23;

pub(super) fn frame(kind: u8, run: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &[kind], &run.to_le_bytes(), payload].concat()
}

/// The frame that begins this run with this credit.
pub(super) fn run_frame(number: u32, run: rbee_core::Run, credit: u32) -> Vec<u8> {
    let execute = serde_json::to_vec(&rbee_transport_http::wire::worker::Execute::from(run));
    frame(RUN, number, &[&credit.to_le_bytes()[..], &execute.unwrap()].concat())
}

/// The client's side of a link.
pub(super) struct RawLink(TcpStream);

impl RawLink {
    pub(super) async fn open(daemon: &Daemon) -> Self {
        let head = format!(
            "POST /v1/link HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             connection: Upgrade\r\nupgrade: rbee-link/1\r\ncontent-length: 0\r\n\r\n",
            "t".repeat(64)
        );
        let (stream, answer) = ask(daemon, &head).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("upgrade: rbee-link/1\r\n"), "{answer}");
        Self(stream)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let read = async {
            let mut length = [0; 4];
            self.0.read_exact(&mut length).await.ok()?;
            let mut rest = vec![0; u32::from_le_bytes(length) as usize];
            self.0.read_exact(&mut rest).await.unwrap();
            let run = u32::from_le_bytes(rest[1..5].try_into().unwrap());
            Some((rest[0], run, rest.split_off(5)))
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), read).await.expect("a frame")
    }
}

/// Sends the head of a request, and reads the head of the response.
pub(super) async fn ask(daemon: &Daemon, head: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(answer).unwrap())
}
