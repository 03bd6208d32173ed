use futures_util::{StreamExt, stream};
use rbee_core::{Finish, JobId, Usage};

use super::{super::runs::Runs, *};

fn token(text: &str) -> Result<Output> {
    Ok(Output::Token { id: None, text: text.into(), logprobs: None })
}

fn end() -> Result<Output> {
    Ok(Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None })
}

/// The outputs of a worker that sends each of these after this many milliseconds.
fn outputs(runs: &Runs, script: Vec<(u64, Result<Output>)>, streamed: bool) -> RunOutputs {
    let stream = stream::iter(script).then(|(after, output)| async move {
        if after > 0 {
            tokio::time::sleep(Duration::from_millis(after)).await;
        }
        output
    });
    RunOutputs::new(runs.begin(JobId::random(), None), stream.boxed(), streamed)
}

/// When each output came, in milliseconds, and what it is.
async fn timeline(mut outputs: RunOutputs) -> Vec<(u128, String)> {
    let (began, mut found) = (Instant::now(), Vec::new());
    while let Some(output) = std::future::poll_fn(|cx| outputs.poll_next(cx)).await {
        let what = match output {
            Ok(Output::Token { text, .. }) => text.into(),
            Ok(Output::Heartbeat) => "heartbeat".to_owned(),
            Ok(Output::End { .. }) => "end".to_owned(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.kind().to_string(),
        };
        found.push((began.elapsed().as_millis(), what));
    }
    found
}

fn expected(list: &[(u128, &str)]) -> Vec<(u128, String)> {
    list.iter().map(|(at, what)| (*at, (*what).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn tokens_that_somebody_reads_come_at_once() {
    let script = vec![(40, token("a")), (40, token("b")), (40, end())];
    let found = timeline(outputs(&Runs::default(), script, true)).await;
    assert_eq!(found, expected(&[(40, "a"), (80, "b"), (120, "end")]));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_nobody_reads_come_together_when_the_oldest_is_due_or_at_the_end() {
    let script = vec![
        (40, token("a")),
        (40, token("b")),
        (40, token("c")),
        (40, token("d")),
        (10, token("e")),
        (10, end()),
    ];
    let found = timeline(outputs(&Runs::default(), script, false)).await;
    let batches = [(140, "a"), (140, "b"), (140, "c"), (180, "d"), (180, "e"), (180, "end")];
    assert_eq!(found, expected(&batches));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_nobody_reads_come_when_there_are_many() {
    let mut script: Vec<_> = (0..40).map(|_| (1, token("x"))).collect();
    script.push((1, end()));
    let found = timeline(outputs(&Runs::default(), script, false)).await;
    let times: Vec<u128> = found.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [vec![32; 32], vec![41; 9]].concat());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_wait_for_tokens_and_an_error_comes_after_them() {
    let lost = || Err(Error::new(ErrorKind::WorkerFault, "broken"));
    let script = vec![
        (10, token("a")),
        (10, Ok(Output::Heartbeat)),
        (10, token("b")),
        (10, lost()),
        (10, token("never")),
    ];
    let found = timeline(outputs(&Runs::default(), script, false)).await;
    let fault = ErrorKind::WorkerFault.to_string();
    assert_eq!(found, expected(&[(20, "heartbeat"), (40, "a"), (40, "b"), (40, &fault)]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_has_an_error_whether_or_not_tokens_are_held() {
    for streamed in [true, false] {
        let runs = Runs::default();
        let job = JobId::random();
        let stream = stream::iter([token("a")]).chain(stream::pending()).boxed();
        let outputs = RunOutputs::new(runs.begin(job, None), stream, streamed);
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(runs.cancel(job).await);
        };
        let (found, ()) = tokio::join!(timeline(outputs), cancel);
        let (at, cancelled) = (if streamed { 0 } else { 50 }, ErrorKind::Cancelled.to_string());
        assert_eq!(found, expected(&[(at, "a"), (50, &cancelled)]));
        assert!(!runs.cancel(job).await, "it is in the table");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_end_is_a_fault_of_the_worker() {
    let found = timeline(outputs(&Runs::default(), vec![(1, token("a"))], true)).await;
    let fault = ErrorKind::WorkerFault.to_string();
    assert_eq!(found, expected(&[(1, "a"), (1, &fault)]));
}
