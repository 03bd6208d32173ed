//! Traces through policies, in virtual time: what is replayed is what would have been, and what the engine promises
//! about order and fairness holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rbee_core::{
    Admission, Ask, ClusterView, Epoch, Error, ErrorKind, Finish, FnScheduler, JobOutline,
    JobRecord, LeastLoaded, LiveJob, ModelRef, Outcome, Placement, Priority, Result, Scheduler,
    Settings, TenantId, Usage, WallTime, WorkerId, WorkerSpec, WorkerView,
    sim::{Arrival, Fleet, JobSketch, Replay, ReplayReport, Trace},
};
use serde_json::{Value, json};

const GB: u64 = 1_000_000_000;

fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fleet(hives: Value) -> Fleet {
    serde_json::from_value(json!({ "hives": hives })).unwrap()
}

/// Machines with one worker of the model each.
fn workers(count: usize, slots: u32) -> Fleet {
    let hive = |n| {
        json!({
            "id": format!("hive-{n}"),
            "devices": [{ "kind": "cuda", "memory_total": 24 * GB }],
            "models": { "m": 4 * GB },
            "workers": [{ "model": "m", "slots": slots, "memory_bytes": 20 * GB }],
        })
    };
    fleet((0..count).map(hive).collect())
}

fn arrival(at: u64, service: u64, job: JobSketch) -> Arrival {
    Arrival { at: millis(at), job, service: millis(service), tokens: 10 }
}

fn replay(fleet: Fleet, arrivals: Vec<Arrival>) -> Replay {
    let trace = Trace { arrivals, ..Trace::default() };
    let settings = Settings { queue_capacity: 1_000_000, ..Settings::default() };
    Replay { settings, ..Replay::new(fleet, trace) }
}

fn run(replay: &Replay, scheduler: &dyn Scheduler) -> ReplayReport {
    let report = replay.run(scheduler).unwrap();
    let ended = report.completed
        + report.rejected.values().sum::<usize>()
        + report.failed.values().sum::<usize>();
    assert_eq!(ended, report.jobs, "every job has ended once: {report:?}");
    report
}

/// A fleet with room for half of the models at a time.
fn crowded() -> Fleet {
    let models = json!({ "a": 8 * GB, "b": 8 * GB, "c": 8 * GB, "d": 8 * GB, "e": 8 * GB });
    let hive = |n| {
        json!({
            "id": format!("hive-{n}"),
            "devices": [{ "kind": "cuda", "memory_total": 24 * GB }],
            "models": models,
        })
    };
    fleet((0..2).map(hive).collect())
}

fn day(seed: u64, jobs: usize) -> Trace {
    let models = ["a", "b", "c", "d", "e"].map(model);
    Trace::day(seed, jobs, &models, &["ann", "bob", "eve"].map(tenant))
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let replay = Replay::new(crowded(), day(7, 2_000));
    let report = run(&replay, &LeastLoaded::default());
    assert_eq!(report, run(&replay, &LeastLoaded::default()));
    assert!(report.evictions > 0 && report.waits.max_ms > 0, "there is something to repeat");
    let other = Replay { trace: day(8, 2_000), ..replay };
    assert_ne!(run(&other, &LeastLoaded::default()).trace, report.trace);
}

fn completed(submitted: u64, started: u64, ended: u64) -> JobRecord {
    let sketch = JobSketch { priority: Priority::Batch, ..JobSketch::new(model("m")) };
    let mut job = sketch.job(&Settings::default(), submitted).unwrap();
    job.tenant = Some(tenant("ann"));
    let wall = WallTime::from_millis;
    let mut record = JobRecord::queued(Arc::new(job), 1, wall(submitted), Epoch(1));
    let usage = Usage { prompt_tokens: 9, completion_tokens: 5 };
    let outcome = Outcome::Complete { finish: Finish::Stop, usage };
    let live = LiveJob::queued().started(WorkerId::random(), wall(started));
    record.status = live.ended(outcome, wall(ended)).into();
    record
}

#[test]
fn a_recorded_run_replays_with_the_waits_it_had() {
    // One worker with one slot: every job started when the one before it had ended.
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
    assert!(nothing.trace.arrivals.is_empty(), "nobody knows what is usual");
    assert_eq!(nothing.left_out, [("QUEUE_TIMEOUT".to_owned(), 1)].into());
}

