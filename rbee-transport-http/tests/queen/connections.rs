//! Silent connections, and clients that must be served in spite of them. Real sockets.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::common::{Hall, chat, echo, logged};
use rbee_core::worker::EchoGate;
use rbee_transport_http::server::{Limits, ListenHost, LogRing, Server};
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

/// True if this machine has `::1`; says so if not, because the test then shows less.
fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("NOT TESTED: this machine has no ::1, so nothing is said about IPv6");
    }
    has
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_with_one_port() {
    let hall = Hall::new().await;
    let server = Server::bind_host(ListenHost::Localhost, 0).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    assert!(address.is_ipv4() && address.port() != 0);
    let _stop = stop.clone().drop_guard();
    tokio::spawn(server.run(hall.router.clone(), stop, Duration::ZERO));
    let mut addresses = vec![address];
    if has_ipv6() {
        addresses.push((Ipv6Addr::LOCALHOST, address.port()).into());
    }
    for address in addresses {
        let head = within("an answer", ask(&mut connect(address).await)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{address}: {head}");
    }
}

#[tokio::test]
async fn an_address_alone_is_that_address_alone() {
    if !has_ipv6() {
        return;
    }
    for (host, other) in [("127.0.0.1", "::1"), ("::1", "127.0.0.1")] {
        let server = Server::bind_host(host.parse().unwrap(), 0).await.unwrap();
        let other = SocketAddr::new(other.parse().unwrap(), server.address().port());
        assert!(TcpStream::connect(other).await.is_err(), "{host}");
    }
}

#[tokio::test]
async fn a_port_that_another_program_has_on_either_address_is_refused_with_that_address() {
    if !has_ipv6() {
        return;
    }
    let other = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let error = Server::bind_host(ListenHost::Localhost, taken.port()).await.unwrap_err();
    assert!(error.message().contains(&format!("cannot listen on {taken}")), "{error}");
    drop(other);
    let server = Server::bind_host(ListenHost::Localhost, taken.port()).await.unwrap();
    let error = Server::bind_host(ListenHost::Localhost, taken.port()).await.unwrap_err();
    assert!(error.message().contains(&format!("cannot listen on {}", server.address())), "{error}");
}

#[tokio::test]
async fn a_drain_ends_connections_with_their_answers_before_the_server_stops() {
    let hall = Hall::new().await;
    let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (server, _stop) = (server.with_drain(drain.clone()), stop.clone().drop_guard());
    let address = server.address();
    tokio::spawn(server.run(hall.router.clone(), stop, Duration::ZERO));
    let mut kept = connect(address).await;
    for _ in 0..3 {
        let head = within("an answer", ask(&mut kept)).await.unwrap();
        assert!(!head.contains("connection: close"), "{head}");
    }
    drain.cancel();
    // The task that passes it on may need a turn.
    let closed = async {
        loop {
            let head = ask(&mut kept).await.unwrap();
            if head.contains("connection: close\r\n") {
                return kept.read(&mut [0; 9]).await.unwrap();
            }
        }
    };
    assert_eq!(within("a last answer", closed).await, 0);
    let head = within("an answer", ask(&mut connect(address).await)).await.unwrap();
    assert!(head.contains("connection: close"), "it still serves: {head}");
}

#[tokio::test]
async fn a_client_that_begins_with_http_2_reads_the_refusal_and_is_not_reset() {
    let hall = Hall::new().await;
    let (address, _stop) = serve(&hall, Limits::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // As clients do, without a wait for the server.
    client.write_all(&[0; 2_000]).await.unwrap();
    let mut said = Vec::new();
    let began = std::time::Instant::now();
    within("it is closed", client.read_to_end(&mut said)).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("speaks HTTP/1.1"), "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
