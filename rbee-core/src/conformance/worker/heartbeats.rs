use std::time::Duration;

use futures_util::StreamExt;

use super::{Output, Prompt, Resume, Run, Sampling, Subject, Task, bounded};

/// The allowed heartbeats of one run: one for each of these intervals, and a few more.
const APART: Duration = Duration::from_millis(100);

/// If [`Capabilities::heartbeats`](crate::worker::Capabilities::heartbeats) is set, a run always sends outputs or
/// heartbeats, also while it computes a long prompt; otherwise there are no heartbeats. There must not be many in any
/// case.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn heartbeats_are_as_promised(subject: &Subject) {
    let able = &subject.worker.info().capabilities;
    let Prompt::Text(text) = &subject.prompt else {
        return;
    };
    // A prompt of half a context, if the context is known: no tokenizer has more tokens than bytes.
    let bytes = able.context_tokens.map_or(4_096, |tokens| tokens as usize / 2);
    let times = (bytes / text.len().max(1)).clamp(1, 1_000);
    let task = Task::Generate {
        prompt: Prompt::Text(text.repeat(times)),
        sampling: Sampling { max_tokens: Some(4), ..Sampling::default() },
    };
    let run = Run { job: subject.job(task, subject.seed), attempt: 1, resume: Resume::default() };
    let stream = subject.begin(run).await;
    let mut stream =
        stream.unwrap_or_else(|error| panic!("the worker refused a valid run: {error:?}"));
    let (began, mut beats) = (tokio::time::Instant::now(), 0);
    loop {
        let asked = tokio::time::Instant::now();
        let next = bounded("the next output", stream.next()).await;
        let output = next.unwrap_or_else(|| panic!("the stream ended without an End"));
        let output = output.unwrap_or_else(|error| panic!("the run failed: {error:?}"));
        if able.heartbeats {
            assert!(
                asked.elapsed() <= subject.promptness,
                "no output and no heartbeat for {:?}, although the worker declares heartbeats",
                asked.elapsed()
            );
        }
        match output {
            Output::Heartbeat => beats += 1,
            Output::End { .. } => break,
            _ => {}
        }
    }
    if !able.heartbeats {
        assert_eq!(beats, 0, "heartbeats that are not promised");
    }
    let most = began.elapsed().as_millis() / APART.as_millis() + 4;
    assert!(beats <= most, "{beats} heartbeats in {:?}; allowed are {most}", began.elapsed());
}