#[test]
fn an_outline_is_all_that_a_replay_needs_of_a_request() {
    let mut record = completed(1_000, 1_000, 1_100);
    let outline = JobOutline {
        embed: false,
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

#[test]
fn a_prompt_that_no_request_may_have_is_replayed_all_the_same() {
    let sketch = JobSketch { prompt_tokens: 1 << 20, ..JobSketch::new(model("m")) };
    let report =
        run(&replay(workers(1, 1), vec![arrival(0, 100, sketch)]), &LeastLoaded::default());
    assert_eq!(report.completed, 1);
}

#[test]
fn a_policy_that_always_starts_what_no_hive_can_have_leaves_the_job_to_the_built_in_one() {
    let stubborn = FnScheduler::new("stubborn", |ask: &Ask, cluster: &ClusterView| {
        let hive = cluster.hives().next().unwrap().id.clone();
        let model = ask.job.model.clone();
        let spec = WorkerSpec { model, slots: 1, devices: vec![0], need_bytes: GB, path: None };
        Ok(Placement::Spawn { hive, spec, evict: Vec::new() })
    });
    let arrivals = vec![arrival(0, 100, JobSketch::new(model("hf:no/body")))];
    let report = run(&replay(workers(1, 1), arrivals), &stubborn);
    assert_eq!(report.rejected.values().sum::<usize>(), 1, "{report:?}");
    assert_eq!((report.policy_faults, report.downloads), (1, 0));
}

#[test]
fn a_policy_that_fails_five_times_in_a_row_is_suspended_and_the_given_built_in_one_decides() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let broken = FnScheduler::new("broken", move |_: &Ask, _: &ClusterView| {
        count.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Internal, "line 7"))
    });
    let arrivals = (0..20).map(|n| arrival(1_000 * n, 100, JobSketch::new(model("a")))).collect();
    let built_in = LeastLoaded::default().with_slots(7);
    let report = run(&Replay { built_in, ..replay(crowded(), arrivals) }, &broken);
    assert_eq!((report.completed, report.policy_faults, report.policy_suspended), (20, 5, true));
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert!(report.workers.values().all(|load| load.started && load.slots == 7), "{report:?}");

    // One that does well between its faults is not.
    let turn = AtomicUsize::new(0);
    let moody = FnScheduler::new("moody", move |ask: &Ask, cluster: &ClusterView| {
        match turn.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => LeastLoaded::default().place(ask, cluster),
            _ => Err(Error::new(ErrorKind::Internal, "line 7")),
        }
    });
    let arrivals = (0..20).map(|n| arrival(1_000 * n, 100, JobSketch::new(model("m")))).collect();
    let report = run(&replay(workers(1, 1), arrivals), &moody);
    assert_eq!((report.policy_faults, report.policy_suspended), (13, false));
}

#[test]
fn a_run_that_may_not_go_on_ends_with_the_reason() {
    let replay = Replay::new(crowded(), day(7, 200));
    let left = Cell::new(50);
    let may_go_on = || {
        left.set(left.get() - 1);
        match left.get() {
            0 => Err(Error::new(ErrorKind::JobTimeout, "enough")),
            _ => Ok(()),
        }
    };
    let error = replay.run_while(&LeastLoaded::default(), &may_go_on).unwrap_err();
    assert_eq!((error.kind(), error.message(), left.get()), (ErrorKind::JobTimeout, "enough", 0));
}

#[test]
fn workers_that_had_nothing_to_do_are_in_the_report() {
    let arrivals = vec![arrival(0, 100, JobSketch::new(model("m")))];
    let report = run(&replay(workers(3, 2), arrivals), &LeastLoaded::default());
    let jobs: Vec<_> = report.workers.values().map(|load| (load.jobs, load.started)).collect();
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs.iter().map(|(jobs, _)| jobs).sum::<usize>(), 1);
    assert!(jobs.iter().all(|(_, started)| !started));
}

/// The worker that has most of the prompt computed, of those that have less than `percent` of their share of the load.
fn prefix_affinity(percent: u32) -> impl Scheduler {
    FnScheduler::new("prefix-affinity", move |ask: &Ask, cluster: &ClusterView| {
        let model = &ask.job.model;
        let (leased, slots) = cluster.with_model(model).fold((1, 0), |(leased, slots), worker| {
            (leased + worker.leased, slots + worker.info.slots)
        });
        let is_within = |worker: &&Arc<WorkerView>| {
            worker.leased < (percent * leased * worker.info.slots).div_ceil(100 * slots.max(1))
        };
        let warm = |worker: &Arc<WorkerView>| {
            ask.job.prefix.iter().take_while(|key| worker.warm.contains(key)).count()
        };
        // Of equals the first, which is the least loaded.
        let best = cluster.available(model).filter(is_within).fold(None, |best, worker| {
            let keys = warm(worker);
            match best {
                Some((most, _)) if most >= keys => best,
                _ => Some((keys, worker.info.id)),
            }
        });
        let any = || cluster.available(model).next().map(|worker| worker.info.id);
        let worker = best.map(|(_, id)| id).or_else(any);
        Ok(worker.map_or(Placement::Wait, Placement::Assign))
    })
}

