//! The trace that a recorded run becomes.

use std::sync::Arc;

use rbee_core::{
    Error, ErrorKind, Finish, LeastLoaded, Outcome, Priority, Settings, Usage, WorkerId,
    id::Epoch,
    job::LiveJob,
    registry::{JobOutline, JobRecord},
    sim::{JobSketch, Replay, Trace},
    time::WallTime,
};

use super::traces::{millis, model, run, tenant, workers};

fn completed(submitted: u64, started: u64, ended: u64) -> JobRecord {
    let sketch = JobSketch { priority: Priority::Batch, ..JobSketch::new(model("m")) };
    let mut job = sketch.job(&Settings::default(), submitted).unwrap();
    job.tenant = Some(tenant("ann"));
    let wall = WallTime::from_millis;
    let mut record = JobRecord::queued(Arc::new(job), 1, wall(submitted), Epoch(1));
    let usage = Usage { prompt_tokens: 9, completion_tokens: 5, ..Usage::default() };
    let outcome = Outcome::Complete { finish: Finish::Stop, usage, stop_text: None };
    let live = LiveJob::queued().started(WorkerId::random(), wall(started));
    record.status = live.ended(outcome, wall(ended)).into();
    record
}

#[test]
fn a_recorded_run_replays_with_the_waits_it_had() {
    // One worker with one slot: every job started when the previous one had ended.
    let records = [
        completed(1_000_000, 1_000_000, 1_000_400),
        completed(1_000_100, 1_000_400, 1_001_000),
        completed(1_000_200, 1_001_000, 1_001_050),
        completed(1_005_000, 1_005_000, 1_005_500),
    ];
    let mut failed = completed(1_000_300, 1_000_350, 1_000_360);
    let error = Error::new(ErrorKind::WorkerFault, "gone");
    let wall = WallTime::from_millis(1_000_360);
    let live = LiveJob::queued().started(WorkerId::random(), WallTime::from_millis(1_000_350));
    failed.status = live.ended(Outcome::Failed(error), wall).into();
    let mut waiting = completed(1, 2, 3);
    waiting.status = LiveJob::queued().into();
    let mut all = records.to_vec();
    all.extend([failed, waiting]);
    all.reverse();

    let recorded = Trace::from_records(&all);
    let left_out = [("NOT_ENDED".to_owned(), 1), ("WORKER_FAULT".to_owned(), 1)];
    assert_eq!((recorded.estimated, recorded.left_out), (0, left_out.into()));
    let trace = recorded.trace;
    assert_eq!(trace.arrivals.len(), 4);
    assert_eq!(trace.start, WallTime::from_millis(1_000_000));
    let first = &trace.arrivals[0];
    assert_eq!((first.job.prompt_tokens, first.tokens, first.service), (9, 5, millis(400)));
    assert_eq!((first.job.priority, &first.job.tenant), (Priority::Batch, &Some(tenant("ann"))));

    let report = run(&Replay::new(workers(1, 1), trace), &LeastLoaded::default());
    // 0, 300, 800 and 0 ms.
    assert_eq!((report.waits.p50_ms, report.waits.max_ms), (0, 800));
    assert_eq!((report.waits.p90_ms, report.waits.jobs), (800, 4));
    assert_eq!(report.waits_by_priority[&Priority::Batch], report.waits);
    assert_eq!(report.waits_by_tenant["ann"], report.waits);
    let load = report.workers.values().next().unwrap();
    assert_eq!((load.jobs, load.busy_ms, report.elapsed_ms), (4, 400 + 600 + 50 + 500, 5_500));
}

fn failed(submitted: u64, ended: u64, kind: ErrorKind) -> JobRecord {
    let outcome = Outcome::Failed(Error::new(kind, "no luck"));
    let status = LiveJob::queued().ended(outcome, WallTime::from_millis(ended)).into();
    JobRecord { status, ..completed(submitted, submitted, ended) }
}

#[test]
fn jobs_that_waited_in_vain_are_replayed_with_what_is_usual_for_their_model() {
    let mut records: Vec<_> =
        [100, 300, 200].map(|service| completed(1_000, 2_000, 2_000 + service)).into();
    (0..).zip(&mut records).for_each(|(order, record)| record.order = order);
    records.reverse();
    records.push(failed(1_500, 601_500, ErrorKind::QueueTimeout));
    let mut elsewhere = failed(1_600, 601_600, ErrorKind::InsufficientVram);
    elsewhere.model = model("n");
    records.push(elsewhere);
    let mut late = completed(1_700, 1_800, 1_900);
    let outcome = Outcome::Failed(Error::new(ErrorKind::DeadlineExceeded, "too late"));
    let wall = WallTime::from_millis;
    let live = LiveJob::queued().started(WorkerId::random(), wall(1_800));
    late.status = live.clone().ended(outcome, wall(1_900)).into();
    records.push(late);
    let mut cancelled = completed(1_710, 1_800, 1_850);
    cancelled.status = live.ended(Outcome::Cancelled, wall(1_850)).into();
    records.push(cancelled);
    let mut never_ran = completed(1_720, 1_800, 1_900);
    never_ran.status = LiveJob::queued().ended(Outcome::Cancelled, wall(1_900)).into();
    records.push(never_ran);

    let recorded = Trace::from_records(&records);
    assert_eq!((recorded.trace.arrivals.len(), recorded.estimated), (7, 3));
    assert_eq!(recorded.left_out, [("CANCELLED".to_owned(), 1)].into());
    let order: Vec<_> =
        recorded.trace.arrivals[..3].iter().map(|one| one.service.as_millis()).collect();
    assert_eq!(order, [100, 300, 200], "those of one moment come in the order of the queue");
    let services: Vec<_> =
        recorded.trace.arrivals[3..].iter().map(|one| one.service.as_millis()).collect();
    assert_eq!(services, [200, 200, 200, 50], "the medians, and what the cancelled one took");
    let vain = &recorded.trace.arrivals[3];
    assert_eq!((vain.tokens, vain.job.prompt_tokens), (5, 9));
    assert_eq!(recorded.trace.arrivals[4].job.model, model("n"));

    let nothing = Trace::from_records(&[failed(1, 2, ErrorKind::QueueTimeout)]);
    assert!(nothing.trace.arrivals.is_empty(), "what is usual is unknown");
    assert_eq!(nothing.left_out, [("QUEUE_TIMEOUT".to_owned(), 1)].into());
}

#[test]
fn an_outline_is_all_that_a_replay_needs_of_a_request() {
    let mut record = completed(1_000, 1_000, 1_100);
    let outline = JobOutline {
        embed: false,
        rerank: false,
        max_tokens: Some(7),
        deadline_ms: Some(60_000),
        prefix: [1, 2].into(),
    };
    (record.request, record.outline) = (None, Some(outline));
    let mut bare = completed(2_000, 2_000, 2_100);
    (bare.request, bare.outline) = (None, None);
    let recorded = Trace::from_records([&record, &bare]);
    assert_eq!(recorded.without_outline, 1);
    let job = &recorded.trace.arrivals[0].job;
    let seen = (job.max_tokens, job.deadline_ms, &*job.prefix);
    assert_eq!(seen, (Some(7), Some(60_000), &[1, 2][..]));
    assert!(recorded.trace.arrivals[1].job.prefix.is_empty());
}
