//! The echo worker does what its script says.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use rbee_core::{
    CorrelationId, Error, ErrorKind, Finish, Job, JobId, Output, OutputStream, Priority, Result,
    Run, Usage, Worker,
    request::{Prompt, Sampling, Task},
    worker::{EchoBuilder, EchoFault, EchoGate, EchoWorker, Resume},
};
use tokio::time::Instant;

const SEED: u64 = 7;

fn job(task: Task, prefix: &[u64]) -> Job {
    Job {
        id: JobId::random(),
        model: "echo".parse().unwrap(),
        priority: Priority::Interactive,
        task,
        seed: SEED,
        prefix: prefix.into(),
        timeout: Duration::from_secs(1),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    }
}

fn generate(change: impl FnOnce(&mut Sampling)) -> Task {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    Task::Generate { prompt: Prompt::Text("12345".into()), sampling }
}

fn run_of(task: Task) -> Run {
    Run { job: Arc::new(job(task, &[])), attempt: 1, resume: Resume::default() }
}

fn run(max_tokens: u32) -> Run {
    run_of(generate(|sampling| sampling.max_tokens = Some(max_tokens)))
}

fn echo() -> EchoBuilder {
    EchoWorker::builder("echo".parse().unwrap())
}

async fn outputs(worker: &EchoWorker, run: Run) -> Result<Vec<Output>> {
    let stream = worker.execute(run).await?;
    let all: Vec<_> = stream.collect().await;
    all.into_iter().collect()
}

fn token(position: u32) -> Output {
    let (id, text) = EchoWorker::token(SEED, position);
    Output::Token { id: Some(id), text: text.into(), logprobs: None }
}

fn end(finish: Finish, completion_tokens: u32) -> Output {
    let usage = Usage { prompt_tokens: 2, completion_tokens, ..Usage::default() };
    Output::End { finish, usage, stop_text: None }
}

fn text(outputs: &[Output]) -> String {
    let texts = outputs.iter().filter_map(|output| match output {
        Output::Token { text, .. } => Some(&**text),
        _ => None,
    });
    texts.collect()
}

async fn refusal(worker: &EchoWorker, run: Run) -> ErrorKind {
    match worker.execute(run).await {
        Ok(_) => panic!("the run was taken"),
        Err(error) => error.kind(),
    }
}

#[tokio::test]
async fn the_answer_is_a_function_of_the_seed_and_ends_after_max_tokens() {
    let worker = EchoWorker::new("echo".parse().unwrap());
    let expected = [token(0), token(1), token(2), end(Finish::Length, 3)];
    assert_eq!(outputs(&worker, run(3)).await.unwrap(), expected);
    assert_eq!(outputs(&worker, run(3)).await.unwrap(), expected);
    let without = run_of(generate(|_| {}));
    assert_eq!(outputs(&worker, without).await.unwrap().len(), 17);
    assert_ne!(EchoWorker::text(1, 4), EchoWorker::text(2, 4));
    assert_ne!(EchoWorker::token(1, 0), EchoWorker::token(1, 1));
}