/// Conversations, and beside them many questions about one document: the hot spot that affinity alone piles everything
/// on.
fn conversations_and_a_hot_document() -> Trace {
    let models = [model("m")];
    let mut trace = Trace::conversations(3, 300, 8, Duration::from_secs(900), &models);
    for n in 0..6_000_u64 {
        let job = JobSketch {
            prompt_tokens: 2_000,
            prefix: vec![1, 2, 3, 1_000 + n],
            ..JobSketch::new(model("m"))
        };
        trace.arrivals.push(arrival(n * 200, 2_500, job));
    }
    trace
}

#[test]
fn prefix_affinity_finds_warm_prompts_and_bounded_load_keeps_them_from_piling_up() {
    let mut fleet = workers(8, 16);
    fleet.hives[0].workers[0].warm = vec![1, 2, 3];
    let replay = Replay::new(fleet, conversations_and_a_hot_document());
    let figures = |name: &str, scheduler: &dyn Scheduler| {
        let report = run(&replay, scheduler);
        assert_eq!((report.completed, report.policy_faults), (8_400, 0));
        let busy: Vec<_> = report.workers.values().map(|load| load.busy_ms).collect();
        let (most, all) = (*busy.iter().max().unwrap(), busy.iter().sum::<u64>());
        let worst = most as f64 * 8.0 / all as f64;
        let hits = report.prefix_keys_warm as f64 / report.prefix_keys as f64;
        println!(
            "{name}: {:.1} % of keys warm, {} of {} jobs hit, worst worker {worst:.2} of the mean, {} s spared, \
             {} s busy, p99 {} ms",
            100.0 * hits,
            report.prefix_hits,
            report.prefixed,
            report.prefill_saved_ms / 1_000,
            all / 1_000,
            report.waits.p99_ms,
        );
        (hits, worst, all)
    };
    let (least_hits, least_worst, least_busy) = figures("least loaded", &LeastLoaded::default());
    let (greedy_hits, greedy_worst, _) = figures("affinity", &prefix_affinity(1_000_000));
    let (hits, worst, busy) = figures("affinity, bounded at 125 %", &prefix_affinity(125));
    assert!(hits > least_hits + 0.2 && hits > greedy_hits - 0.1, "{hits} of {least_hits}");
    assert!(worst < 1.25 && least_worst < 1.25, "the worst worker has {worst} of the mean");
    assert!(greedy_worst > 2.0 * worst, "without the bound: {greedy_worst}");
    assert!(busy < least_busy * 9 / 10, "{busy} against {least_busy}");
}

#[test]
fn a_prompt_that_is_partly_computed_spares_that_part_of_its_prefill() {
    // 200 prompt tokens weigh as much as 10 of the answer: half of the time is prefill.
    let sketch = |prefix: &[u64]| JobSketch {
        prompt_tokens: 200,
        prefix: prefix.to_vec(),
        ..JobSketch::new(model("m"))
    };
    let arrivals = vec![
        arrival(0, 1_000, sketch(&[1, 2])),
        arrival(20_000, 1_000, sketch(&[1, 2, 3, 4])),
        arrival(40_000, 1_000, sketch(&[9, 2])),
    ];
    let report = run(&replay(workers(1, 1), arrivals), &LeastLoaded::default());
    assert_eq!((report.prefixed, report.prefix_hits, report.prefill_saved_ms), (3, 1, 250));
    assert_eq!(report.workers.values().next().unwrap().busy_ms, 2_750);
}

#[test]
fn batch_is_served_however_much_is_interactive() {
    for interactive_per_batch in [1, 3, 8, 20] {
        // A job every 80 ms, each of 100 ms: the queue grows as long as they come.
        let mut arrivals: Vec<_> =
            (0..1_000).map(|n| arrival(80 * n, 100, JobSketch::new(model("m")))).collect();
        arrivals.extend((0..20).map(|n| {
            let batch = JobSketch { priority: Priority::Batch, ..JobSketch::new(model("m")) };
            arrival(1_000 + n, 100, batch)
        }));
        let mut replay = replay(workers(1, 1), arrivals);
        replay.settings.interactive_per_batch = interactive_per_batch;
        let report = run(&replay, &LeastLoaded::default());
        // After so many interactive ones it is batch's turn: the last of 20 waits for 20 rounds.
        let batch = report.waits_by_priority[&Priority::Batch];
        assert_eq!(batch.jobs, 20);
        let rounds = 20 * u64::from(interactive_per_batch + 1) * 100;
        assert!(batch.max_ms <= rounds, "{batch:?}");
        assert!(report.elapsed_ms > 2 * rounds, "interactive ones came all the time");
    }
}

