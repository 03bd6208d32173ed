use futures_util::{FutureExt, StreamExt};

use super::{CollectedAnswer, ErrorKind, Resume, Run, Subject, Task, bounded};

/// The allowed difference of each number of a vector of length 1 if a text is computed together with others.
const TOLERANCE: f32 = 1e-4;

impl Subject {
    fn embed(&self, inputs: &[&str]) -> Run {
        let job = self.job(Task::embed(inputs.iter().copied()), self.seed);
        Run { job, attempt: 1, resume: Resume::default() }
    }

    /// The vectors of these texts, after the checks for every answer.
    async fn vectors(&self, inputs: &[&str]) -> (Vec<Vec<f32>>, CollectedAnswer) {
        let mut answer = self.answer(self.embed(inputs)).await;
        assert!(answer.tokens.is_empty(), "text was given to a run that asked for vectors");
        let vectors = answer.vectors.take();
        let vectors = vectors.expect("no vectors were given to a run that asked for them");
        assert_eq!(vectors.len(), inputs.len(), "one vector for each text");
        let length = vectors[0].len();
        let equal = vectors.iter().all(|vector| vector.len() == length);
        assert!(equal && length > 0, "vectors of unequal length");
        let numbers = vectors.iter().flatten().all(|x| x.is_finite());
        assert!(numbers, "a vector contains a value that is not a number");
        (vectors, answer)
    }
}

/// Each text has one vector, at its index; the same text has the same vector, alone and among others; usage counts it.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn vectors_belong_to_their_texts(subject: &Subject) {
    let long = "a bee and a flower ".repeat(2);
    let texts = ["one", &long, "two", "one", "three and four"];
    let (batch, whole) = subject.vectors(&texts).await;
    assert!(whole.usage.prompt_tokens > 0, "usage has 0 prompt tokens");
    let mut counted = 0;
    for (at, text) in texts.iter().enumerate() {
        let (alone, answer) = subject.vectors(&[*text]).await;
        counted += answer.usage.prompt_tokens;
        assert!(
            near(&alone[0], &batch[at]),
            "text {at} has another vector among others than alone"
        );
    }
    // A worker that estimates may round for each text.
    let off = whole.usage.prompt_tokens.abs_diff(counted) as usize;
    assert!(off <= texts.len(), "usage of texts together is {off} off that of each alone");
    assert!(!near(&batch[0], &batch[2]), "different texts have the same vector");
    subject.idle("all runs ended").await;
}

/// True if each number is equal up to rounding, relative to the size of the vectors.
fn near(a: &[f32], b: &[f32]) -> bool {
    let size = a.iter().map(|x| x * x).sum::<f32>().sqrt().max(1.0);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= TOLERANCE * size)
}

/// A text longer than the context is [`ErrorKind::ContextExceeded`], also if another text of the run is not, and has no
/// after-effects.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn long_texts_are_typed_errors(subject: &Subject) {
    let Some(context) = subject.worker.info().capabilities.context_tokens else {
        return;
    };
    // No tokenizer has a token as long as three of these words.
    let long = "q7 z".repeat(3 * context as usize + 3);
    let inputs = vec!["one".to_owned(), long];
    let error = subject.error(Task::embed(inputs), "a text that is too long").await;
    let kind = error.map(|error| error.kind());
    assert_eq!(
        kind,
        Some(ErrorKind::ContextExceeded),
        "a text longer than context_tokens, {context}"
    );
}

/// A run for vectors that is dropped, at once or after its first output, releases its slot.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn dropped_vectors_free_the_slot(subject: &Subject) {
    let texts = ["one two three"; 64];
    for _ in 0..3 {
        drop(subject.worker.execute(subject.embed(&texts)).now_or_never());
        subject.idle("the future of execute was dropped").await;
        let stream = subject.begin(subject.embed(&texts)).await;
        let mut stream =
            stream.unwrap_or_else(|error| panic!("the worker refused a valid run: {error:?}"));
        let _ = bounded("the first output", stream.next()).await;
        drop(stream);
        subject.idle("its stream was dropped").await;
    }
    subject.vectors(&["one"]).await;
}
