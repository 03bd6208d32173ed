//! A queen that is killed before and after each of its writes: what its clients were told still holds in the next one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::queen_support::{Seen, echo, queen, quiet, read, request};
use rbee_core::{
    ErrorKind, EventKind, JobEvent, JobId, JobState, MemoryRegistry, Queen, Registry, Request,
    Result, async_trait,
    id::{Epoch, QueenId},
    registry::{Change, JobFilter, JobRecord, PolicyFilter, PolicyRecord, Snapshot},
    worker::{EchoFault, EchoWorker},
};
use tokio::{sync::Notify, task::JoinSet};

/// When the queen is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Right before this write, counted from 0.
    Before(usize),
    /// Right after it, before anything follows from it.
    After(usize),
}

/// A store whose queen is killed at one of its writes.
#[derive(Clone, Debug)]
struct Doomed {
    inner: MemoryRegistry,
    moment: Moment,
    writes: Arc<AtomicUsize>,
    queen: Arc<Mutex<Option<Queen>>>,
    killed: Arc<Notify>,
}

impl Doomed {
    fn new(moment: Moment) -> Self {
        Self {
            inner: MemoryRegistry::new(),
            moment,
            writes: Arc::default(),
            queen: Arc::default(),
            killed: Arc::default(),
        }
    }

    /// Nothing follows in this queen.
    async fn kill(&self) -> ! {
        if let Some(queen) = self.queen.lock().unwrap().take() {
            queen.crash();
        }
        self.killed.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Registry for Doomed {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        self.inner.open(queen, lease).await
    }
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        let write = self.writes.fetch_add(1, Ordering::SeqCst);
        if self.moment == Moment::Before(write) {
            self.kill().await;
        }
        self.inner.record(epoch, changes).await?;
        if self.moment == Moment::After(write) {
            self.kill().await;
        }
        Ok(())
    }
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        self.inner.renew(epoch).await
    }
    async fn release(&self, epoch: Epoch) -> Result<()> {
        self.inner.release(epoch).await
    }
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        self.inner.jobs(filter).await
    }
    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        self.inner.policies(filter).await
    }
}

/// What a client got.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<(Option<JobId>, Seen)>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, (Option<JobId>, Seen)> {
        self.0.lock().unwrap()
    }

    fn take(&self, event: JobEvent) {
        self.lock().1.take(event);
    }
}

struct Client {
    seed: u64,
    tokens: u32,
    request: Request,
    /// Neither detached nor with a key.
    is_bound: bool,
    cancels: bool,
    told: Told,
}

impl Client {
    fn new(seed: u64, tokens: u32, change: impl FnOnce(Request) -> Request) -> Self {
        let (request, told) = (change(request(seed, tokens)), Told::default());
        Self { seed, tokens, request, is_bound: true, cancels: false, told }
    }

    fn comes_back(self) -> Self {
        Self { is_bound: false, ..self }
    }

    fn all() -> Vec<Self> {
        vec![
            // More tokens than between two checkpoints.
            Self::new(1, 40, |request| request),
            Self::new(2, 36, |request| request.streamed(false).detached()).comes_back(),
            Self::new(3, 40, |request| request.idempotency_key("key")).comes_back(),
            Self { cancels: true, ..Self::new(4, 40, |request| request) },
            // Longer than the context of the worker.
            Self::new(5, 8, |request| request.user("x".repeat(4_000))),
            Self::new(6, 5, Request::detached).comes_back(),
        ]
    }

    async fn submit(queen: Queen, request: Request, cancels: bool, told: Told) {
        // Without a queen there is no answer.
        let Ok(mut job) = queen.submit(request).await else { return };
        told.lock().0 = Some(job.id());
        if cancels {
            job.cancel();
        }
        while let Some(event) = job.next().await {
            told.take(event);
        }
    }

