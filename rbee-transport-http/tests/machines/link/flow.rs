//! Readers that do not read: they delay no other run, hold little memory, and can be cancelled.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rbee_core::{
    Finish, Job, Output, OutputStream, Result, Run, Usage, Worker, WorkerInfo, async_trait,
    worker::{EchoWorker, WorkerHealth},
};
use rbee_transport_http::{
    client::{Endpoint, LinkWorker},
    dial::{Dial, Io, Tcp},
    server::{self, Limits, Server},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::support::{Daemon, run, token},
    link,
    raw::{ACCEPTED, CANCEL, ERROR, RawLink, TOKENS, frame, run_frame},
};

/// The text of each token, in bytes.
const TOKEN_BYTES: usize = 1_000;

/// Sends long tokens without a pause, as many as a run asks for, and counts them by the seed of the job.
#[derive(Debug)]
struct Chatter {
    info: Arc<WorkerInfo>,
    sent: Mutex<HashMap<u64, Arc<AtomicUsize>>>,
    active: Arc<AtomicUsize>,
}

impl Chatter {
    fn new() -> Arc<Self> {
        let mut info = WorkerInfo::new("echo".parse().unwrap(), "chatter");
        info.slots = 8;
        Arc::new(Self { info: Arc::new(info), sent: Mutex::default(), active: Arc::default() })
    }

    fn sent(&self, seed: u64) -> Arc<AtomicUsize> {
        self.sent.lock().unwrap().entry(seed).or_default().clone()
    }

    fn active(&self) -> usize {
        Arc::strong_count(&self.active) - 1
    }
}

#[async_trait]
impl Worker for Chatter {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let rbee_core::request::Task::Generate { sampling, .. } = &run.job.task else {
            panic!("text")
        };
        let (count, sent) = (sampling.max_tokens.unwrap(), self.sent(run.job.seed));
        let active = self.active.clone();
        let tokens = (0..count).map(move |_| {
            let _ = &active;
            sent.fetch_add(1, Ordering::SeqCst);
            let text = "x".repeat(TOKEN_BYTES).into();
            Ok(Output::Token { id: Some(1), text, logprobs: None })
        });
        let end = Output::End { finish: Finish::Length, usage: Usage::default(), stop_text: None };
        Ok(stream::iter(tokens.chain([Ok(end)])).boxed())
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

fn seeded(seed: u64, max_tokens: u32) -> Run {
    let mut run = run(max_tokens);
    let mut job = Job::clone(&run.job);
    job.seed = seed;
    run.job = Arc::new(job);
    run
}

/// Waits until the count has not changed for several turns of this runtime.
async fn settled(count: &AtomicUsize) -> usize {
    let settle = async {
        loop {
            let before = count.load(Ordering::SeqCst);
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            if before > 0 && count.load(Ordering::SeqCst) == before {
                return before;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settle).await.expect("it settles")
}

async fn until(reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it gets there");
}

#[tokio::test]
async fn a_run_that_is_not_read_delays_no_other_and_holds_little_memory() {
    let chatter = Chatter::new();
    let daemon = Daemon::serve(server::worker(chatter.clone(), token())).await;
    let worker = link(&daemon).await;
    let unread = worker.execute(seeded(1, 20_000)).await.unwrap();
    for _ in 0..3 {
        let read = worker.execute(seeded(2, 2_000)).await.unwrap();
        assert_eq!(read.map(Result::unwrap).count().await, 2_001);
    }
    // The credit, and what was polled beyond it in one turn.
    let held = chatter.sent(1).load(Ordering::SeqCst) * TOKEN_BYTES;
    assert!((60_000..=100_000).contains(&held), "{held} bytes are held for it");
    assert_eq!(unread.map(Result::unwrap).count().await, 20_001);
}

#[tokio::test]
async fn a_client_that_reads_nothing_can_cancel_its_run() {
    let chatter = Chatter::new();
    let daemon = Daemon::serve(server::worker(chatter.clone(), token())).await;
    let mut link = RawLink::open(&daemon).await;
    // It grants more credit than it should.
    link.send(&run_frame(1, seeded(1, 1_000_000), u32::MAX)).await;
    assert_eq!(link.next().await.unwrap().0, ACCEPTED);
    let sent = settled(&chatter.sent(1)).await;
    assert!(sent < 100_000, "the worker has sent {sent} tokens that nobody reads");
    assert_eq!(chatter.active(), 1);
    link.send(&frame(CANCEL, 1, b"")).await;
    until(|| chatter.active() == 0).await;
    // The same over HTTP, which needs no answer of the client either.
    let worker = LinkWorker::connect(daemon.endpoint(Some(token()))).await.unwrap();
    let run = seeded(2, 1_000_000);
    let job = run.job.id;
    let _unread = worker.execute(run).await.unwrap();
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(chatter.active(), 0);
}

#[tokio::test]
async fn a_run_that_is_cancelled_without_credit_ends_with_an_error() {
    let chatter = Chatter::new();
    let daemon = Daemon::serve(server::worker(chatter.clone(), token())).await;
    let mut link = RawLink::open(&daemon).await;
    let run = seeded(1, 1_000_000);
    let job = run.job.id;
    link.send(&run_frame(1, run, 1)).await;
    assert_eq!(link.next().await.unwrap().0, ACCEPTED);
    assert_eq!(link.next().await.unwrap().0, TOKENS);
    let worker = LinkWorker::connect(daemon.endpoint(Some(token()))).await.unwrap();
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(chatter.active(), 0);
    let (kind, number, payload) = link.next().await.unwrap();
    assert_eq!((kind, number), (ERROR, 1));
    assert!(String::from_utf8(payload).unwrap().contains("CANCELLED"));
}

/// Counts the connections that it makes.
#[derive(Debug)]
struct Counted(Tcp, Arc<AtomicUsize>);

#[async_trait]
impl Dial for Counted {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.dial(port).await
    }

    fn host(&self) -> &str {
        self.0.host()
    }
}

#[tokio::test]
async fn a_link_without_runs_is_not_closed_to_make_room_for_other_connections() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (port, stop) = (server.address().port(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let router = server::worker(echo.clone(), token());
    let limits = Limits { connections: 2, ..Limits::default() };
    tokio::spawn(server.with_limits(limits).run(router, stop, Duration::ZERO));
    let dials = Arc::<AtomicUsize>::default();
    let dial = Arc::new(Counted(Tcp::loopback(), dials.clone()));
    let worker = LinkWorker::new(Endpoint::new(dial, port, Some(token())), echo.info().clone());
    worker.execute(run(1)).await.unwrap().count().await;
    for _ in 0..4 {
        // Each on a connection of its own, for which the one before is closed.
        let other = Endpoint::new(Arc::new(Tcp::loopback()), port, Some(token()));
        LinkWorker::connect(other).await.unwrap();
    }
    worker.execute(run(1)).await.unwrap().count().await;
    assert_eq!(dials.load(Ordering::SeqCst), 1, "the link was closed");
}
