//! Traces through policies, in virtual time: a replay shows what would have happened, and the engine keeps its promises
//! about order and fairness.

mod promises;
mod records;
mod traces;

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, FnScheduler, LeastLoaded, Placement, Result, Scheduler,
    Settings, WorkerSpec,
    scheduler::{Admission, SchedulerInfo, Sizing},
    sim::{Fleet, JobSketch, Replay},
};
use serde_json::{Value, json};

use traces::{GB, arrival, crowded, day, fleet, model, replay, run, tenant, workers};

#[test]
fn the_same_seed_gives_the_same_report() {
    let replay = Replay::new(crowded(), day(7, 2_000));
    let report = run(&replay, &LeastLoaded::default());
    assert_eq!(report, run(&replay, &LeastLoaded::default()));
    assert!(report.evictions > 0 && report.waits.max_ms > 0, "there is something to repeat");
    let other = Replay { trace: day(8, 2_000), ..replay };
    assert_ne!(run(&other, &LeastLoaded::default()).trace, report.trace);
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
        let mut spec = WorkerSpec::new(model);
        (spec.devices, spec.need_bytes) = (vec![0], GB);
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
    let built_in = LeastLoaded::new(Sizing::default().with_slots(7));
    let report = run(&Replay { built_in, ..replay(crowded(), arrivals) }, &broken);
    assert_eq!((report.completed, report.policy_faults, report.policy_suspended), (20, 5, true));
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert!(report.workers.values().all(|load| load.started && load.slots == 7), "{report:?}");

    // A policy that succeeds between its faults is not suspended.
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

/// Refuses jobs of 50 tokens and more, ranks the shortest first, and fails for 13 tokens and for none given.
#[derive(Debug)]
struct Door(LeastLoaded);

impl Scheduler for Door {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        self.0.place(ask, cluster)
    }
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::new("door").with_admission()
    }
    fn admit(&self, ask: &Ask, _cluster: &ClusterView) -> Result<Admission> {
        match ask.job.task {
            rbee_core::request::Task::Generate { ref sampling, .. } => match sampling.max_tokens {
                Some(13) => panic!("unlucky"),
                Some(tokens) if tokens >= 50 => {
                    Ok(Admission::Refuse(Error::new(ErrorKind::Rejected, "too long")))
                }
                Some(tokens) => Ok(Admission::Accept { rank: tokens.into() }),
                None => Err(Error::new(ErrorKind::Internal, "no opinion")),
            },
            rbee_core::request::Task::Embed { .. } | rbee_core::request::Task::Rerank { .. } => {
                Ok(Admission::default())
            }
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
    // At rank 0: the jobs of 13 tokens and without a limit; then 20, 30, 40. They arrived at 4, 5, 6, 2, 1.
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
    let unknown = serde_json::from_value::<Fleet>(json!({ "hives": [{ "id": "a", "color": 1 }] }));
    assert!(unknown.unwrap_err().to_string().contains("color"));
    let sketch = serde_json::from_value::<JobSketch>(json!({ "model": "m", "token": 1 }));
    assert!(sketch.unwrap_err().to_string().contains("token"));
    let long = JobSketch { prompt_tokens: 1 << 20, ..JobSketch::new(model("m")) };
    let error = long.job(&Settings::default(), 1).unwrap_err();
    assert!(error.to_string().starts_with("prompt_tokens is 1048576"), "{error}");
}