#[test]
fn a_tenant_with_few_jobs_does_not_wait_for_those_with_many() {
    for crowd in 1..=4 {
        let of =
            |name: &str| JobSketch { tenant: Some(tenant(name)), ..JobSketch::new(model("m")) };
        let mut arrivals: Vec<_> =
            (0..500).map(|n| arrival(n, 100, of(&format!("many-{}", n % crowd)))).collect();
        arrivals.extend((0..20).map(|n| arrival(600 + n, 100, of("few"))));
        let report = run(&replay(workers(2, 2), arrivals), &LeastLoaded::default());
        // One of so many slots that fall free is theirs, and there are four.
        let (few, many) = (report.waits_by_tenant["few"], report.waits_by_tenant["many-0"]);
        assert!(few.max_ms <= 100 * (20 * (crowd + 1)).div_ceil(4) + 100, "{few:?}");
        assert!(many.max_ms >= 12_000, "{many:?}");
        for other in 1..crowd {
            let other = report.waits_by_tenant[&format!("many-{other}")];
            assert!(other.p50_ms.abs_diff(many.p50_ms) <= 200, "{other:?} {many:?}");
        }
    }
}

/// One device that holds one model at a time.
fn one_at_a_time() -> Fleet {
    fleet(json!([{
        "id": "attic",
        "devices": [{ "kind": "cuda", "memory_total": 12 * GB }],
        "models": { "a": 8 * GB, "b": 8 * GB, "c": 8 * GB },
        "workers": [{ "model": "a", "slots": 4, "memory_bytes": 9 * GB }],
    }]))
}

#[test]
fn models_that_take_turns_on_one_device_are_swapped_for_each_other() {
    let turns = ["a", "b", "a", "c"];
    let arrivals = (0..40).map(|n| {
        arrival(60_000 * n, 1_000, JobSketch::new(model(turns[n as usize % turns.len()])))
    });
    let report = run(&replay(one_at_a_time(), arrivals.collect()), &LeastLoaded::default());
    println!("a b a c on one device: {} spawns, {} evictions", report.spawns, report.evictions);
    assert_eq!(report.completed, 40);
    // The first is there; from then on every job needs another model, and none is swapped twice for one job.
    assert_eq!((report.spawns, report.evictions), (39, 39));
    // Stopping takes 0.2 s, loading 8 GB at 1 GB/s 8 s.
    assert!((8_200..9_000).contains(&report.waits.p50_ms), "{:?}", report.waits);
}

#[test]
fn a_faster_disk_makes_swaps_shorter() {
    let arrivals = vec![arrival(0, 100, JobSketch::new(model("b")))];
    let slow = replay(one_at_a_time(), arrivals);
    let fast = Replay { load_bytes_per_second: 8 * GB, ..slow.clone() };
    let wait = |replay| run(replay, &LeastLoaded::default()).waits.max_ms;
    assert_eq!(wait(&slow) - wait(&fast), 7_000);
}

/// Jobs of 50 tokens and more are not welcome, and the shortest go first.
#[derive(Debug)]
struct Door(LeastLoaded);

impl Scheduler for Door {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        self.0.place(ask, cluster)
    }
    fn admits(&self) -> bool {
        true
    }
    fn admit(&self, ask: &Ask, _cluster: &ClusterView) -> Result<Admission> {
        match ask.job.task {
            rbee_core::Task::Generate { ref sampling, .. } => match sampling.max_tokens {
                Some(13) => panic!("unlucky"),
                Some(tokens) if tokens >= 50 => {
                    Ok(Admission::Refuse(Error::new(ErrorKind::Rejected, "too long")))
                }
                Some(tokens) => Ok(Admission::Accept { rank: tokens.into() }),
                None => Err(Error::new(ErrorKind::Internal, "no opinion")),
            },
            rbee_core::Task::Embed { .. } => Ok(Admission::default()),
        }
    }
}

