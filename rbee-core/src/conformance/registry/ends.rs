//! The ends of jobs, and the data that stays.

use super::{Subject, samples::*};
use crate::{
    error::{Error, ErrorKind},
    event::{Finish, Outcome, Usage},
    id::JobId,
    job::{EndedJob, JobState, JobStatus},
    registry::Change,
};

/// No later change has an effect on the job.
pub async fn the_first_end_stays(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let end = Change::JobEnded {
        job: job.id,
        outcome: complete(3, 1),
        at: later(50),
        used_tokens: 0,
        keep_request: true,
        keep_output: true,
    };
    let changes =
        [queued(&job), running(job.id, 1, later(10), "one"), tokens(job.id, 0, &["a"]), end];
    record(&*registry, epoch, &changes).await;
    let first = stored_one(&*registry, job.id).await;
    assert_eq!(first.status.state(), JobState::Complete, "the first end must be recorded");
    for change in [
        ended(job.id, Outcome::Cancelled, later(60)),
        running(job.id, 2, later(60), "two"),
        Change::JobRequeued { job: job.id, attempts: 1 },
        tokens(job.id, 1, &["b"]),
        vectors(job.id),
        queued(&job),
    ] {
        record(&*registry, epoch, std::slice::from_ref(&change)).await;
        assert_eq!(
            stored_one(&*registry, job.id).await,
            first,
            "a job that has ended must stay as it is, also after {change:?}"
        );
    }
    assert_eq!(restart(store, registry).await, [], "a job that has ended must not run again");
}

/// With all its fields.
pub async fn every_outcome_comes_back(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let stop = Outcome::Complete {
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 7, completion_tokens: 900, cached_tokens: Some(5) },
        stop_text: Some("\n\"é".into()),
    };
    let failure =
        Error::new(ErrorKind::ModelNotFound, "model \"x\" is nowhere; allowed is 'y' – é")
            .with_param("model")
            .with_retry_after(std::time::Duration::from_millis(1_234))
            .with_short_bytes(u64::MAX);
    let told = failure.clone().with_client_message("\"x\" is not known – é");
    let failures = [Outcome::Failed(failure), Outcome::Failed(told)];
    for (order, outcome) in
        (1..).zip([stop, complete(0, 0), Outcome::Cancelled].into_iter().chain(failures))
    {
        let job = job(order);
        let start = running(job.id, 1, later(1), "one");
        let Change::JobRunning { worker, .. } = start else { unreachable!("made just above") };
        let changes = [
            queued(&job),
            start,
            tokens(job.id, 0, &["a", "b"]),
            ended(job.id, outcome.clone(), later(2)),
        ];
        record(&*registry, epoch, &changes).await;
        let tokens = match &outcome {
            Outcome::Complete { usage, .. } => usage.completion_tokens,
            _ => 2,
        };
        let found = stored_one(&*registry, job.id).await;
        let details = |outcome: &Outcome| match outcome {
            Outcome::Failed(error) => {
                (error.param().map(str::to_owned), error.retry_after(), error.short_bytes())
            }
            Outcome::Complete { .. } | Outcome::Cancelled => (None, None, None),
        };
        if let JobStatus::Ended(ended) = &found.status {
            assert_eq!(
                details(&ended.outcome),
                details(&outcome),
                "an error must come back with all its fields"
            );
        }
        let expected = EndedJob {
            outcome,
            worker: Some(worker),
            started_at: Some(later(1)),
            completed_at: later(2),
        };
        assert_eq!(
            found.status,
            JobStatus::Ended(expected),
            "an end must come back as it was recorded"
        );
        assert_eq!(
            found.tokens_generated, tokens,
            "an ended job has the tokens of its usage, or else those that were recorded"
        );
    }
    let job = job(9);
    let end = ended(job.id, Outcome::Cancelled, later(2));
    record(&*registry, epoch, &[queued(&job), end]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.started_at(), found.status.worker()),
        (None, None),
        "a job that never started has no start"
    );
}

