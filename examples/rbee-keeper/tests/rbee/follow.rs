//! Tests of following a job over connections that break.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{Hall, Rbee, echo, until};
use rbee_core::{
    MemoryRegistry,
    worker::{EchoGate, EchoWorker},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// A proxy of the queen on which every connection breaks after this many bytes of the answer.
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
    // The end is shown although its number is smaller.
    let end = hall.rbee(&["jobs", "events", &job, "--after", "9"]).run().await.ok();
    assert_eq!(end.out.lines().collect::<Vec<_>>(), lines[3..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_stays_away_is_given_up() {
    let hall = Hall::new().await;
    let submit = ["jobs", "submit", "bee", "hello", "--seed", "7", "--max-tokens", "60"];
    let job = hall.rbee(&submit).run().await.ok().out.trim().to_owned();
    // Not even a head is received.
    let way = BadWay::to(&hall, 10).await;
    let ended = Rbee::new(&["jobs", "events", &job, "--host", &way.address]).run().await;
    ended.failed(3, &["CONNECTION_LOST"]);
}

/// An address at which one queen is replaced by another.
struct Move {
    address: String,
    queen: Arc<Mutex<String>>,
    /// The number of streams of events that have begun.
    streams: Arc<AtomicUsize>,
}

impl Move {
    async fn at(hall: &Hall) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let queen = Arc::new(Mutex::new(Self::of(hall)));
        let (present, streams) = (queen.clone(), Arc::new(AtomicUsize::new(0)));
        let begun = streams.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let queen = present.lock().unwrap().clone();
                // While there is no queen, the connection just ends.
                if let Ok(queen) = TcpStream::connect(queen).await {
                    tokio::spawn(Self::carry(client, queen, begun.clone()));
                }
            }
        });
        Self { address, queen, streams }
    }

    async fn carry(client: TcpStream, queen: TcpStream, begun: Arc<AtomicUsize>) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_queen, mut to_queen) = queen.into_split();
        let asking = tokio::spawn(async move { copy(&mut from_client, &mut to_queen).await });
        let mut bytes = vec![0; 4_096];
        while let Ok(count @ 1..) = from_queen.read(&mut bytes).await {
            // The head of an answer comes in one chunk.
            if String::from_utf8_lossy(&bytes[..count]).contains("text/event-stream") {
                begun.fetch_add(1, Ordering::Relaxed);
            }
            if to_client.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        asking.abort();
    }

    fn of(hall: &Hall) -> String {
        hall.url.strip_prefix("http://").unwrap().to_owned()
    }

    fn to(&self, hall: &Hall) {
        *self.queen.lock().unwrap() = Self::of(hall);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_from_one_life_of_the_queen_into_the_next() {
    let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
    let life = |echo| {
        let registry = registry.clone();
        Hall::built(echo, |queen| queen.registry(registry), |server| server)
    };
    let first = life(echo().slots(1).gate(&gate)).await;
    let submit = |seed: &'static str| {
        first.rbee(&["jobs", "submit", "bee", "hello", "--seed", seed, "--max-tokens", "9"]).run()
    };
    let running = submit("7").await.ok().out.trim().to_owned();
    let waiting = submit("8").await.ok().out.trim().to_owned();
    gate.release(4);
    let mut reader = first.queen.attach(running.parse().unwrap(), Some(3)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().seq, Some(4));
    let place = Move::at(&first).await;
    let follow = |job: &str| {
        let rbee = Rbee::new(&["jobs", "events", job, "--text", "--host", &place.address]);
        tokio::spawn(async move { rbee.run().await })
    };
    let followers = [follow(&running), follow(&waiting)];
    until("both follow", async || place.streams.load(Ordering::Relaxed) == 2).await;
    first.queen.hand_over().await.unwrap();
    drop(first.vanish());
    let second = life(echo()).await;
    place.to(&second);
    for (follower, seed) in followers.into_iter().zip([7, 8]) {
        let ended = follower.await.unwrap().ok();
        assert_eq!(ended.out, EchoWorker::text(seed, 9) + "\n", "{ended:?}");
        assert!(ended.err.contains("goes down before the end; going on"), "{ended:?}");
    }
}
