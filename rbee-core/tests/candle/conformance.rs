//! The conformance suite of workers: `CandleWorker` passes it, and a worker that breaks a rule fails it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::support::{load, tiny};
use futures_util::{FutureExt, StreamExt, stream};
use rbee_core::{
    Error, ErrorKind, Finish, Job, Output, OutputStream, Result, Run, Worker, WorkerInfo,
    async_trait,
    conformance::worker::{self as suite, Subject},
    event::{Logprobs, TokenLogprob},
    request::{Prompt, Task},
    worker::{EchoWorker, Resume, WorkerHealth},
};

/// The time limit for a broken worker; long enough for a correct one on a busy machine.
const PROMPTNESS: Duration = Duration::from_secs(2);

/// A way to break the contract.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    NoEnd,
    TwoEnds,
    TokenAfterEnd,
    OneTokenTooMany,
    WrongUsage,
    TooManyCachedTokens,
    WrongFinish,
    NoIds,
    IgnoresSeed,
    IgnoresStop,
    StartsAnew,
    RepeatsText,
    LosesText,
    QueuesInsteadOfBusy,
    NeverFree,
    NeverBusy,
    GoesOnWhenDropped,
    HealthWaits,
    WrongKindForLength,
    WrongKindForEmbedding,
    WrongKindForEmptyPrompt,
    NewIdentity,
    VectorsInAnotherOrder,
    OneVectorTooFew,
    VectorsLeanOnEachOther,
    ScoresInAnotherOrder,
    OneScoreTooFew,
    NotANumber,
    HeartbeatsUnpromised,
    HeartbeatsWithoutNumber,
    NoHeartbeats,
    NoLogprobs,
    LogprobsUnasked,
    LogprobsOfAnother,
    LogprobsOutOfOrder,
    LogprobsAboveZero,
}

impl Fault {
    fn bends_logprobs(self) -> bool {
        use Fault::{
            LogprobsAboveZero, LogprobsOfAnother, LogprobsOutOfOrder, LogprobsUnasked, NoLogprobs,
        };
        matches!(
            self,
            NoLogprobs
                | LogprobsUnasked
                | LogprobsOfAnother
                | LogprobsOutOfOrder
                | LogprobsAboveZero
        )
    }

    fn bend(self, found: Option<Box<Logprobs>>) -> Option<Box<Logprobs>> {
        let Some(mut found) = found else {
            let chosen = TokenLogprob { id: None, text: "".into(), bytes: None, logprob: 0.0 };
            let unasked = Box::new(Logprobs { chosen, top: Vec::new() });
            return (self == Self::LogprobsUnasked).then_some(unasked);
        };
        match self {
            Self::NoLogprobs => return None,
            Self::LogprobsOfAnother => found.chosen.id = Some(u32::MAX),
            Self::LogprobsOutOfOrder => found.top.reverse(),
            Self::LogprobsAboveZero => found.chosen.logprob = 0.5,
            _ => {}
        }
        Some(found)
    }
}

/// A correct worker with one fault.
#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Worker>,
    other: Arc<WorkerInfo>,
    fault: Fault,
    calls: AtomicU64,
}

impl Broken {
    fn new(inner: Arc<dyn Worker>, fault: Fault) -> Arc<Self> {
        let mut other = WorkerInfo { since: 99, ..WorkerInfo::clone(inner.info()) };
        other.capabilities.heartbeats = fault != Fault::HeartbeatsUnpromised;
        let other = Arc::new(other);
        Arc::new(Self { inner, other, fault, calls: AtomicU64::new(0) })
    }
}

/// Vectors with a fault.
fn bent(fault: Fault, mut vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    match fault {
        Fault::VectorsInAnotherOrder => vectors.reverse(),
        Fault::OneVectorTooFew => drop(vectors.pop()),
        Fault::VectorsLeanOnEachOther if vectors.len() > 1 => vectors[1][0] += 1e-2,
        Fault::ScoresInAnotherOrder => vectors[0].reverse(),
        Fault::OneScoreTooFew => drop(vectors[0].pop()),
        Fault::NotANumber => vectors[0][0] = f32::NAN,
        _ => {}
    }
    vectors
}

