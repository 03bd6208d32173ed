//! Helpers that the tests of the queen share.
#![allow(unreachable_pub, reason = "a module of a test binary")]

use std::sync::Arc;

use rbee_core::{
    EventKind, HiveId, InProcessHive, JobEvent, ModelRef, Queen, QueenBuilder, Request, Result,
    Worker, WorkerId, WorkerSpec, async_trait,
    hive::{Device, DeviceKind, Progress, WorkerFactory},
    worker::{EchoBuilder, EchoWorker},
};

pub const MODEL: &str = "echo";

pub fn model() -> ModelRef {
    MODEL.parse().unwrap()
}

/// A worker that can continue a stream of another worker.
pub fn echo() -> EchoBuilder {
    EchoWorker::builder(model()).resume(true)
}

pub fn queen() -> QueenBuilder {
    Queen::builder().seed(1)
}

/// A request whose answer is known: `EchoWorker::text(seed, tokens)`.
pub fn request(seed: u64, tokens: u32) -> Request {
    Request::chat(MODEL).user("hello").seed(seed).max_tokens(tokens)
}

/// Everything that a reader saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub seqs: Vec<u64>,
    pub text: String,
    pub tokens: usize,
    pub end: Option<EventKind>,
}

impl Seen {
    pub fn take(&mut self, event: JobEvent) {
        assert!(self.end.is_none(), "an event after the terminal one: {event:?}");
        self.seqs.extend(event.seq);
        match event.kind {
            EventKind::Token { text, .. } => {
                self.tokens += 1;
                self.text.push_str(&text);
            }
            kind if kind.is_terminal() => self.end = Some(kind),
            _ => {}
        }
    }

    pub fn error(&self) -> &rbee_core::Error {
        match &self.end {
            Some(EventKind::Error(error)) => error,
            other => panic!("expected an error, found {other:?}"),
        }
    }

    /// Checks for no gap, no repeat, and one end.
    pub fn assert_whole(&self, seed: u64, tokens: u32) {
        assert_eq!(self.seqs, (0..=u64::from(tokens) + 1).collect::<Vec<_>>());
        assert_eq!(self.text, EchoWorker::text(seed, tokens));
        assert!(matches!(self.end, Some(EventKind::End { .. })), "{:?}", self.end);
    }
}

/// Reads to the end.
pub async fn read(mut events: impl futures_core::Stream<Item = JobEvent> + Unpin) -> Seen {
    let mut seen = Seen::default();
    while let Some(event) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut events).poll_next(cx)).await
    {
        seen.take(event);
    }
    seen
}

/// Waits until nothing is left to do: every counter is back at zero.
pub async fn quiet(queen: &Queen) {
    for _ in 0..10_000 {
        if queen.status().await.unwrap().counters == Default::default() {
            let cluster = queen.cluster().await.unwrap();
            assert!(cluster.workers().all(|worker| worker.leased == 0));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("not quiet: {:?}", queen.status().await);
}

/// Makes echo workers on spawn and counts them.
#[derive(Debug)]
pub struct EchoFactory {
    pub made: Arc<std::sync::Mutex<Vec<Arc<EchoWorker>>>>,
    pub load: std::time::Duration,
}

impl EchoFactory {
    pub fn new() -> (Self, Arc<std::sync::Mutex<Vec<Arc<EchoWorker>>>>) {
        let made = Arc::default();
        (Self { made: Arc::clone(&made), load: std::time::Duration::ZERO }, made)
    }
}

#[async_trait]
impl WorkerFactory for EchoFactory {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        _progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        tokio::time::sleep(self.load).await;
        let builder = EchoWorker::builder(spec.model.clone()).resume(true);
        let worker = builder.id(id).hive(hive.clone()).slots(spec.slots).build();
        self.made.lock().unwrap().push(worker.clone());
        Ok(worker)
    }
}

/// One processor with plenty of memory, so that tests do not depend on the machine.
pub fn devices() -> Vec<Device> {
    let memory = 64 << 30;
    vec![Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "test".into(),
        memory_total: memory,
        memory_free: memory,
    }]
}

pub fn hive(name: &str) -> InProcessHive {
    InProcessHive::new().with_id(HiveId::new(name).unwrap()).with_devices(devices())
}
