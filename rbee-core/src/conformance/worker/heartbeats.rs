use std::time::Duration;

use futures_util::StreamExt;

use super::{Output, Prompt, Resume, Run, Sampling, Subject, Task, bounded};

/// Heartbeats of one run that are no burden: one for each so long that it takes, and a few.
const APART: Duration = Duration::from_millis(100);

/// Where [`Capabilities::heartbeats`](crate::worker::Capabilities::heartbeats) is promised, a run gives a sign of life all the
/// time, also while it computes a long prompt; where it is not, there are no heartbeats. They are few in any case.
///
/// # Panics
/// Where the worker breaks the contract.
pub async fn heartbeats_are_as_promised(subject: &Subject) {
    let able = &subject.worker.info().capabilities;
    let Prompt::Text(text) = &subject.prompt else {
        return;
    };
    // Half a context of the prompt, as far as that is known: no tokenizer has more tokens than bytes.
    let bytes = able.context_tokens.map_or(4_096, |tokens| tokens as usize / 2);
    let times = (bytes / text.len().max(1)).clamp(1, 1_000);
    let task = Task::Generate {
        prompt: Prompt::Text(text.repeat(times)),
        sampling: Sampling { max_tokens: Some(4), ..Sampling::default() },
    };
    let run = Run { job: subject.job(task, subject.seed), attempt: 1, resume: Resume::default() };
    let stream = subject.begin(run).await;
    let mut stream =
        stream.unwrap_or_else(|error| panic!("the worker refused a proper run: {error:?}"));
    let (began, mut beats) = (tokio::time::Instant::now(), 0);
    loop {
        let asked = tokio::time::Instant::now();
        let next = bounded("the next output", stream.next()).await;
        let output = next.unwrap_or_else(|| panic!("the stream ended without an End"));
        let output = output.unwrap_or_else(|error| panic!("the run failed: {error:?}"));
        if able.heartbeats {
            assert!(
                asked.elapsed() <= subject.promptness,
                "no sign of life for {:?}, although heartbeats are promised",
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
