//! The contract of [`Worker`].
//!
//! [`check`] runs every check; each can be run alone. A check panics with a sentence that names the broken rule. Waits
//! are limited by tokio's clock, so do not pause it for a worker that computes on its own threads or in another
//! process.
//!
//! ```no_run
//! use std::sync::Arc;
//! use rbee_core::{conformance, request::Prompt, Worker};
//!
//! # async fn check(worker: Arc<dyn Worker>) {
//! let subject = conformance::worker::Subject::new(worker, Prompt::Text("Once upon a time".into()));
//! conformance::worker::check(&subject).await;
//! # }
//! ```

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt;

use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Logprobs, Output, Usage},
    id::{CorrelationId, JobId},
    job::Job,
    priority::Priority,
    task::{Prompt, Sampling, Task},
    worker::{OutputStream, Resume, Run, Worker},
};

mod counting;
mod errors;
mod heartbeats;
mod logprobs;
mod resume;
mod scores;
mod slots;
mod vectors;

pub use counting::a_counted_prompt_has_the_tokens_of_its_usage;
pub use errors::{bad_prompts_are_typed_errors, unsupported_tasks_are_unsupported};
pub use heartbeats::heartbeats_are_as_promised;
pub use logprobs::log_probabilities_are_as_promised;
pub use resume::a_cut_stream_goes_on_as_if_it_had_not_been;
pub use scores::{
    dropped_scores_free_the_slot, long_queries_are_typed_errors, scores_belong_to_their_documents,
};
pub use slots::{dropping_frees_the_slot, slots_are_independent_and_no_more_than_promised};
pub use vectors::{
    dropped_vectors_free_the_slot, long_texts_are_typed_errors, vectors_belong_to_their_texts,
};

/// The longest time of one answer, and of any other wait.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A worker under test, idle and not used by others, with a prompt that gives a long answer: 24 tokens or more.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The worker.
    pub worker: Arc<dyn Worker>,
    /// The text that it continues.
    pub prompt: Prompt,
    /// The seed of the runs that the checks compare; choose another one if the model's answer to it is too short.
    pub seed: u64,
    /// The longest time of operations without computation: reporting health, refusing a run, ending a dropped run.
    pub promptness: Duration,
}

impl Subject {
    /// A worker and a prompt, with a default seed.
    pub fn new(worker: Arc<dyn Worker>, prompt: Prompt) -> Self {
        Self { worker, prompt, seed: 11, promptness: Duration::from_secs(5) }
    }

    fn job(&self, task: Task, seed: u64) -> Arc<Job> {
        Arc::new(Job {
            id: JobId::random(),
            model: self.worker.info().model.clone(),
            priority: Priority::Interactive,
            task,
            seed,
            prefix: [].into(),
            timeout: TIMEOUT,
            deadline: None,
            detached: false,
            stored: false,
            metadata: None,
            tenant: None,
            rank: 0,
            correlation_id: CorrelationId::random(),
            idempotency: None,
            streamed: true,
        })
    }

    fn run(&self, seed: u64, sampling: Sampling) -> Run {
        let prompt = self.prompt.clone();
        let job = self.job(Task::Generate { prompt, sampling }, seed);
        Run { job, attempt: 1, resume: Resume::default() }
    }

    async fn begin(&self, run: Run) -> Result<OutputStream> {
        bounded("execute", self.worker.execute(run)).await
    }

    /// Runs to the end and checks the rules for every answer.
    async fn answer(&self, run: Run) -> CollectedAnswer {
        let resumed = run.resume.tokens.len() as u64;
        let most = match &run.job.task {
            Task::Generate { sampling, .. } => sampling.max_tokens.map(u64::from),
            Task::Embed { .. } | Task::Rerank { .. } => None,
        };
        let stream = self
            .begin(run)
            .await
            .unwrap_or_else(|error| panic!("the worker refused a valid run: {error:?}"));
        let answer = CollectedAnswer::collect(stream)
            .await
            .unwrap_or_else(|error| panic!("a valid run failed: {error:?}"));
        let count = resumed + answer.tokens.len() as u64;
        assert_eq!(
            u64::from(answer.usage.completion_tokens),
            count,
            "the usage does not match the tokens of the answer"
        );
        if let Some(most) = most {
            assert!(count <= most, "{count} tokens were given; max_tokens is {most}");
        }
        if self.worker.info().capabilities.resume {
            let all = answer.tokens.iter().all(|(id, _)| id.is_some());
            assert!(all, "a worker that can resume gave a token without an id");
        }
        answer
    }

    /// Waits until no run is active.
    async fn idle(&self, after: &str) {
        let waited = tokio::time::timeout(self.promptness, async {
            while self.busy().await > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "a slot was not free {:?} after {after}", self.promptness);
    }

    async fn busy(&self) -> u32 {
        let health = bounded("health", self.worker.health()).await;
        health.unwrap_or_else(|error| panic!("health failed: {error:?}")).busy
    }
}

/// The outputs of a run.
#[derive(Clone, Debug, PartialEq)]
struct CollectedAnswer {
    tokens: Vec<(Option<u32>, String)>,
    logprobs: Vec<Option<Box<Logprobs>>>,
    vectors: Option<Vec<Vec<f32>>>,
    finish: Finish,
    usage: Usage,
    stop_text: Option<Box<str>>,
}

impl CollectedAnswer {
    fn text(&self) -> String {
        self.tokens.iter().map(|(_, text)| text.as_str()).collect()
    }

