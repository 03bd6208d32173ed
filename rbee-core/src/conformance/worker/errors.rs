use super::{CollectedAnswer, Error, ErrorKind, Prompt, Resume, Run, Sampling, Subject, Task};

impl Subject {
    /// The error of a run, whether it comes at once or later.
    pub(super) async fn error(&self, task: Task, what: &str) -> Option<Error> {
        let run = Run { job: self.job(task, self.seed), attempt: 1, resume: Resume::default() };
        let error = match self.begin(run).await {
            Err(error) => Some(error),
            Ok(stream) => CollectedAnswer::collect(stream).await.err(),
        };
        self.idle(what).await;
        error
    }
}

/// A conversation without messages and a prompt longer than the context are the client's errors, and have no
/// after-effects.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn bad_prompts_are_typed_errors(subject: &Subject) {
    let generate = |prompt| Task::Generate {
        prompt,
        sampling: Sampling { max_tokens: Some(4), ..Sampling::default() },
    };
    let kind = |error: Option<Error>| error.map(|error| error.kind());
    let empty = kind(
        subject
            .error(generate(Prompt::Chat(crate::chat::Chat::default())), "an empty prompt")
            .await,
    );
    assert!(
        matches!(empty, Some(ErrorKind::InvalidRequest | ErrorKind::Unsupported)),
        "a conversation without messages gave {empty:?}; expected is InvalidRequest"
    );
    // An empty text may give one token or none, depending on the tokenizer; it must not be a fault.
    let nothing =
        kind(subject.error(generate(Prompt::Text(String::new())), "an empty prompt").await);
    assert!(
        matches!(nothing, None | Some(ErrorKind::InvalidRequest)),
        "an empty text gave {nothing:?}; expected is InvalidRequest or an answer"
    );
    let Some(context) = subject.worker.info().capabilities.context_tokens else {
        return;
    };
    // No tokenizer has a token as long as three of these.
    let long = Prompt::Text("q7 z".repeat(3 * context as usize + 3));
    let error = kind(subject.error(generate(long), "a prompt that is too long").await);
    assert_eq!(
        error,
        Some(ErrorKind::ContextExceeded),
        "a prompt longer than context_tokens, {context}"
    );
}

/// A task that the capabilities do not include is [`ErrorKind::Unsupported`].
///
/// # Panics
/// If the worker breaks the contract.
pub async fn unsupported_tasks_are_unsupported(subject: &Subject) {
    let able = &subject.worker.info().capabilities;
    if !able.embed {
        let inputs = ["one", "two"];
        let error = subject.error(Task::embed(inputs), "an unsupported task").await;
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Unsupported), "an embedding that the worker cannot make");
    }
    if !able.rerank {
        let task = Task::rerank("one", ["two", "three"]);
        let error = subject.error(task, "an unsupported task").await;
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Unsupported), "a rerank that the worker cannot do");
    }
    if !able.generate {
        let (prompt, sampling) = (subject.prompt.clone(), Sampling::default());
        let error = subject.error(Task::Generate { prompt, sampling }, "an unsupported task").await;
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Unsupported), "text that the worker cannot generate");
    }
}
