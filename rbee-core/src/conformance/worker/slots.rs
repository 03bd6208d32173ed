use futures_util::{FutureExt, StreamExt, future::join_all};

use super::{CollectedAnswer, Error, ErrorKind, OutputStream, Run, Sampling, Subject, bounded};

/// A run whose stream, or whose future of `execute`, is dropped ends soon, and until then health reports it.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn dropping_frees_the_slot(subject: &Subject) {
    subject.idle("the runs before").await;
    // An answer of maximum length.
    let run = || subject.run(subject.seed, Sampling::default());
    for _ in 0..3 {
        let mut stream = begun(subject, run()).await;
        let _ = bounded("the first output", stream.next()).await;
        let health = tokio::time::timeout(subject.promptness, subject.worker.health()).await;
        assert!(
            health.is_ok(),
            "health took longer than {:?} while a run was active",
            subject.promptness
        );
        assert!(
            subject.busy().await > 0,
            "health reported no run while one was active, or its answer is too short"
        );
        drop(stream);
        subject.idle("its stream was dropped").await;
    }
    for _ in 0..3 {
        // Polled once, then dropped: the run may have begun or not.
        drop(subject.worker.execute(run()).now_or_never());
        subject.idle("the future of execute was dropped").await;
    }
    let sampling = Sampling { max_tokens: Some(2), ..Sampling::default() };
    subject.answer(subject.run(subject.seed, sampling)).await;
}

/// All slots can be used at once; each run gives the same answer as alone; one more run is [`ErrorKind::WorkerBusy`].
///
/// # Panics
/// If the worker breaks the contract.
pub async fn slots_are_independent_and_no_more_than_promised(subject: &Subject) {
    subject.idle("the runs before").await;
    let slots = subject.worker.info().slots.min(64);
    let runs: Vec<Run> = (0..u64::from(slots))
        .map(|slot| subject.run(subject.seed.wrapping_add(slot), Sampling::default()))
        .collect();
    let mut alone = Vec::new();
    for run in &runs {
        alone.push(subject.answer(run.clone()).await);
    }
    subject.idle("its run ended").await;
    let mut streams: Vec<OutputStream> = Vec::new();
    for run in &runs {
        streams.push(begun(subject, run.clone()).await);
    }
    let busy = subject.busy().await;
    assert_eq!(
        busy, slots,
        "health reported {busy} runs while {slots} were active, or their answers are too short"
    );
    let more =
        tokio::time::timeout(subject.promptness, subject.worker.execute(runs[0].clone())).await;
    let kind = more
        .unwrap_or_else(|_| {
            panic!("a run more than there are slots waited; expected is WorkerBusy at once")
        })
        .err()
        .map(|error: Error| error.kind());
    assert_eq!(kind, Some(ErrorKind::WorkerBusy), "a run more than there are slots");
    let batch = join_all(streams.into_iter().map(CollectedAnswer::collect)).await;
    for (slot, (alone, batch)) in alone.iter().zip(batch).enumerate() {
        let batch = batch.unwrap_or_else(|error| panic!("run {slot} of {slots} failed: {error:?}"));
        assert_eq!(*alone, batch, "run {slot} gave another answer among others than alone");
    }
    subject.idle("all runs ended").await;
}

/// A run that has begun.
async fn begun(subject: &Subject, run: Run) -> OutputStream {
    subject
        .begin(run)
        .await
        .unwrap_or_else(|error| panic!("the worker refused a valid run: {error:?}"))
}