/// Request and output are erased independently, at the end and not earlier.
pub async fn what_may_not_be_kept_is_erased(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    for (order, keep_request, keep_output) in
        [(1, false, false), (2, true, false), (3, false, true), (4, true, true)]
    {
        let job = job(order);
        let changes = [
            queued(&job),
            running(job.id, 1, AT, "x"),
            tokens(job.id, 0, &["a", "b"]),
            vectors(job.id),
            vectors(job.id),
        ];
        record(&*registry, epoch, &changes).await;
        let live = stored_one(&*registry, job.id).await;
        assert!(
            live.request.is_some() && live.chunks.len() == 2,
            "request and output of a live job must be kept"
        );
        assert!(!live.output_kept, "the answer of a live job is not complete");
        let end = Change::JobEnded {
            job: job.id,
            outcome: complete(1, 2),
            at: AT,
            used_tokens: 0,
            keep_request,
            keep_output,
        };
        record(&*registry, epoch, &[end]).await;
        let found = stored_one(&*registry, job.id).await;
        assert_eq!(
            found.outline, job.outline,
            "with keep_request {keep_request} the outline must be kept, which has no text in it"
        );
        assert_eq!(
            found.request,
            job.request.filter(|_| keep_request),
            "with keep_request {keep_request} the request must be kept or erased"
        );
        let expected = if keep_output { chunks(&["a", "b"]) } else { Vec::new() };
        assert_eq!(
            found.chunks, expected,
            "with keep_output {keep_output} the token chunks must be kept or erased"
        );
        assert_eq!(
            found.vectors,
            keep_output.then(some_vectors),
            "with keep_output {keep_output} the vectors must be kept or erased"
        );
        assert_eq!(
            found.output_kept, keep_output,
            "with keep_output {keep_output} the record must state if the answer was kept"
        );
    }
}

/// A store that cannot keep ends while it fails returns an error, and is not asked again.
pub async fn ends_that_are_kept_are_recorded_by_whoever_takes_over(store: &dyn Subject) {
    let old = store.handle().await;
    let epoch = open(store, &*old, "a").await.epoch;
    let (one, two) = (job(1), job(2));
    record(&*old, epoch, &[queued(&one), queued(&two)]).await;
    let end = ended(one.id, Outcome::Cancelled, store.now());
    match old.keep_ends(epoch, &[end]).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        kept => kept.expect("an end must be kept"),
    }
    let new = store.handle().await;
    let taken = open(store, &*new, "a").await;
    assert_eq!(ids(&taken.jobs), [two.id], "a job whose end was kept must not be handed over");
    let state = stored_one(&*new, one.id).await.status.state();
    assert_eq!(state, JobState::Cancelled, "an end that was kept must be recorded");
    new.keep_ends(taken.epoch, &[]).await.expect("nothing is left to be kept");
}

/// Also for a job of an earlier run. A job that is live stays as it is.
pub async fn what_is_erased_later_is_gone_and_the_record_stays(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (old, live) = (job(1), job(2));
    let end = Change::JobEnded {
        job: old.id,
        outcome: complete(1, 2),
        // Not so long ago that the store may drop the job.
        at: store.now(),
        used_tokens: 0,
        keep_request: true,
        keep_output: true,
    };
    let changes = [
        queued(&old),
        running(old.id, 1, AT, "x"),
        tokens(old.id, 0, &["a", "b"]),
        vectors(old.id),
        end,
        queued(&live),
    ];
    record(&*registry, epoch, &changes).await;
    let whole = stored_one(&*registry, old.id).await;
    assert!(
        whole.request.is_some() && whole.chunks.len() == 2 && whole.vectors.is_some(),
        "request and output were to be kept"
    );
    let erased = |job| Change::JobErased { job };
    let waiting = stored_one(&*registry, live.id).await;
    record(&*registry, epoch, &[erased(live.id)]).await;
    assert_eq!(stored_one(&*registry, live.id).await, waiting, "a live job must stay as it is");
    let epoch = open(store, &*registry, "a").await.epoch;
    record(&*registry, epoch, &[erased(old.id), erased(JobId::random())]).await;
    let found = stored_one(&*registry, old.id).await;
    assert_eq!(
        (&found.request, found.chunks.len(), &found.vectors, found.output_kept),
        (&None, 0, &None, false),
        "request and output must be erased"
    );
    let expected = crate::registry::JobRecord {
        request: None,
        chunks: Vec::new(),
        vectors: None,
        output_kept: false,
        ..whole
    };
    assert_eq!(found, expected, "the rest of the record must stay");
}
