//! Shutdown and handover: which jobs continue afterwards, which end, and what their readers get.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::queen_support::{Seen, echo, queen, quiet, read, request};
use rbee_core::{
    ErrorKind, EventKind, JobHandle, JobId, JobState, MemoryRegistry, Outcome, Queen, Registry,
    job::JobStatus,
    registry::{Change, GuardedRegistry},
    worker::EchoGate,
};
use tokio::sync::Notify;

/// The state a job is recorded in, and the kind of its error.
async fn state(queen: &Queen, job: JobId) -> (JobState, Option<ErrorKind>) {
    let status = queen.job(job).await.unwrap().status;
    let kind = match &status {
        JobStatus::Ended(ended) => match &ended.outcome {
            Outcome::Failed(error) => Some(error.kind()),
            Outcome::Complete { .. } | Outcome::Cancelled => None,
        },
        JobStatus::Live(_) => None,
    };
    (status.state(), kind)
}

/// Reads what is available, up to the end or the interruption.
async fn read_on(mut job: JobHandle) -> (Seen, Option<ErrorKind>) {
    let mut seen = Seen::default();
    while let Some(event) = job.next().await {
        seen.take(event);
    }
    assert!(job.is_done());
    (seen, job.interruption().map(|error| error.kind()))
}

#[tokio::test]
async fn what_somebody_can_come_back_for_goes_on_in_the_next_life_and_the_rest_ends_in_this_one() {
    for hands_over in [false, true] {
        let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
        let worker = echo().slots(4).gate(&gate).build();
        let first =
            queen().registry(registry.clone()).worker(worker.clone()).build().await.unwrap();
        let mut detached = first.submit(request(2, 20).detached()).await.unwrap();
        gate.release(7);
        let mut seen = Seen::default();
        while seen.tokens < 7 {
            seen.take(detached.next().await.unwrap());
        }
        let plain = first.submit(request(1, 20)).await.unwrap();
        let keyed = first.submit(request(3, 20).idempotency_key("k")).await.unwrap();
        let let_go = first.submit(request(4, 20)).await.unwrap().detach();
        let waiting = first.submit(request(5, 20)).await.unwrap();
        let waits_on = first.submit(request(6, 20).detached()).await.unwrap();
        let names = [&plain, &detached, &keyed, &waiting, &waits_on].map(JobHandle::id);
        let [plain_id, detached_id, keyed_id, waiting_id, waits_on_id] = names;
        worker.until_active(4).await;
        match hands_over {
            false => first.shutdown(Duration::from_millis(1)).await.unwrap(),
            true => first.hand_over().await.unwrap(),
        }

        for (job, id) in [(plain, plain_id), (waiting, waiting_id)] {
            let (seen, interruption) = read_on(job).await;
            assert_eq!((seen.error().kind(), interruption), (ErrorKind::ShuttingDown, None));
            let ended = (JobState::Failed, Some(ErrorKind::ShuttingDown));
            assert_eq!(state(&first, id).await, ended, "its record says why");
        }
        while let Some(event) = detached.next().await {
            seen.take(event);
        }
        assert!(seen.end.is_none(), "it has not ended");
        let why = detached.interruption().unwrap();
        assert_eq!(why.kind(), ErrorKind::Interrupted);
        assert!(why.message().contains(&detached_id.to_string()), "{why}");
        assert!(why.message().contains("goes on") && why.retry_after().is_some(), "{why}");
        let error = keyed.answer().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        let mut waits_on = waits_on;
        assert_eq!(waits_on.next_text().await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(waits_on.next_text().await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(first.submit(request(7, 5)).await.unwrap_err().kind(), ErrorKind::ShuttingDown);

        // Another queen can take over at once, because the ownership was released.
        let worker = echo().slots(4).build();
        let second = queen().registry(registry).worker(worker.clone()).build().await.unwrap();
        let restored = second.status().await.unwrap().restored;
        assert_eq!(*restored, [detached_id, keyed_id, let_go, waits_on_id]);
        let rest = read(second.attach(detached_id, seen.seqs.last().copied()).await.unwrap()).await;
        seen.seqs.extend(&rest.seqs);
        seen.text.push_str(&rest.text);
        seen.end = rest.end;
        seen.assert_whole(2, 20);
        let again = second.submit(request(3, 20).idempotency_key("k")).await.unwrap();
        assert_eq!(again.id(), keyed_id);
        read(again).await.assert_whole(3, 20);
        read(second.attach(let_go, None).await.unwrap()).await.assert_whole(4, 20);
        read(second.attach(waits_on_id, None).await.unwrap()).await.assert_whole(6, 20);
        quiet(&second).await;
        let run: Vec<_> = worker.runs().iter().map(|run| run.job).collect();
        assert!(!run.contains(&plain_id) && !run.contains(&waiting_id), "no client waits for them");
        assert_eq!(state(&second, plain_id).await.0, JobState::Failed);
    }
}

/// A store that refuses or delays the changes that a test selects.
struct Moody {
    registry: GuardedRegistry,
    is_moody: Arc<AtomicBool>,
    go_on: Arc<Notify>,
}

impl Moody {
    /// Refuses ends of jobs.
    fn refuses_ends() -> Self {
        Self::new(|change| matches!(change, Change::JobEnded { .. }), true)
    }

    /// Delays these changes until the test releases them.
    fn holds(which: fn(&Change) -> bool) -> Self {
        Self::new(which, false)
    }

    fn new(which: fn(&Change) -> bool, refuses: bool) -> Self {
        let (is_moody, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (mood, told) = (is_moody.clone(), go_on.clone());
        let registry = GuardedRegistry::new(move |changes| {
            let concerned = mood.load(Ordering::SeqCst) && changes.iter().any(which);
            let told = told.clone();
            Box::pin(async move {
                match (concerned, refuses) {
                    (true, true) => {
                        Err(rbee_core::Error::new(ErrorKind::Storage, "the disk is full"))
                    }
                    (true, false) => {
                        told.notified().await;
                        Ok(())
                    }
                    (false, _) => Ok(()),
                }
            })
        });
        Self { registry, is_moody, go_on }
    }

    fn begin(&self) {
        self.is_moody.store(true, Ordering::SeqCst);
    }

    fn end(&self) {
        self.is_moody.store(false, Ordering::SeqCst);
        self.go_on.notify_one();
    }

    async fn live(&self) -> Vec<JobId> {
        let filter = rbee_core::registry::JobFilter {
            states: vec![JobState::Queued, JobState::Running],
            ..Default::default()
        };
        self.registry.jobs(&filter).await.unwrap().iter().map(|job| job.id).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_end_cannot_be_recorded_nobody_is_told_that_the_job_has_failed() {
    let moody = Moody::refuses_ends();
    let worker = echo().gate(&EchoGate::new()).build();
    let first = queen().registry(moody.registry.clone()).worker(worker).build().await.unwrap();
    let plain = first.submit(request(1, 5)).await.unwrap();
    let id = plain.id();
    moody.begin();
    let error = first.shutdown(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "what was not recorded is said");
    let (seen, interruption) = read_on(plain).await;
    assert!(seen.end.is_none(), "it goes on, for all the store says");
    assert_eq!(interruption, Some(ErrorKind::Interrupted));
    assert_eq!(moody.live().await, [id]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_the_end_of_the_queen_for_a_bounded_time() {
    let moody = Moody::holds(|change| matches!(change, Change::JobEnded { .. }));
    let worker = echo().gate(&EchoGate::new()).build();
    let first = queen().registry(moody.registry.clone()).worker(worker).build().await.unwrap();
    let plain = first.submit(request(1, 5)).await.unwrap();
    moody.begin();
    let begun = tokio::time::Instant::now();
    let down = tokio::spawn({
        let first = first.clone();
        async move { first.shutdown(Duration::ZERO).await }
    });
    let (_, interruption) = read_on(plain).await;
    assert_eq!(interruption, Some(ErrorKind::Interrupted));
    assert!(begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
    // Releasing the store itself may take longer.
    assert_eq!(down.await.unwrap().unwrap_err().kind(), ErrorKind::Storage);
    assert!(begun.elapsed() <= Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_submission_that_waits_for_its_record_is_answered_by_what_becomes_of_it() {
    let moody = Moody::holds(|change| matches!(change, Change::JobQueued(_)));
    let worker = echo().slots(4).gate(&EchoGate::new()).build();
    let first = queen().registry(moody.registry.clone()).worker(worker).build().await.unwrap();
    moody.begin();
    let submit = |request| {
        let first = first.clone();
        tokio::spawn(async move { first.submit(request).await })
    };
    let plain = submit(request(1, 5));
    let detached = submit(request(2, 5).detached());
    while first.status().await.unwrap().counters.jobs < 2 {
        tokio::task::yield_now().await;
    }
    let down = tokio::spawn({
        let first = first.clone();
        async move { first.shutdown(Duration::ZERO).await }
    });
    // The queen is frozen when nobody answers any more.
    while first.status().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!plain.is_finished() && !detached.is_finished(), "what becomes of them is not known");
    moody.end();
    // The second group of records is delayed too, if the first did not have both.
    moody.go_on.notify_one();
    down.await.unwrap().unwrap();
    let (seen, _) = read_on(plain.await.unwrap().unwrap()).await;
    assert_eq!(seen.error().kind(), ErrorKind::ShuttingDown);
    let detached = detached.await.unwrap().unwrap();
    assert_eq!(moody.live().await, [detached.id()], "the other one is not run later");
    assert_eq!(read_on(detached).await.1, Some(ErrorKind::Interrupted));
}

#[tokio::test]
async fn a_job_whose_end_is_being_recorded_at_the_shutdown_ends_for_its_reader() {
    let moody = Moody::holds(|change| matches!(change, Change::JobEnded { .. }));
    let worker = echo().build();
    let first = queen().registry(moody.registry.clone()).worker(worker).build().await.unwrap();
    moody.begin();
    let mut job = first.submit(request(1, 5)).await.unwrap();
    let mut seen = Seen::default();
    while seen.tokens < 5 {
        seen.take(job.next().await.unwrap());
    }
    while first.status().await.unwrap().counters.leases > 0 {
        tokio::task::yield_now().await;
    }
    let down = tokio::spawn({
        let first = first.clone();
        async move { first.shutdown(Duration::ZERO).await }
    });
    while first.status().await.is_ok() {
        tokio::task::yield_now().await;
    }
    moody.end();
    let end = job.next().await.unwrap();
    assert!(matches!(end.kind, EventKind::End { .. }), "{end:?}");
    seen.take(end);
    seen.assert_whole(1, 5);
    down.await.unwrap().unwrap();
    assert!(moody.live().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_call_of_shutdown_waits_for_the_same_end_and_returns_its_result() {
    for fails in [false, true] {
        let moody = match fails {
            true => Moody::refuses_ends(),
            false => Moody::holds(|change| matches!(change, Change::JobEnded { .. })),
        };
        let worker = echo().gate(&EchoGate::new()).build();
        let first = queen().registry(moody.registry.clone()).worker(worker).build().await.unwrap();
        let plain = first.submit(request(1, 5)).await.unwrap();
        moody.begin();
        let mut calls: Vec<_> = (0..3)
            .map(|_| {
                let first = first.clone();
                tokio::spawn(async move { first.shutdown(Duration::ZERO).await })
            })
            .collect();
        // The end goes on although a caller that waited for it is gone.
        let dropped = calls.remove(0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        dropped.abort();
        if !fails {
            assert!(!calls.iter().any(|call| call.is_finished()), "the writer is not done");
            moody.end();
        }
        for call in calls {
            let result = call.await.unwrap();
            assert_eq!(result.err().map(|error| error.kind()), fails.then_some(ErrorKind::Storage));
        }
        let later = first.shutdown(Duration::from_secs(60)).await;
        assert_eq!(later.err().map(|error| error.kind()), fails.then_some(ErrorKind::Storage));
        let later = first.hand_over().await;
        assert_eq!(later.err().map(|error| error.kind()), fails.then_some(ErrorKind::Storage));
        drop(plain);
    }
}