fn token() -> Result<Output> {
    Ok(Output::Token { id: Some(40), text: "B".into(), logprobs: None })
}

/// Changes each output, or adds and drops some.
fn each(
    stream: OutputStream,
    mut change: impl FnMut(Output) -> Vec<Result<Output>> + Send + 'static,
) -> OutputStream {
    let change = move |output: Result<Output>| {
        stream::iter(match output {
            Ok(output) => change(output),
            Err(error) => vec![Err(error)],
        })
    };
    Box::pin(stream.flat_map(change))
}

#[async_trait]
impl Worker for Broken {
    fn info(&self) -> &Arc<WorkerInfo> {
        let later = match self.fault {
            Fault::NewIdentity => self.calls.load(Ordering::Relaxed) > 0,
            fault => fault == Fault::HeartbeatsUnpromised,
        };
        if later { &self.other } else { self.inner.info() }
    }

    async fn execute(&self, mut run: Run) -> Result<OutputStream> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let had = run.resume.text_bytes;
        match self.fault {
            Fault::IgnoresSeed => run.job = Arc::new(Job { seed: call, ..Job::clone(&run.job) }),
            Fault::IgnoresStop | Fault::OneTokenTooMany => {
                let mut job = Job::clone(&run.job);
                if let Task::Generate { sampling, .. } = &mut job.task {
                    if self.fault == Fault::IgnoresStop {
                        sampling.stop.clear();
                    } else {
                        sampling.max_tokens = sampling.max_tokens.map(|most| most + 1);
                    }
                }
                run.job = Arc::new(job);
            }
            Fault::StartsAnew => run.resume = Resume::default(),
            Fault::RepeatsText => run.resume.text_bytes = 0,
            _ => {}
        }
        let is_long = run.job.task.text_bytes() > 30;
        if self.fault == Fault::NoHeartbeats && is_long {
            let late = tokio::time::sleep(PROMPTNESS + PROMPTNESS / 4);
            let stream = self.inner.execute(run).await?;
            return Ok(Box::pin(late.map(|()| stream).flatten_stream()));
        }
        let begun = match self.fault {
            Fault::QueuesInsteadOfBusy => loop {
                match self.inner.execute(run.clone()).await {
                    Err(error) if error.kind() == ErrorKind::WorkerBusy => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    other => break other,
                }
            },
            _ => self.inner.execute(run).await,
        };
        let stream = begun.map_err(|error| match (self.fault, error.kind()) {
            (Fault::WrongKindForLength, ErrorKind::ContextExceeded)
            | (Fault::WrongKindForEmbedding, ErrorKind::Unsupported)
            | (Fault::WrongKindForEmptyPrompt, ErrorKind::InvalidRequest) => {
                Error::new(ErrorKind::WorkerFault, "no")
            }
            _ => error,
        })?;
        let fault = self.fault;
        Ok(match fault {
            Fault::GoesOnWhenDropped => {
                let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
                tokio::spawn(async move {
                    let mut stream = stream;
                    while let Some(output) = stream.next().await {
                        if sender.send(output).is_err() {
                            tokio::time::sleep(PROMPTNESS).await;
                        }
                    }
                });
                Box::pin(stream::unfold(receiver, |mut receiver| async {
                    receiver.recv().await.map(|output| (output, receiver))
                }))
            }
            Fault::LosesText if had == 0 => each(stream, |output| vec![Ok(output)]),
            _ => {
                let mut first = true;
                each(stream, move |output| match (fault, output) {
                    (Fault::NoEnd, Output::End { .. }) => Vec::new(),
                    (Fault::TwoEnds, end @ Output::End { .. }) => vec![Ok(end.clone()), Ok(end)],
                    (Fault::TokenAfterEnd, end @ Output::End { .. }) => vec![Ok(end), token()],
                    (Fault::WrongUsage, Output::End { finish, mut usage, stop_text }) => {
                        usage.completion_tokens += 1;
                        vec![Ok(Output::End { finish, usage, stop_text })]
                    }
                    (Fault::TooManyCachedTokens, Output::End { finish, mut usage, stop_text }) => {
                        usage.cached_tokens = Some(usage.prompt_tokens + 1);
                        vec![Ok(Output::End { finish, usage, stop_text })]
                    }
                    (Fault::HeartbeatsUnpromised, token @ Output::Token { .. }) => {
                        vec![Ok(Output::Heartbeat), Ok(token)]
                    }
                    (Fault::HeartbeatsWithoutNumber, token @ Output::Token { .. }) => {
                        let mut all = vec![Ok(Output::Heartbeat); 1_000];
                        all.push(Ok(token));
                        all
                    }
                    (fault, Output::Token { id, text, logprobs }) if fault.bends_logprobs() => {
                        vec![Ok(Output::Token { id, text, logprobs: fault.bend(logprobs) })]
                    }
                    (Fault::WrongFinish, Output::End { usage, .. }) => {
                        vec![Ok(Output::End { finish: Finish::Length, usage, stop_text: None })]
                    }
                    (Fault::NoIds, Output::Token { text, logprobs, .. }) => {
                        vec![Ok(Output::Token { id: None, text, logprobs })]
                    }
                    (Fault::LosesText, Output::Token { id, logprobs, .. }) if first => {
                        first = false;
                        vec![Ok(Output::Token { id, text: "".into(), logprobs })]
                    }
                    (fault, Output::Vectors(vectors)) => {
                        vec![Ok(Output::Vectors(bent(fault, vectors)))]
                    }
                    (_, output) => vec![Ok(output)],
                })
            }
        })
    }

    async fn health(&self) -> Result<WorkerHealth> {
        let mut health = self.inner.health().await?;
        match self.fault {
            Fault::NeverFree => health.busy = 1,
            Fault::NeverBusy => health.busy = 0,
            Fault::HealthWaits if health.busy > 0 => tokio::time::sleep(2 * PROMPTNESS).await,
            _ => {}
        }
        Ok(health)
    }
}