#[tokio::test]
async fn an_answer_continued_anywhere_is_the_same_answer() {
    let worker = echo().build();
    let whole = outputs(&worker, run(5)).await.unwrap();
    let said = EchoWorker::text(SEED, 2).len();
    // Readers have both tokens, or all but the last three bytes, or nothing.
    for held_back in [0, 3, said] {
        let mut run = run(5);
        run.attempt = 2;
        run.resume = Resume {
            tokens: (0..2).map(|at| EchoWorker::token(SEED, at).0).collect(),
            text_bytes: said - held_back,
        };
        let rest = outputs(&worker, run).await.unwrap();
        assert_eq!(rest.len(), 4);
        assert_eq!(rest[1..], whole[3..]);
        assert_eq!(text(&rest), text(&whole)[said - held_back..]);
    }
    let mut nonsense = run(5);
    nonsense.resume.tokens = vec![1];
    nonsense.resume.text_bytes = 100;
    assert_eq!(refusal(&worker, nonsense).await, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn what_it_cannot_do_is_refused() {
    let mut continued = run(3);
    continued.resume.tokens = vec![1];
    let worker = echo().resume(false).context_tokens(4).build();
    assert_eq!(refusal(&worker, continued).await, ErrorKind::Unsupported);
    let embed = Task::embed(["a"]);
    assert_eq!(refusal(&worker, run_of(embed)).await, ErrorKind::Unsupported);
    let cut = outputs(&worker, run(100)).await.unwrap();
    assert_eq!(cut.last(), Some(&end(Finish::Length, 2)));
    let full = echo().context_tokens(2).build();
    assert_eq!(refusal(&full, run(1)).await, ErrorKind::ContextExceeded);
    assert_eq!(full.active(), 0);
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_before_itself() {
    let second = EchoWorker::token(SEED, 1).1;
    let stop = second[1..].to_owned();
    let task = generate(|sampling| sampling.stop = vec!["\u{1}".into(), stop.clone()]);
    let all = outputs(&echo().build(), run_of(task)).await.unwrap();
    assert_eq!(text(&all), format!("{}w", EchoWorker::token(SEED, 0).1));
    let Output::End { finish, usage, .. } = end(Finish::Stop, 2) else { unreachable!() };
    let stop_text = Some(stop.into());
    assert_eq!(all.last(), Some(&Output::End { finish, usage, stop_text }));
}

#[tokio::test]
async fn slots_are_enforced_and_come_back_when_the_stream_is_dropped() {
    let gate = EchoGate::new();
    let worker = echo().slots(2).gate(&gate).build();
    let one = worker.execute(run(1)).await.unwrap();
    let two = worker.execute(run(1)).await.unwrap();
    assert_eq!(worker.active(), 2);
    assert_eq!(refusal(&worker, run(1)).await, ErrorKind::WorkerBusy);
    drop(one);
    worker.until_active(1).await;
    drop(worker.execute(run(1)).await.unwrap());
    drop(two);
    assert_eq!((worker.active(), worker.started()), (0, 3));
}

async fn two_tokens(stream: &mut OutputStream) -> [bool; 2] {
    let first = stream.next().now_or_never().is_some();
    [first, stream.next().now_or_never().is_some()]
}

#[tokio::test]
async fn a_gate_lets_tokens_pass_one_by_one_or_all() {
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let mut stream = worker.execute(run(4)).await.unwrap();
    assert_eq!(two_tokens(&mut stream).await, [false, false]);
    gate.release(1);
    assert_eq!(two_tokens(&mut stream).await, [true, false]);
    gate.release(1);
    assert_eq!(two_tokens(&mut stream).await, [true, false]);
    gate.open();
    let rest: Vec<_> = stream.map(Result::unwrap).collect().await;
    assert_eq!(rest, [token(2), token(3), end(Finish::Length, 4)]);
}

#[tokio::test(start_paused = true)]
async fn delays_are_those_of_tokios_clock() {
    let (first, each) = (Duration::from_secs(10), Duration::from_secs(1));
    let worker = echo().first_delay(first).token_delay(each).metrics().build();
    let start = Instant::now();
    let all = outputs(&worker, run(3)).await.unwrap();
    assert_eq!(start.elapsed(), first + 2 * each);
    assert!(matches!(all[0], Output::Metrics(metrics) if metrics.prefill == first));
}

#[tokio::test]
async fn faults_befall_runs_in_their_order_and_as_often_as_told() {
    let fail = |at| EchoFault::Fail { at, kind: ErrorKind::WorkerLost };
    let worker = echo()
        .fault_times(EchoFault::Refuse(ErrorKind::WorkerBusy), 1)
        .fault_times(fail(2), 1)
        .fault(EchoFault::Cut { at: 1 })
        .build();
    assert_eq!(refusal(&worker, run(3)).await, ErrorKind::WorkerBusy);
    let stream = worker.execute(run(3)).await.unwrap();
    let all: Vec<_> = stream.collect().await;
    assert_eq!(all.len(), 3);
    assert_eq!(all[1], Ok(token(1)));
    assert_eq!(all[2].as_ref().unwrap_err().kind(), ErrorKind::WorkerLost);
    for _ in 0..2 {
        assert_eq!(outputs(&worker, run(3)).await.unwrap(), [token(0)]);
    }
    worker.inject(fail(0), 1);
    assert!(outputs(&worker, run(3)).await.is_err());
    worker.heal();
    assert_eq!(outputs(&worker, run(3)).await.unwrap().len(), 4);
}

#[tokio::test]
async fn it_panics_stalls_and_talks_too_much_where_told() {
    let worker = echo().slots(8).build();
    let panics = async |fault| {
        worker.inject(fault, 1);
        let outputs = outputs(&worker, run(3));
        AssertUnwindSafe(outputs).catch_unwind().await.is_err()
    };
    assert!(panics(EchoFault::PanicInExecute).await);
    assert!(panics(EchoFault::Panic { at: 1 }).await);
    assert_eq!(worker.active(), 0, "a panic gives the slot back");

    worker.inject(EchoFault::HangInExecute, 1);
    assert!(worker.execute(run(3)).now_or_never().is_none());
    worker.inject(EchoFault::Stall { at: 1 }, 1);
    let mut stream = worker.execute(run(3)).await.unwrap();
    assert_eq!(two_tokens(&mut stream).await, [true, false]);

    worker.inject(EchoFault::TalkAfterEnd, 1);
    let all = outputs(&worker, run(1)).await.unwrap();
    let expected = [token(0), end(Finish::Length, 1), token(1), end(Finish::Length, 2)];
    assert_eq!(all, expected);
    worker.inject(EchoFault::Overrun, 1);
    let stream = worker.execute(run(1)).await.unwrap();
    let many: Vec<_> = stream.take(1000).map(Result::unwrap).collect().await;
    assert_eq!(many[999], token(999));
}

#[tokio::test]
async fn a_script_is_played_as_it_is() {
    let lost = Error::new(ErrorKind::WorkerLost, "gone");
    let script = [Ok(token(5)), Err(lost), Ok(token(5))];
    let worker = echo().script(script.clone()).build();
    let stream = worker.execute(run(1)).await.unwrap();
    assert_eq!(stream.collect::<Vec<_>>().await, script);
}

#[tokio::test]
async fn vectors_depend_on_the_text_alone() {
    let embed = |texts: &[&str]| run_of(Task::embed(texts.iter().copied()));
    let worker = echo().embed(3).build();
    let all = outputs(&worker, embed(&["a", "b", "a"])).await.unwrap();
    let [Output::Vectors(vectors), Output::End { finish, .. }] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(*finish, Finish::Stop);
    assert!(vectors.iter().all(|vector| vector.len() == 3));
    assert_eq!(vectors[0], vectors[2]);
    assert_ne!(vectors[0], vectors[1]);
    assert!(vectors[0].iter().all(|x| (-1.0..=1.0).contains(x)));
}

#[tokio::test]
async fn a_score_is_the_share_of_the_words_of_the_query() {
    let worker = echo().rerank().context_tokens(4).build();
    let documents = ["The hive, the BEE", "a bee", "", "beehive"];
    let all = outputs(&worker, run_of(Task::rerank("bee hive", documents))).await.unwrap();
    let [Output::Vectors(scores), Output::End { finish, .. }] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((*finish, &scores[..]), (Finish::Stop, &[vec![1.0, 0.5, 0.0, 0.0]][..]));
    let long = outputs(&worker, run_of(Task::rerank("bees and hives", ["x"]))).await.unwrap_err();
    assert_eq!((long.kind(), long.param()), (ErrorKind::ContextExceeded, Some("query")));
    let cannot = outputs(&echo().build(), run_of(Task::rerank("a", ["b"]))).await.unwrap_err();
    assert_eq!(cannot.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn it_remembers_what_it_was_asked_within_bounds() {
    let worker = echo().vram_bytes(9).build();
    let mut last = run(1);
    for key in 0..1100 {
        last = run(1);
        last.job = Arc::new(job(generate(|_| {}), &[key, key + 1]));
        outputs(&worker, last.clone()).await.unwrap();
    }
    let runs = worker.runs();
    assert_eq!(runs.len(), 1024);
    assert_eq!(runs[1023].job, last.job.id);
    let health = worker.health().await.unwrap();
    assert_eq!((health.busy, health.vram_bytes), (0, Some(9)));
    assert_eq!(health.warm.len(), 64);
    assert_eq!(health.warm[62..], [1099, 1100]);

    worker.set_health_error(Some(Error::new(ErrorKind::WorkerLost, "ill")));
    assert!(worker.health().await.is_err());
    worker.set_health_error(None);
    assert!(worker.health().await.is_ok());
}
