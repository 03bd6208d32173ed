//! Silent connections, and clients that must be served in spite of them. Real sockets.

use std::{net::SocketAddr, time::Duration};

use crate::common::{Hall, chat, echo, logged};
use rbee_core::worker::EchoGate;
use rbee_transport_http::server::{Limits, LogRing, Server};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Nothing here takes this long.
const TIMEOUT: Duration = Duration::from_secs(20);
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// The hall on a port of this machine, until the guard is dropped.
async fn serve(hall: &Hall, limits: Limits) -> (SocketAddr, DropGuard) {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_limits(limits);
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.run(hall.router.clone(), stop.clone(), Duration::ZERO));
    (address, stop.drop_guard())
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {TIMEOUT:?}: {what}"),
    }
}

/// Requests the health of the queen on this connection, and returns the head of the response once its body has been
/// read.
async fn ask(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    stream.get_mut().write_all(HEALTH).await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).await?;
    Ok(head)
}

async fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(address).await.unwrap())
}

/// True if the server has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 64])).await;
    read.is_ok_and(|read| read.map_or(true, |count| count == 0))
}

#[tokio::test]
async fn a_flood_of_silent_connections_keeps_nobody_out_and_is_said_once() {
    let logs = LogRing::new(100, 1 << 20);
    let _guard = logged(&logs);
    let hall = Hall::of(echo(), rbee_core::Queen::builder(), |server| server.with_logs(logs)).await;
    // None of the silent connections would time out during the test.
    let timeout = Duration::from_secs(3_600);
    let limits = Limits {
        connections: 20,
        first_head_timeout: timeout,
        idle_timeout: timeout,
        ..Limits::default()
    };
    let (address, _stop) = serve(&hall, limits).await;
    let (mut silent, began) = (Vec::new(), std::time::Instant::now());
    for n in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
        if n % 50 == 49 {
            let head = within("an answer", ask(&mut connect(address).await)).await.unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        }
    }
    let mut open = 0;
    for stream in &mut silent {
        open += usize::from(!is_closed(stream).await);
    }
    assert!((10..=21).contains(&open), "{open} are open, and the last ones stay");
    let lines = hall.get("/v1/logs?level=warn&lines=100").await.json();
    let lines: Vec<_> = lines["data"].as_array().unwrap().iter().collect();
    let about = |line: &&&serde_json::Value| {
        line["message"].as_str().unwrap().contains("too many connections: ")
    };
    let most = 1 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    assert!((1..=most).contains(&lines.iter().filter(about).count()), "{lines:#?}");
}

#[tokio::test]
async fn a_new_connection_has_less_time_to_ask_than_one_that_has_asked_before() {
    let hall = Hall::new().await;
    let limits = Limits { first_head_timeout: Duration::from_millis(300), ..Limits::default() };
    let (address, _stop) = serve(&hall, limits).await;
    let mut proven = connect(address).await;
    within("an answer", ask(&mut proven)).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&HEALTH[..20]).await.unwrap();
    for stream in [&mut silent, &mut half] {
        let read = within("it is closed", stream.read(&mut [0; 64])).await;
        assert!(read.map_or(true, |count| count == 0));
    }
    within("it is still of use", ask(&mut proven)).await.unwrap();
}

#[tokio::test]
async fn for_a_new_connection_an_idle_one_is_closed_but_never_an_answer() {
    let gate = EchoGate::new();
    gate.release(1);
    let hall = Hall::with(echo().gate(&gate)).await;
    let limits = Limits { connections: 2, ..Limits::default() };
    let (address, _stop) = serve(&hall, limits).await;
    let mut reader = connect(address).await;
    let body = chat(json!({"stream": true, "max_tokens": 4})).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    reader.get_mut().write_all((head + &*body).as_bytes()).await.unwrap();
    let mut line = String::new();
    while !line.contains("content") || line.starts_with("content-type") {
        line.clear();
        assert!(within("the stream begins", reader.read_line(&mut line)).await.unwrap() > 0);
    }
    for _ in 0..10 {
        let mut idle = connect(address).await;
        within("an answer", ask(&mut idle)).await.unwrap();
        let mut next = connect(address).await;
        within("an answer on the next", ask(&mut next)).await.unwrap();
        let read = within("the idle one is closed", idle.read(&mut [0; 64])).await;
        assert!(read.map_or(true, |count| count == 0));
    }
    gate.open();
    let mut rest = String::new();
    within("the stream ends", reader.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    hall.quiet().await;
}

#[tokio::test]
async fn while_all_connections_are_in_use_the_next_one_waits_for_its_turn() {
    let hall = Hall::with(echo().token_delay(Duration::from_millis(5))).await;
    let limits = Limits { connections: 1, ..Limits::default() };
    let (address, _stop) = serve(&hall, limits).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(tokio::spawn(async move {
            let mut stream = connect(address).await;
            let body = chat(json!({"max_tokens": 20})).to_string();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.get_mut().write_all((head + &*body).as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        }));
    }
    for answer in answers {
        let said = within("each is answered", answer).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
}