    async fn collect(mut stream: OutputStream) -> Result<Self> {
        let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
        let (mut vectors, mut metrics) = (None, 0);
        loop {
            let next = bounded("the next output", stream.next()).await;
            match next.unwrap_or_else(|| panic!("the stream ended without an End"))? {
                Output::Token { id, text, logprobs: more } => {
                    tokens.push((id, text.into()));
                    logprobs.push(more);
                }
                Output::Vectors(all) => {
                    assert!(vectors.replace(all).is_none(), "vectors were given twice");
                }
                Output::Heartbeat => {}
                Output::Metrics(_) => {
                    metrics += 1;
                    assert!(metrics <= 64, "metrics were given {metrics} times in one run");
                }
                Output::End { finish, usage, stop_text } => {
                    let after = bounded("the end of the stream", stream.next()).await;
                    assert!(after.is_none(), "{after:?} came after the End");
                    assert!(
                        usage.cached_tokens.unwrap_or_default() <= usage.prompt_tokens,
                        "usage has more cached tokens than prompt tokens: {usage:?}"
                    );
                    // Equal runs may differ in them.
                    let usage = Usage { cached_tokens: None, ..usage };
                    return Ok(Self { tokens, logprobs, vectors, finish, usage, stop_text });
                }
            }
        }
    }
}

async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {TIMEOUT:?}"))
}

/// Every check of this module.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn check(subject: &Subject) {
    identity_is_stable(subject).await;
    if subject.worker.info().capabilities.generate {
        an_answer_ends_once_and_counts_right(subject).await;
        the_same_seed_gives_the_same_tokens(subject).await;
        stop_texts_end_the_answer_and_are_no_part_of_it(subject).await;
        dropping_frees_the_slot(subject).await;
        slots_are_independent_and_no_more_than_promised(subject).await;
        a_cut_stream_goes_on_as_if_it_had_not_been(subject).await;
        a_counted_prompt_has_the_tokens_of_its_usage(subject).await;
        bad_prompts_are_typed_errors(subject).await;
        heartbeats_are_as_promised(subject).await;
        log_probabilities_are_as_promised(subject).await;
    }
    if subject.worker.info().capabilities.embed {
        vectors_belong_to_their_texts(subject).await;
        long_texts_are_typed_errors(subject).await;
        dropped_vectors_free_the_slot(subject).await;
    }
    if subject.worker.info().capabilities.rerank {
        scores_belong_to_their_documents(subject).await;
        long_queries_are_typed_errors(subject).await;
        dropped_scores_free_the_slot(subject).await;
    }
    unsupported_tasks_are_unsupported(subject).await;
    identity_is_stable(subject).await;
}

/// [`Worker::info`] is complete, and the same every time.
pub async fn identity_is_stable(subject: &Subject) {
    let first = subject.worker.info().clone();
    assert!(first.slots > 0, "slots is 0; allowed is at least 1");
    assert!(!first.backend.is_empty(), "backend is empty");
    assert!(!first.numerics.is_empty(), "numerics is empty");
    let can = &first.capabilities;
    let able = can.generate || can.embed || can.rerank;
    assert!(able, "the worker can neither generate nor embed nor rerank");
    if first.capabilities.generate {
        let sampling = Sampling { max_tokens: Some(1), ..Sampling::default() };
        subject.answer(subject.run(subject.seed, sampling)).await;
    }
    assert_eq!(first, *subject.worker.info(), "info changed");
}

/// A run has at most `max_tokens` tokens, then one End with the right counts, then nothing.
pub async fn an_answer_ends_once_and_counts_right(subject: &Subject) {
    for most in [1, 2, 7, 24] {
        let sampling = Sampling { max_tokens: Some(most), ..Sampling::default() };
        let answer = subject.answer(subject.run(subject.seed, sampling)).await;
        assert!(answer.vectors.is_none(), "vectors were given to a run that asked for text");
        assert!(answer.usage.prompt_tokens > 0, "usage has 0 prompt tokens");
        let full = answer.tokens.len() == most as usize;
        assert!(
            full || answer.finish == Finish::Stop,
            "the answer has {} of {most} tokens and ended with {:?}",
            answer.tokens.len(),
            answer.finish
        );
    }
}

/// A stop text ends the answer, and is not part of it.
pub async fn stop_texts_end_the_answer_and_are_no_part_of_it(subject: &Subject) {
    let sampling = |stop| Sampling { max_tokens: Some(24), stop, ..Sampling::default() };
    let whole = subject.answer(subject.run(subject.seed, sampling(Vec::new()))).await.text();
    let characters: Vec<char> = whole.chars().collect();
    assert!(
        characters.len() >= 6,
        "the answer {whole:?} is too short for this check; choose another prompt or seed"
    );
    let stop: String = characters[characters.len() / 2..].iter().take(3).collect();
    let before = whole.split(&stop).next().unwrap_or_default();
    let cut = subject.answer(subject.run(subject.seed, sampling(vec![stop.clone()]))).await;
    assert_eq!(cut.text(), before, "the text before stop text {stop:?} of {whole:?}");
    assert_eq!(cut.finish, Finish::Stop, "a stop text was met");
    // Not every engine reports it.
    if let Some(text) = cut.stop_text {
        assert_eq!(*text, *stop, "the stop text that ended the answer");
    }
}

/// Runs with equal seeds give equal answers, at temperature 0 and above.
pub async fn the_same_seed_gives_the_same_tokens(subject: &Subject) {
    for temperature in [0.0, 1.0, 1.5] {
        let sampling = Sampling { temperature, max_tokens: Some(24), ..Sampling::default() };
        let first = subject.answer(subject.run(subject.seed, sampling.clone())).await;
        let again = subject.answer(subject.run(subject.seed, sampling)).await;
        assert_eq!(first, again, "the same seed gave two answers at temperature {temperature}");
    }
}
