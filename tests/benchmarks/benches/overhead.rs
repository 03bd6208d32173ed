//! The overhead of a queen in process, compared with calls of the worker in the same run: the time from `Queen::submit`
//! to the worker's `execute`, the time to the first token, and the cost of a token.
//!
//! The worker only notes when it was called. The runtime has two threads. Calls alternate between the worker itself, a
//! queen that stores nothing, and one whose registry is a database file, so that all see the same machine.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rbee_core::{
    EventKind, Finish, Job, JobId, ModelRef, Output, OutputStream, Priority, Queen, Request,
    Result, Run, SqliteRegistry, Usage, Worker, WorkerInfo, async_trait,
    request::{Prompt, Sampling, Task},
    worker::{Resume, WorkerHealth},
};

/// Calls of each kind, after a tenth as many that are not counted.
const CALLS: usize = 2_000;
/// Tokens of a long answer, and how many such answers are read.
const TOKENS: u32 = 20_000;
const ANSWERS: usize = 15;

#[derive(Debug)]
struct Stamp {
    info: Arc<WorkerInfo>,
    called: Mutex<Option<Instant>>,
}

impl Stamp {
    fn new() -> Arc<Self> {
        let mut info = WorkerInfo::new(model(), "benchmark");
        info.slots = 4;
        let called = Mutex::default();
        Arc::new(Self { info: Arc::new(info), called })
    }

    fn called(&self) -> Instant {
        let called = self.called.lock().expect("nobody panics").take();
        called.expect("the worker was called")
    }
}

#[async_trait]
impl Worker for Stamp {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        *self.called.lock().expect("nobody panics") = Some(Instant::now());
        let tokens = match &run.job.task {
            Task::Generate { sampling, .. } => sampling.max_tokens.unwrap_or(1),
            Task::Embed { .. } | Task::Rerank { .. } => 0,
        };
        let token = |id| Output::Token { id: Some(id), text: " bee".into(), logprobs: None };
        let end = Output::End { finish: Finish::Length, usage: Usage::default(), stop_text: None };
        let outputs = (0..tokens).map(token).chain([end]);
        Ok(Box::pin(futures_util::stream::iter(outputs.map(Ok))))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

fn model() -> ModelRef {
    "benchmark".parse().expect("well-formed")
}

/// What a caller without a queen must create.
fn job(tokens: u32) -> Arc<Job> {
    let sampling = Sampling { max_tokens: Some(tokens), ..Sampling::default() };
    Arc::new(Job {
        id: JobId::random(),
        model: model(),
        priority: Priority::Interactive,
        task: Task::Generate { prompt: Prompt::Text("hello".into()), sampling },
        seed: 1,
        prefix: [].into(),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: rbee_core::CorrelationId::random(),
        idempotency: None,
        streamed: true,
    })
}

/// The times of the worker's call, of the first token and of the end, all from the beginning.
struct Call {
    called: Duration,
    accepted: Duration,
    first: Duration,
    end: Duration,
}

async fn direct(worker: &Stamp, tokens: u32) -> Call {
    let began = Instant::now();
    let run = Run { job: job(tokens), attempt: 1, resume: Resume::default() };
    let mut stream = worker.execute(run).await.expect("it always begins");
    let accepted = began.elapsed();
    let mut first = None;
    while let Some(output) = futures_util::StreamExt::next(&mut stream).await {
        std::hint::black_box(&output);
        first.get_or_insert_with(|| began.elapsed());
    }
    Call {
        called: worker.called() - began,
        accepted,
        first: first.expect("a token"),
        end: began.elapsed(),
    }
}

async fn through(queen: &Queen, worker: &Stamp, tokens: u32) -> Call {
    let began = Instant::now();
    let request = Request::completion("benchmark", "hello").max_tokens(tokens);
    let mut handle = queen.submit(request).await.expect("it is accepted");
    let accepted = began.elapsed();
    let mut first = None;
    while let Some(event) = handle.next().await {
        match event.kind {
            EventKind::Token { .. } => _ = first.get_or_insert_with(|| began.elapsed()),
            EventKind::Error(error) => panic!("{error}"),
            _ => {}
        }
        std::hint::black_box(&event);
    }
    Call {
        called: worker.called() - began,
        accepted,
        first: first.expect("a token"),
        end: began.elapsed(),
    }
}

fn micros(calls: &[Call], of: impl Fn(&Call) -> Duration) -> f64 {
    let mut all: Vec<_> = calls.iter().map(|call| of(call).as_nanos()).collect();
    all.sort_unstable();
    all[all.len() / 2] as f64 / 1e3
}

async fn measure() {
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    let store = SqliteRegistry::open(folder.path().join("rbee.db")).expect("a fresh database");
    let workers = [Stamp::new(), Stamp::new(), Stamp::new()];
    let memory = Queen::builder().worker(workers[1].clone());
    let memory = memory.build().await.expect("a queen");
    let sqlite = Queen::builder().worker(workers[2].clone()).registry(store);
    let sqlite = sqlite.build().await.expect("a queen");
    let names = ["worker alone", "in memory", "in a database"];

    let mut calls = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..CALLS / 10 + CALLS {
        calls[0].push(direct(&workers[0], 1).await);
        calls[1].push(through(&memory, &workers[1], 1).await);
        calls[2].push(through(&sqlite, &workers[2], 1).await);
    }
    for (name, calls) in names.iter().zip(&calls) {
        let calls = &calls[CALLS / 10..];
        println!(
            "{name:>13}: execute called after {:>6.1} µs, submit returned {:>6.1} µs, first token {:>6.1} µs, end {:>6.1} µs (medians)",
            micros(calls, |call| call.called),
            micros(calls, |call| call.accepted),
            micros(calls, |call| call.first),
            micros(calls, |call| call.end),
        );
    }

    let mut answers = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ANSWERS {
        answers[0].push(direct(&workers[0], TOKENS).await);
        answers[1].push(through(&memory, &workers[1], TOKENS).await);
        answers[2].push(through(&sqlite, &workers[2], TOKENS).await);
    }
    for (name, answers) in names.iter().zip(&answers) {
        let each = micros(answers, |call| call.end - call.first) * 1e3 / f64::from(TOKENS);
        println!("{name:>13}: {each:>6.0} ns a token");
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(runtime.spawn(measure())).expect("nothing panics");
}