fn subject(worker: Arc<dyn Worker>) -> Subject {
    Subject::new(worker, Prompt::Text("the honey bee".into()))
}

#[tokio::test]
async fn candle_passes_with_a_model_of_random_weights() {
    suite::check(&subject(tiny().await)).await;
}

#[tokio::test]
async fn candle_passes_with_the_bundled_model() {
    let worker =
        load(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny")).await.unwrap();
    let story = Prompt::Text("Once upon a time there was a".into());
    suite::check(&Subject::new(Arc::new(worker), story)).await;
}

/// The sentence that the suite panics with for a worker with this fault.
async fn caught(inner: Arc<dyn Worker>, fault: Fault) -> Option<String> {
    let mut subject = subject(Broken::new(inner, fault));
    subject.promptness = PROMPTNESS;
    let panic = std::panic::AssertUnwindSafe(suite::check(&subject)).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    )
}

/// A worker that computes embeddings.
async fn encoder() -> Arc<dyn Worker> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert-tiny");
    Arc::new(load(dir).await.unwrap())
}

#[tokio::test]
async fn candle_passes_with_a_model_that_makes_vectors() {
    suite::check(&subject(encoder().await)).await;
}

#[tokio::test]
async fn the_double_passes_where_it_makes_vectors() {
    let echo = EchoWorker::builder("echo".parse().unwrap()).embed(8).build();
    suite::vectors_belong_to_their_texts(&subject(echo.clone())).await;
    suite::dropped_vectors_free_the_slot(&subject(echo)).await;
}

#[tokio::test]
async fn every_worker_that_makes_wrong_vectors_is_caught() {
    for (fault, said) in [
        (Fault::NoEnd, "the stream ended without an End"),
        (Fault::WrongUsage, "usage does not match the tokens"),
        (Fault::NeverFree, "a slot was not free"),
        (Fault::WrongKindForLength, "a text longer than context_tokens"),
        (Fault::WrongKindForEmbedding, "a rerank that the worker cannot do"),
        (Fault::VectorsInAnotherOrder, "has another vector among others"),
        (Fault::OneVectorTooFew, "one vector for each text"),
        (Fault::VectorsLeanOnEachOther, "has another vector among others"),
        (Fault::NotANumber, "contains a value that is not a number"),
    ] {
        let sentence = caught(encoder().await, fault).await;
        let sentence = sentence.unwrap_or_else(|| panic!("{fault:?} was not caught"));
        assert!(sentence.contains(said), "{fault:?}: {sentence}");
    }
}

