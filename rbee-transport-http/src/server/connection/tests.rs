//! How long a connection is kept, and how it ends. The clock only moves when a test moves it.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::routing::get;
use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};

use super::*;
use crate::server::connections::{Caps, ConnectionTable, Peer};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// The connection preface of RFC 9113, section 3.4, with an empty frame of settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Client {
    stream: DuplexStream,
    shutdown: Arc<ShutdownSignal>,
}

impl Client {
    fn of(table: &Arc<ConnectionTable>) -> Self {
        Self::served_by(Router::new().route("/", get(|| async { "honey" })), table)
    }

    fn served_by(router: Router, table: &Arc<ConnectionTable>) -> Self {
        let shutdown = Arc::new(ShutdownSignal::default());
        let (connected, _) = table.admit(Peer::Loopback, Instant::now()).unwrap();
        let connection = Connection {
            limits: Limits::default(),
            tls: None,
            router,
            shutdown: shutdown.clone(),
            connected,
            reach: Reach::Loopback,
        };
        let (near, stream) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move { connection.speak(near, false).await });
        Self { stream, shutdown }
    }

    fn new() -> Self {
        Self::of(&table(100))
    }

    async fn ask(&mut self) -> io::Result<String> {
        self.stream.write_all(REQUEST).await?;
        let mut said = Vec::new();
        while !said.ends_with(b"honey") {
            if self.stream.read_buf(&mut said).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8(said).unwrap())
    }

    /// What arrives until the server ends the connection, and when it ends it.
    async fn rest(&mut self) -> (Vec<u8>, Duration) {
        let (mut rest, began) = (Vec::new(), Instant::now());
        self.stream.read_to_end(&mut rest).await.unwrap();
        (rest, began.elapsed())
    }
}

fn table(all: usize) -> Arc<ConnectionTable> {
    ConnectionTable::new(Caps { all, loopback: all, peer: all })
}

#[tokio::test(start_paused = true)]
async fn a_connection_stays_open_for_longer_than_the_pools_of_clients_keep_it() {
    let mut client = Client::new();
    // reqwest, hyper and Go keep unused connections for 90 seconds, nginx for 60, aiohttp for 15.
    for idle in [4, 15, 60, 89, 90, 91] {
        let answer = client.ask().await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("connection:"), "{answer}");
        sleep(Duration::from_secs(idle)).await;
    }
    client.ask().await.unwrap();
    let (rest, idle) = client.rest().await;
    assert!(rest.is_empty());
    assert!(idle > Duration::from_secs(91) && idle < Duration::from_secs(180), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_will_stop_says_so_with_the_last_answer_on_each_connection() {
    let mut client = Client::new();
    client.ask().await.unwrap();
    client.shutdown.announce();
    let answer = client.ask().await.unwrap();
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(client.rest().await, (Vec::new(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_server_with_little_room_says_with_its_answer_that_the_connection_ends() {
    let table = table(32);
    let mut client = Client::of(&table);
    let mut others: Vec<_> = (0..28)
        .map(|n| table.admit(Peer::V4(Ipv4Addr::new(10, 0, 0, n)), Instant::now()).unwrap())
        .collect();
    assert!(!client.ask().await.unwrap().contains("connection: close"));
    others.push(table.admit(Peer::Loopback, Instant::now()).unwrap());
    assert!(client.ask().await.unwrap().contains("connection: close\r\n"));
    assert_eq!(client.rest().await, (Vec::new(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_with_http_2_is_told_at_once_to_use_http_1_1() {
    let mut client = Client::new();
    client.stream.write_all(HTTP2).await.unwrap();
    let (said, after) = client.rest().await;
    // An empty frame of settings, then GOAWAY with the last stream 0 and the code HTTP_1_1_REQUIRED.
    let (settings, goaway) = said.split_at(9);
    assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!(goaway[..3], [0, 0, u8::try_from(goaway.len() - 9).unwrap()]);
    assert_eq!(goaway[3..17], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13]);
    assert_eq!(&goaway[17..], b"this server speaks HTTP/1.1, not HTTP/2");
    assert_eq!(after, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_neither_reads_nor_closes_does_not_keep_its_connection() {
    let table = table(100);
    let mut client = Client::of(&table);
    client.stream.write_all(HTTP2).await.unwrap();
    let began = Instant::now();
    while table.open() > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn an_offer_to_upgrade_to_http_2_is_answered_in_http_1_1() {
    let mut client = Client::new();
    let request =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings, close\r\n\
        upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    client.stream.write_all(request).await.unwrap();
    let (said, _) = client.rest().await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("honey"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_little_of_its_answer_and_nothing_once_it_is_gone() {
    const PART: usize = 16 << 10;
    for goes_away in [true, false] {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = taken.clone();
        let endless = move || {
            let counter = counter.clone();
            let part = move || {
                counter.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from(vec![b'x'; PART]))
            };
            async { Body::from_stream(stream::repeat_with(part).take(1_000)) }
        };
        let router = Router::new().route("/", get(endless));
        let mut client = Client::served_by(router, &table(100));
        client.stream.write_all(REQUEST).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        // At most 64 KiB in the pipe, as many in the buffer of the connection, and a part that was larger than the rest.
        let held = taken.load(Ordering::Relaxed) * PART;
        assert!((64 << 10..=144 << 10).contains(&held), "{held} bytes");
        assert_eq!(Arc::strong_count(&taken), 3, "the router, this test, and the answer");
        let began = Instant::now();
        let stays = (!goes_away).then_some(client);
        let limit =
            if goes_away { Duration::from_millis(200) } else { Limits::default().write_timeout };
        while Arc::strong_count(&taken) > 2 {
            assert!(began.elapsed() <= limit, "goes away: {goes_away}");
            sleep(Duration::from_millis(1)).await;
        }
        drop(stays);
    }
}

#[tokio::test]
async fn the_state_of_a_connection_is_small() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (connected, _) = table(1).admit(Peer::Loopback, Instant::now()).unwrap();
    let connection = Connection {
        limits: Limits::default(),
        tls: None,
        router: Router::new(),
        shutdown: Arc::default(),
        connected,
        reach: Reach::Loopback,
    };
    // What only few connections need is in allocations of its own.
    let bytes = size_of_val(&connection.serve(Accepted::Tcp(stream, address)));
    assert!(bytes <= 2_048, "{bytes} bytes");
}