#[test]
fn a_policy_refuses_and_ranks_what_arrives_and_its_faults_are_counted() {
    let job = |at, max_tokens, name: &str| {
        let sketch = JobSketch {
            max_tokens,
            tenant: Some(tenant(name)),
            prefix: vec![at],
            ..JobSketch::new(model("m"))
        };
        arrival(at, 1_000, sketch)
    };
    let arrivals = vec![
        job(0, Some(1), "first"),
        job(1, Some(40), "t"),
        job(2, Some(30), "t"),
        job(3, Some(50), "t"),
        job(4, Some(13), "t"),
        job(5, None, "t"),
        job(6, Some(20), "t"),
    ];
    let report = run(&replay(workers(1, 1), arrivals), &Door(LeastLoaded::default()));
    assert_eq!(report.rejected, [("REJECTED".to_owned(), 1)].into());
    assert_eq!((report.completed, report.policy_faults), (6, 2));
    // At rank 0: those of 13 and of none; then 20, 30, 40. They arrived at 4, 5, 6, 2, 1.
    let waits = report.waits_by_tenant["t"];
    assert_eq!((waits.p50_ms, waits.max_ms), (2_994, 4_999));
}

#[test]
fn a_job_that_no_machine_can_serve_is_rejected_by_code() {
    let arrivals = vec![arrival(0, 100, JobSketch::new(model("nowhere")))];
    let report = run(&replay(workers(1, 1), arrivals), &LeastLoaded::default());
    assert_eq!(report.rejected, [("MODEL_NOT_FOUND".to_owned(), 1)].into());
}

#[test]
fn a_policy_that_never_decides_leaves_the_jobs_to_the_clock() {
    let arrivals = vec![arrival(0, 100, JobSketch::new(model("m")))];
    let idle = FnScheduler::new("idle", |_: &Ask, _: &ClusterView| Ok(Placement::Wait));
    let report = run(&replay(workers(1, 1), arrivals), &idle);
    assert_eq!(report.rejected, [("QUEUE_TIMEOUT".to_owned(), 1)].into());
}

#[test]
fn a_fleet_survives_the_way_to_a_view_and_back() {
    let text = json!([{
        "id": "attic",
        "labels": { "region": "eu" },
        "devices": [
            { "kind": "cpu", "name": "big", "memory_total": 64 * GB, "memory_free": 60 * GB },
            { "kind": "cuda", "memory_total": 24 * GB },
        ],
        "models": { "m": 4 * GB },
        "workers": [
            { "model": "m", "slots": 4, "device": 1, "memory_bytes": 5 * GB, "busy": 2 },
            { "model": "m", "embed": true },
        ],
    }]);
    let view = fleet(text).view().unwrap();
    let hive = view.hives().next().unwrap();
    assert_eq!(hive.devices[1].memory_free, 19 * GB, "what the worker leaves");
    assert_eq!(hive.labels["region"], "eu");
    assert_eq!(view.available(&model("m")).map(|w| w.free_slots()).collect::<Vec<_>>(), [1, 2]);
    let fleet = Fleet::of(&view);
    let again = Fleet::of(&fleet.view().unwrap());
    assert_eq!(fleet, again);
    assert_eq!(fleet.hives[0].workers.len(), 2);
    let text = serde_json::to_string(&fleet).unwrap();
    assert_eq!(serde_json::from_str::<Fleet>(&text).unwrap(), fleet);
}

#[test]
fn a_fleet_that_cannot_be_is_refused_by_name() {
    let refused = |worker: Value| {
        let hive = json!({
            "id": "attic",
            "devices": [{ "kind": "cpu", "memory_total": 1 }],
            "workers": [worker],
        });
        fleet(json!([hive])).view().unwrap_err().to_string()
    };
    assert_eq!(
        refused(json!({ "model": "m", "slots": 2, "busy": 3 })),
        "hive attic, worker 0 with model m: busy is 3; allowed are at most its 2 slots"
    );
    assert!(refused(json!({ "model": "m", "device": 1 })).contains("describes 1 devices"));
    assert!(refused(json!({ "model": "m", "slots": 0 })).contains("slots is 0"));
    let twice = fleet(json!([{ "id": "attic" }, { "id": "attic" }]));
    assert!(twice.view().unwrap_err().to_string().contains("described twice"));
    let unknown = serde_json::from_value::<Fleet>(json!({ "hives": [{ "id": "a", "colour": 1 }] }));
    assert!(unknown.unwrap_err().to_string().contains("colour"));
    let sketch = serde_json::from_value::<JobSketch>(json!({ "model": "m", "token": 1 }));
    assert!(sketch.unwrap_err().to_string().contains("token"));
    let long = JobSketch { prompt_tokens: 1 << 20, ..JobSketch::new(model("m")) };
    let error = long.job(&Settings::default(), 1).unwrap_err();
    assert!(error.to_string().starts_with("prompt_tokens is 1048576"), "{error}");
}
