use super::{ErrorKind, Sampling, Subject, bounded};

/// [`Worker::count_tokens`](crate::Worker::count_tokens) gives the number of prompt tokens that a run of the same task
/// reports, or [`ErrorKind::Unsupported`] without a parameter.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn a_counted_prompt_has_the_tokens_of_its_usage(subject: &Subject) {
    let sampling = Sampling { max_tokens: Some(1), ..Sampling::default() };
    let run = subject.run(subject.seed, sampling);
    let task = run.job.task.clone().into();
    match bounded("count_tokens", subject.worker.count_tokens(task)).await {
        Ok(counted) => {
            let usage = subject.answer(run).await.usage;
            assert_eq!(counted, usage.prompt_tokens, "the count is not that of the run's usage");
        }
        Err(error) => assert_eq!(
            (error.kind(), error.param()),
            (ErrorKind::Unsupported, None),
            "a valid prompt was not counted: {error:?}"
        ),
    }
}