/// A worker that scores documents.
async fn reranker() -> Arc<dyn Worker> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert-reranker-tiny");
    Arc::new(load(dir).await.unwrap())
}

#[tokio::test]
async fn candle_passes_with_a_model_that_scores_documents() {
    suite::check(&subject(reranker().await)).await;
}

#[tokio::test]
async fn the_double_passes_where_it_scores_documents() {
    let echo = EchoWorker::builder("echo".parse().unwrap()).rerank().context_tokens(64).build();
    suite::scores_belong_to_their_documents(&subject(echo.clone())).await;
    suite::long_queries_are_typed_errors(&subject(echo.clone())).await;
    suite::dropped_scores_free_the_slot(&subject(echo)).await;
}

#[tokio::test]
async fn every_worker_that_gives_wrong_scores_is_caught() {
    for (fault, said) in [
        (Fault::NoEnd, "the stream ended without an End"),
        (Fault::WrongUsage, "usage does not match the tokens"),
        (Fault::NeverFree, "a slot was not free"),
        (Fault::WrongKindForLength, "a query longer than context_tokens"),
        (Fault::WrongKindForEmbedding, "an embedding that the worker cannot make"),
        (Fault::ScoresInAnotherOrder, "has another score among others"),
        (Fault::OneScoreTooFew, "one score for each document"),
        (Fault::NotANumber, "a score is not a number"),
    ] {
        let sentence = caught(reranker().await, fault).await;
        let sentence = sentence.unwrap_or_else(|| panic!("{fault:?} was not caught"));
        assert!(sentence.contains(said), "{fault:?}: {sentence}");
    }
}

#[tokio::test]
async fn every_broken_worker_is_caught_with_a_sentence_that_says_why() {
    let faults = [
        (Fault::NoEnd, "the stream ended without an End"),
        (Fault::TwoEnds, "came after the End"),
        (Fault::TokenAfterEnd, "came after the End"),
        (Fault::OneTokenTooMany, "tokens were given; max_tokens is"),
        (Fault::WrongUsage, "usage does not match the tokens"),
        (Fault::TooManyCachedTokens, "more cached tokens than prompt tokens"),
        (Fault::WrongFinish, "a stop text was met"),
        (Fault::NoIds, "gave a token without an id"),
        (Fault::IgnoresSeed, "the same seed gave two answers"),
        (Fault::IgnoresStop, "the text before stop text"),
        (Fault::StartsAnew, "usage does not match the tokens"),
        (Fault::RepeatsText, "the stream continued at"),
        (Fault::LosesText, "the stream continued at"),
        (Fault::QueuesInsteadOfBusy, "more than there are slots waited"),
        (Fault::NeverFree, "a slot was not free"),
        (Fault::NeverBusy, "health reported no run"),
        (Fault::GoesOnWhenDropped, "a slot was not free"),
        (Fault::HealthWaits, "health took longer than"),
        (Fault::WrongKindForLength, "a prompt longer than context_tokens"),
        (Fault::WrongKindForEmbedding, "an embedding that the worker cannot make"),
        (Fault::WrongKindForEmptyPrompt, "a conversation without messages"),
        (Fault::NewIdentity, "info changed"),
        (Fault::HeartbeatsUnpromised, "heartbeats that are not promised"),
        (Fault::HeartbeatsWithoutNumber, "heartbeats in"),
        (Fault::NoLogprobs, "has no log probabilities"),
        (Fault::LogprobsUnasked, "log probabilities that nobody asked for"),
        (Fault::LogprobsOfAnother, "is of another token"),
        (Fault::LogprobsOutOfOrder, "are not in order"),
        (Fault::LogprobsAboveZero, "the log probabilities at 0"),
        (Fault::NoHeartbeats, "although the worker declares heartbeats"),
    ];
    let checks = faults.map(|(fault, said)| async move {
        // One worker for each fault, so that their waits do not add up.
        let sentence = caught(tiny().await, fault).await;
        let sentence = sentence.unwrap_or_else(|| panic!("{fault:?} was not caught"));
        assert!(sentence.contains(said), "{fault:?}: {sentence}");
    });
    futures_util::future::join_all(checks).await;
}