    /// Checks what the client got from the first queen, and reads the rest from the second.
    async fn check(self, second: &Queen, worker: &EchoWorker, moment: Moment) {
        let (job, mut seen) = std::mem::take(&mut *self.told.lock());
        let what = format!("killed {moment:?}, job of seed {}", self.seed);
        let Some(job) = job else {
            // It may be recorded. If it has a key, it is the same job.
            if self.seed == 3 {
                read(second.submit(self.request).await.unwrap()).await.assert_whole(3, self.tokens);
            }
            return;
        };
        let record = second.job(job).await;
        let record = record.unwrap_or_else(|error| panic!("{what}: it is lost: {error}"));
        let runs_again = || worker.runs().iter().any(|run| run.job == job);
        if let Some(end) = &seen.end {
            let state = match end {
                EventKind::Error(error) if error.kind() == ErrorKind::Cancelled => {
                    JobState::Cancelled
                }
                EventKind::Error(_) => JobState::Failed,
                _ => JobState::Complete,
            };
            assert_eq!(record.status.state(), state, "{what}: another end");
            assert!(!runs_again(), "{what}: it runs again");
            if let Ok(again) = second.attach(job, seen.seqs.last().copied()).await {
                assert!(read(again).await.seqs.is_empty(), "{what}: something follows the end");
            }
            if matches!(end, EventKind::Error(_)) {
                return;
            }
        } else {
            let mut rest = match second.attach(job, seen.seqs.last().copied()).await {
                Ok(rest) => rest,
                // It had ended, and such an answer is not kept.
                Err(error) => {
                    assert!(self.is_bound, "{what}: {error}");
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
                    assert!(!record.status.state().is_live(), "{what}: {record:?}");
                    assert!(!runs_again(), "{what}: it runs again");
                    return;
                }
            };
            while let Some(event) = rest.next().await {
                seen.take(event);
            }
            assert!(seen.end.is_some(), "{what}: it has no end");
        }
        match &seen.end {
            Some(EventKind::Error(error)) => {
                let expected = [ErrorKind::Cancelled, ErrorKind::ContextExceeded];
                let expected = expected[usize::from(self.seed == 5)];
                assert!(self.cancels || self.seed == 5, "{what}: {error}");
                assert_eq!(error.kind(), expected, "{what}");
                let tokens = u32::try_from(seen.tokens).unwrap();
                assert_eq!(seen.text, EchoWorker::text(self.seed, tokens), "{what}");
            }
            _ => seen.assert_whole(self.seed, self.tokens),
        }
    }
}

/// Lets all clients work until the queen is killed, and checks what they know in the next one. Returns false if there
/// was no such moment.
async fn killed(moment: Moment) -> bool {
    let id: QueenId = "queen".parse().unwrap();
    let registry = Doomed::new(moment);
    let build = |registry: Doomed, worker: Arc<EchoWorker>| {
        queen().id(id.clone()).registry(registry).worker(worker).build()
    };
    let worker = || echo().slots(2).context_tokens(500).token_delay(Duration::from_millis(10));
    // One attempt fails in the middle, and one at its start.
    let faults = worker()
        .fault_times(EchoFault::Fail { at: 7, kind: ErrorKind::WorkerLost }, 1)
        .fault_times(EchoFault::Refuse(ErrorKind::WorkerFault), 1);
    let mut first = Box::pin(build(registry.clone(), faults.build()));
    let first = tokio::select! {
        biased;
        () = registry.killed.notified() => None,
        first = &mut first => Some(first.unwrap()),
    };
    let clients = Client::all();
    let mut was_killed = first.is_none();
    if let Some(first) = first {
        *registry.queen.lock().unwrap() = Some(first.clone());
        let mut tasks = JoinSet::new();
        for client in &clients {
            let Client { seed, request, cancels, told, .. } = client;
            let job = Client::submit(first.clone(), request.clone(), *cancels, told.clone());
            // Apart from each other, so that few changes are written together.
            let start = Duration::from_millis(7 * seed);
            tasks.spawn(async move {
                tokio::time::sleep(start).await;
                job.await;
            });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        was_killed = tokio::select! {
            biased;
            () = registry.killed.notified() => true,
            () = all => false,
        };
        tasks.shutdown().await;
        first.crash();
    }
    let registry = Doomed { moment: Moment::Before(usize::MAX), ..registry };
    let worker = worker().build();
    let second = build(registry, worker.clone()).await.unwrap();
    for client in clients {
        assert!(was_killed || client.told.lock().0.is_some(), "every job is accepted");
        client.check(&second, &worker, moment).await;
    }
    quiet(&second).await;
    was_killed
}

#[tokio::test(start_paused = true)]
async fn whenever_a_queen_is_killed_what_its_clients_were_told_holds_in_the_next_one() {
    for moment in [Moment::Before, Moment::After] {
        let mut kills = 0;
        while killed(moment(kills)).await {
            kills += 1;
        }
        assert!(kills >= 20, "{kills} writes");
    }
}
