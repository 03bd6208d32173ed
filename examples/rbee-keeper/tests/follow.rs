//! Following a job over connections that break.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rbee_core::EchoWorker;
use support::{Hall, Rbee};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// A way to the queen on which every connection breaks after so many bytes of her answer.
struct BadWay {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl BadWay {
    async fn to(hall: &Hall, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (queen, count) =
            (hall.url.strip_prefix("http://").unwrap().to_owned(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Self::carry(client, queen.clone(), bytes));
            }
        });
        Self { address, connections }
    }

    async fn carry(client: TcpStream, queen: String, bytes: usize) {
        let queen = TcpStream::connect(queen).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (from_queen, mut to_queen) = queen.into_split();
        let asking = tokio::spawn(async move { copy(&mut from_client, &mut to_queen).await });
        let _ = copy(&mut from_queen.take(bytes as u64), &mut to_client).await;
        let _ = to_client.flush().await;
        asking.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_leaves_no_gap_and_no_repeat() {
    let hall = Hall::new().await;
    let submit = ["jobs", "submit", "bee", "hello", "--seed", "7", "--max-tokens", "60"];
    let job = hall.rbee(&submit).run().await.ok().out.trim().to_owned();
    // A head, and a few events.
    let way = BadWay::to(&hall, 1_200).await;
    let follow = |more: &[&str]| {
        let arguments =
            [&["jobs", "events", job.as_str(), "--host", way.address.as_str()], more].concat();
        Rbee::new(&arguments)
    };
    let ended = follow(&["--text"]).run().await.ok();
    assert_eq!(ended.out, EchoWorker::text(7, 60) + "\n");
    assert!(ended.err.contains("going on after event"), "{ended:?}");
    assert!(way.connections.load(Ordering::Relaxed) > 3);
    let ended = follow(&["--json", "-q"]).run().await.ok();
    let ids: Vec<_> = ended.objects().iter().filter_map(|object| object["id"].as_u64()).collect();
    assert_eq!(ids, (0..=61).collect::<Vec<_>>());
    assert_eq!(ended.err, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_one_a_line_from_where_it_is_wanted() {
    let hall = Hall::new().await;
    let submit = ["jobs", "submit", "bee", "hello", "--seed", "7", "--max-tokens", "2"];
    let job = hall.rbee(&submit).run().await.ok().out.trim().to_owned();
    let ended = hall.rbee(&["jobs", "events", &job]).run().await.ok();
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert!(lines[0].starts_with("    0  started  on worker "), "{ended:?}");
    assert_eq!(lines[1], format!("    1  token    {:?}", EchoWorker::token(7, 0).1));
    assert!(lines[3].starts_with("    3  end      length, "), "{ended:?}");
    let rest = hall.rbee(&["jobs", "events", &job[..8], "--after", "1"]).run().await.ok();
    assert_eq!(rest.out.lines().collect::<Vec<_>>(), lines[2..]);
    let nothing = hall.rbee(&["jobs", "events", &job, "--after", "3"]).run().await.ok();
    assert_eq!(nothing.out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_stays_away_is_given_up() {
    let hall = Hall::new().await;
    let submit = ["jobs", "submit", "bee", "hello", "--seed", "7", "--max-tokens", "60"];
    let job = hall.rbee(&submit).run().await.ok().out.trim().to_owned();
    // Not even a head gets through.
    let way = BadWay::to(&hall, 10).await;
    let ended = Rbee::new(&["jobs", "events", &job, "--host", &way.address]).run().await;
    ended.failed(3, &["CONNECTION_LOST"]);
}
