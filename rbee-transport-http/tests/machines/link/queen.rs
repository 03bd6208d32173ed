//! A queen whose workers are behind links: each job ends once, whatever happens to a link.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, EventKind, FnScheduler, JobHandle, LeastLoaded, Placement, Queen, Request,
    Scheduler, Worker, WorkerId,
    worker::{EchoBuilder, EchoFault, EchoGate, EchoWorker},
};
use rbee_transport_http::server;
use tokio::time::Instant;

use super::{
    super::support::token,
    pipes::{Pipes, Way},
};

const TOKENS: u32 = 40;
/// The limit on the time from a cancellation to the free slot.
const CANCEL_LIMIT: Duration = Duration::from_millis(200);

fn echo() -> EchoBuilder {
    EchoWorker::builder("echo".parse().unwrap())
}

fn request(seed: u64) -> Request {
    Request::chat("echo").user("hello").seed(seed).max_tokens(TOKENS)
}

/// The built-in policy, but new jobs go to this worker while it has a free slot.
fn first(worker: WorkerId) -> impl Scheduler {
    FnScheduler::new("first", move |ask, cluster| {
        let is_free = cluster.worker(worker).is_some_and(|view| view.free_slots() > 0);
        match ask.attempts {
            0 if is_free => Ok(Placement::Assign(worker)),
            _ => LeastLoaded::default().place(ask, cluster),
        }
    })
}

/// Waits until nothing runs and no slot is taken.
async fn quiet(queen: &Queen) {
    let quiet = async {
        while queen.status().await.unwrap().counters != Default::default() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), quiet).await.expect("it comes to rest");
    assert!(queen.cluster().await.unwrap().workers().all(|worker| worker.leased == 0));
}

/// The text, the number of tokens, and the one end of a job whose events have no gap and no repeat.
async fn whole(job: JobHandle) -> (String, u32, EventKind) {
    let events = tokio::time::timeout(Duration::from_secs(600), job.collect::<Vec<_>>()).await;
    let mut events = events.expect("the job ends");
    let numbers: Vec<_> = events.iter().filter_map(|event| event.seq).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    let end = events.pop().unwrap().kind;
    assert!(end.is_terminal() && events.iter().all(|event| !event.kind.is_terminal()));
    let texts = events.into_iter().filter_map(|event| match event.kind {
        EventKind::Token { text, .. } => Some(String::from(text)),
        _ => None,
    });
    let texts: Vec<_> = texts.collect();
    (texts.concat(), u32::try_from(texts.len()).unwrap(), end)
}

