use futures_util::{FutureExt, StreamExt};

use super::{CollectedAnswer, ErrorKind, Resume, Run, Subject, Task, bounded};

/// The allowed difference of a score if a document is scored together with others, relative to scores above 1.
const TOLERANCE: f32 = 1e-4;

impl Subject {
    fn rerank(&self, query: &str, documents: &[&str]) -> Run {
        let job = self.job(Task::rerank(query, documents.iter().copied()), self.seed);
        Run { job, attempt: 1, resume: Resume::default() }
    }

    /// The scores of these documents, after the checks for every answer.
    async fn scores(&self, query: &str, documents: &[&str]) -> (Vec<f32>, CollectedAnswer) {
        let mut answer = self.answer(self.rerank(query, documents)).await;
        assert!(answer.tokens.is_empty(), "text was given to a run that asked for scores");
        let vectors = answer.vectors.take();
        let mut vectors = vectors.expect("no scores were given to a run that asked for them");
        assert_eq!(vectors.len(), 1, "the scores are one vector");
        let scores = vectors.remove(0);
        assert_eq!(scores.len(), documents.len(), "one score for each document");
        let numbers = scores.iter().all(|score| score.is_finite());
        assert!(numbers, "a score is not a number");
        (scores, answer)
    }
}

/// Each document has one score, at its index; the same document has the same score, alone and among others; usage counts
/// the texts.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn scores_belong_to_their_documents(subject: &Subject) {
    let query = "the bee and the flower";
    let long = "a bee and a flower ".repeat(2);
    let documents = ["one", &long, "the hive", "one", "the bee, the honey and the flower"];
    let (batch, whole) = subject.scores(query, &documents).await;
    assert!(whole.usage.prompt_tokens > 0, "usage has 0 prompt tokens");
    for (at, document) in documents.iter().enumerate() {
        let (alone, _) = subject.scores(query, &[*document]).await;
        assert!(
            near(alone[0], batch[at]),
            "document {at} has another score among others than alone"
        );
    }
    assert!(!near(batch[0], batch[4]), "different documents have the same score");
    subject.idle("all runs ended").await;
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(1.0)
}

/// A query longer than the context is [`ErrorKind::ContextExceeded`], and has no after-effects. A document that is too
/// long is cut, or is the same error.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn long_queries_are_typed_errors(subject: &Subject) {
    let Some(context) = subject.worker.info().capabilities.context_tokens else {
        return;
    };
    // No tokenizer has a token as long as three of these words.
    let long = "q7 z".repeat(3 * context as usize + 3);
    let error = subject.error(Task::rerank(&*long, ["one"]), "a query that is too long").await;
    let kind = error.map(|error| error.kind());
    assert_eq!(
        kind,
        Some(ErrorKind::ContextExceeded),
        "a query longer than context_tokens, {context}"
    );
    let documents = ["one", &long];
    let error = subject.error(Task::rerank("one", documents), "a document that is too long").await;
    let kind = error.map(|error| error.kind());
    assert!(
        matches!(kind, None | Some(ErrorKind::ContextExceeded)),
        "a document longer than context_tokens, {context}, gave {kind:?}"
    );
}

/// A run for scores that is dropped, at once or after its first output, releases its slot.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn dropped_scores_free_the_slot(subject: &Subject) {
    let documents = ["one two three"; 64];
    for _ in 0..3 {
        drop(subject.worker.execute(subject.rerank("two", &documents)).now_or_never());
        subject.idle("the future of execute was dropped").await;
        let stream = subject.begin(subject.rerank("two", &documents)).await;
        let mut stream =
            stream.unwrap_or_else(|error| panic!("the worker refused a valid run: {error:?}"));
        let _ = bounded("the first output", stream.next()).await;
        drop(stream);
        subject.idle("its stream was dropped").await;
    }
    subject.scores("two", &["one"]).await;
}