#[tokio::test(start_paused = true)]
async fn each_job_of_a_lost_link_goes_on_or_ends_by_itself() {
    for (way, resumes) in
        [(Way::Cut, true), (Way::Cut, false), (Way::Silent, true), (Way::Silent, false)]
    {
        let gate = EchoGate::new();
        let doomed = echo().slots(8).resume(resumes).gate(&gate).build();
        let sound = echo().slots(8).resume(resumes).build();
        let pipes = Pipes::new(server::worker(doomed.clone(), token()));
        let other = Pipes::new(server::worker(sound.clone(), token()));
        let queen = Queen::builder()
            .worker(Arc::new(pipes.worker(&doomed)))
            .worker(Arc::new(other.worker(&sound)))
            .scheduler(first(doomed.info().id))
            .build()
            .await
            .unwrap();
        // Two jobs whose tokens come one by one, and two whose tokens come in groups.
        let mut jobs = Vec::new();
        for seed in 0..4 {
            jobs.push(queen.submit(request(seed).streamed(seed < 2)).await.unwrap());
        }
        doomed.until_active(4).await;
        gate.release(4 * 5);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // One that the worker has accepted and that has no token, and one that it has not accepted.
        jobs.push(queen.submit(request(4)).await.unwrap());
        doomed.until_active(5).await;
        doomed.inject(EchoFault::HangInExecute, 1);
        jobs.push(queen.submit(request(5)).await.unwrap());
        doomed.until_active(6).await;
        let mut sent = Vec::new();
        for job in &jobs {
            let mut events = queen.attach(job.id(), None).await.unwrap();
            let mut tokens = 0;
            while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
                tokens += u32::from(matches!(event.kind, EventKind::Token { .. }));
            }
            sent.push(tokens);
        }
        assert!(sent[..4].iter().all(|sent| *sent > 0) && sent[4..] == [0, 0], "{sent:?}");
        // These are held back by the worker, and lost with it.
        gate.release(4);
        tokio::task::yield_now().await;

        pipes.way.send_replace(way);
        for (seed, job) in jobs.into_iter().enumerate() {
            let what = format!("{way:?}, resumes: {resumes}, seed {seed}, {sent:?}");
            let id = job.id();
            let (text, tokens, end) = whole(job).await;
            assert_eq!(text, EchoWorker::text(seed as u64, tokens), "{what}");
            let again: Vec<_> = sound.runs().into_iter().filter(|run| run.job == id).collect();
            if resumes || sent[seed] == 0 {
                assert!(matches!(end, EventKind::End { .. }), "{what}: {end:?}");
                assert_eq!(tokens, TOKENS, "{what}");
                let [run] = &again[..] else { panic!("{what}: {again:?}") };
                assert!(run.resume.tokens.len() >= sent[seed] as usize, "{what}: {run:?}");
                let record = queen.job(id).await.unwrap();
                assert_eq!(record.attempts, if seed == 5 { 1 } else { 2 }, "{what}");
            } else {
                let EventKind::Error(error) = end else { panic!("{what}: {end:?}") };
                assert_eq!(error.kind(), ErrorKind::WorkerLost, "{what}: {error}");
                assert!(error.message().contains("cannot be continued"), "{what}: {error}");
                assert!(again.is_empty() && tokens >= sent[seed], "{what}: {again:?}");
            }
        }
        quiet(&queen).await;
        // The worker ends its runs when it notices.
        let ended = tokio::time::timeout(Duration::from_secs(80), doomed.until_active(0)).await;
        ended.unwrap_or_else(|_| panic!("{way:?}: {} runs are left", doomed.active()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_frees_its_slot_at_once_whatever_its_worker_does() {
    for streamed in [true, false] {
        for fault in [
            EchoFault::HangInExecute,
            EchoFault::Stall { at: 0 },
            EchoFault::Stall { at: 3 },
            EchoFault::Overrun,
        ] {
            for way in [Way::Open, Way::Silent] {
                let what = format!("{fault:?}, {way:?}, streamed: {streamed}");
                let delay = Duration::from_millis(1_500);
                let echo = echo().token_delay(delay).fault_times(fault, 1).build();
                let pipes = Pipes::new(server::worker(echo.clone(), token()));
                let worker = Arc::new(pipes.worker(&echo));
                let queen = Queen::builder().worker(worker).build().await.unwrap();
                let job = queen.submit(request(1).streamed(streamed)).await.unwrap();
                echo.until_active(1).await;
                tokio::time::sleep(4 * delay + Duration::from_millis(50)).await;
                pipes.way.send_replace(way);
                tokio::task::yield_now().await;
                let began = Instant::now();
                job.cancel();
                let (.., end) = whole(job).await;
                assert!(
                    matches!(&end, EventKind::Error(error) if error.kind() == ErrorKind::Cancelled),
                    "{what}: {end:?}"
                );
                quiet(&queen).await;
                if way == Way::Open {
                    echo.until_active(0).await;
                }
                assert!(began.elapsed() < CANCEL_LIMIT, "{what}: {:?}", began.elapsed());
                // A worker that did not read the order ends the run with the connection.
                pipes.way.send_replace(Way::Cut);
                echo.until_active(0).await;
                pipes.way.send_replace(Way::Open);
                let next = queen.submit(request(2)).await.unwrap();
                let (text, ..) = whole(next).await;
                assert_eq!(text, EchoWorker::text(2, TOKENS), "{what}");
                quiet(&queen).await;
            }
        }
    }
}
