//! The built-in schedulers pass the suite, and the suite catches schedulers that are broken on purpose.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, FnScheduler, LeastLoaded, Placement, Result, Scheduler,
    WorkerId, WorkerSpec,
    cluster::{WorkerState, WorkerView},
    conformance,
    scheduler::{Candidate, Explanation, SchedulerInfo, Sizing, Verdict},
};

#[test]
fn the_built_in_policy_passes() {
    conformance::scheduler::check(&LeastLoaded::default());
    let greedy =
        Sizing::default().with_slots(16).with_memory_percent(300).with_gpu_head_room(2 << 30);
    conformance::scheduler::check(&LeastLoaded::new(greedy));
}

#[cfg(feature = "rules")]
#[test]
fn a_script_passes() {
    use rbee_core::RhaiScheduler;
    let script = "fn schedule(job, workers, hives) {
        let free = workers.with_model(job.model).with_capacity();
        run_on(free.least_loaded()) ?? builtin()
    }";
    let rules = "otherwise: {prefer: {gpu: true}, choose: power_of_two}";
    for policy in [RhaiScheduler::new(script), RhaiScheduler::from_rules(rules)] {
        // Ten thousand workers in a test build, on a machine that may be busy.
        let policy = policy.unwrap().with_limit(std::time::Duration::from_secs(10));
        conformance::scheduler::check(&policy);
    }
}

#[test]
fn a_function_that_heeds_everything_passes() {
    conformance::scheduler::check(&FnScheduler::new(
        "careful",
        |ask: &Ask, cluster: &ClusterView| {
            let usable = || cluster.available(&ask.job.model).filter(|w| fits(ask, cluster, w));
            let fresh = usable().find(|w| !ask.avoid.contains(&w.info.id));
            Ok(assign(fresh.or_else(|| usable().next())))
        },
    ));
}

fn assign(worker: Option<&Arc<WorkerView>>) -> Placement {
    worker.map_or(Placement::Wait, |worker| Placement::Assign(worker.info.id))
}

fn online(cluster: &ClusterView, worker: &WorkerView) -> bool {
    cluster.hive(&worker.info.hive).is_none_or(|hive| hive.online)
}

fn capable(ask: &Ask, worker: &WorkerView) -> bool {
    match ask.job.task {
        rbee_core::request::Task::Generate { .. } => worker.info.capabilities.generate,
        rbee_core::request::Task::Embed { .. } => worker.info.capabilities.embed,
        rbee_core::request::Task::Rerank { .. } => worker.info.capabilities.rerank,
    }
}

fn matches(ask: &Ask, worker: &WorkerView) -> bool {
    ask.must_match.as_ref().is_none_or(|wanted| *wanted == worker.info.numerics)
}

fn fits(ask: &Ask, cluster: &ClusterView, worker: &WorkerView) -> bool {
    online(cluster, worker) && capable(ask, worker) && matches(ask, worker)
}

/// The suite must fail, with these words.
fn caught(scheduler: &dyn Scheduler, words: &str) {
    let run = AssertUnwindSafe(|| conformance::scheduler::check(scheduler));
    let panic = catch_unwind(run).expect_err(&format!("{scheduler:?} must be caught"));
    let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains(words), "{scheduler:?} was caught by {said:?}, not by {words:?}");
}

/// The built-in policy, with its answer changed by `change`.
fn changed(
    name: &str,
    change: impl Fn(&Ask, &ClusterView, Placement) -> Placement + Send + Sync + 'static,
) -> impl Scheduler {
    FnScheduler::new(name, move |ask: &Ask, cluster: &ClusterView| {
        let placement = LeastLoaded::default().place(ask, cluster)?;
        Ok(change(ask, cluster, placement))
    })
}

/// The first worker for which the test holds, else the decision of the built-in policy.
fn first(
    name: &str,
    test: impl Fn(&Ask, &ClusterView, &WorkerView) -> bool + Send + Sync + 'static,
) -> impl Scheduler {
    changed(name, move |ask, cluster, placement| {
        let found = cluster.workers().find(|worker| test(ask, cluster, worker));
        found.map_or(placement, |worker| Placement::Assign(worker.info.id))
    })
}

fn of_model(ask: &Ask, worker: &WorkerView) -> bool {
    worker.info.model == ask.job.model
}

#[test]
fn a_job_on_the_wrong_worker_is_caught() {
    caught(
        &first("any model", |ask, cluster, w| w.free_slots() > 0 && fits(ask, cluster, w)),
        "it has another model",
    );
    caught(
        &first("no slot", |ask, cluster, w| {
            of_model(ask, w) && w.state == WorkerState::Ready && fits(ask, cluster, w)
        }),
        "it has no free slot",
    );
    caught(
        &first("draining", |ask, cluster, w| {
            of_model(ask, w) && w.leased < w.info.slots && fits(ask, cluster, w)
        }),
        "it has no free slot",
    );
    caught(
        &first("numerics", |ask, cluster, w| {
            of_model(ask, w) && w.free_slots() > 0 && online(cluster, w) && capable(ask, w)
        }),
        "its numerics do not match",
    );
    caught(
        &first("capability", |ask, cluster, w| {
            of_model(ask, w) && w.free_slots() > 0 && online(cluster, w) && matches(ask, w)
        }),
        "it cannot do the task",
    );
    caught(
        &first("offline", |ask, _, w| {
            of_model(ask, w) && w.free_slots() > 0 && capable(ask, w) && matches(ask, w)
        }),
        "its hive is offline",
    );
    caught(
        &first("avoid", |ask, cluster, w| {
            of_model(ask, w) && w.free_slots() > 0 && fits(ask, cluster, w)
        }),
        "got it again",
    );
    caught(
        &FnScheduler::new("nobody", |ask: &Ask, _: &ClusterView| {
            Ok(Placement::Assign(WorkerId::from_random_bits(ask.random.into())))
        }),
        "does not exist",
    );
}

/// Changes where and what the built-in policy starts.
fn spawning(
    name: &str,
    change: impl Fn(&Ask, &ClusterView, &mut rbee_core::HiveId, &mut WorkerSpec) + Send + Sync + 'static,
) -> impl Scheduler {
    changed(name, move |ask, cluster, placement| match placement {
        Placement::Spawn { mut hive, mut spec, .. } => {
            change(ask, cluster, &mut hive, &mut spec);
            Placement::Spawn { hive, spec, evict: Vec::new() }
        }
        other => other,
    })
}

#[test]
fn a_worker_started_wrongly_is_caught() {
    caught(
        &spawning("offline", |_, cluster, hive, _| {
            if let Some(off) = cluster.hives().find(|hive| !hive.online) {
                *hive = off.id.clone();
            }
        }),
        "which is offline",
    );
    caught(
        &spawning("refused", |ask, cluster, hive, _| {
            let online = |id| cluster.hive(id).is_some_and(|hive| hive.online);
            if let Some(id) = ask.refused.keys().find(|id| online(id)) {
                *hive = id.clone();
            }
        }),
        "which has refused to",
    );
    caught(
        &spawning("model", |_, _, _, spec| spec.model = "odd".parse().unwrap()),
        "the job needs",
    );
    caught(&spawning("slots", |_, _, _, spec| spec.slots = 0), "with no slots");
    caught(&spawning("devices", |_, _, _, spec| spec.devices.push(9)), "on devices");
}

/// Starts a worker where the built-in policy does, and stops those that `test` selects.
fn evicting(
    name: &str,
    test: impl Fn(&rbee_core::HiveId, &WorkerView) -> bool + Send + Sync + 'static,
) -> impl Scheduler {
    changed(name, move |_, cluster, placement| match placement {
        Placement::Spawn { hive, spec, .. } => {
            let picked = cluster.workers().filter(|worker| test(&hive, worker));
            let evict = picked.map(|worker| worker.info.id).collect();
            Placement::Spawn { hive, spec, evict }
        }
        other => other,
    })
}

#[test]
fn an_eviction_of_the_wrong_worker_is_caught() {
    let here = |hive: &rbee_core::HiveId, w: &WorkerView| w.info.hive == *hive;
    caught(
        &evicting("busy", move |hive, w| here(hive, w) && !w.pinned && w.leased > 0),
        "which is busy",
    );
    caught(
        &evicting("pinned", move |hive, w| here(hive, w) && w.pinned && w.leased == 0),
        "which is busy, pinned",
    );
    caught(
        &evicting("elsewhere", move |hive, w| !here(hive, w) && w.is_evictable()),
        "for a worker on hive",
    );
}

#[test]
fn a_scheduler_with_a_memory_is_caught() {
    let turn = AtomicUsize::new(0);
    let round_robin = FnScheduler::new("round robin", move |ask: &Ask, cluster: &ClusterView| {
        let usable: Vec<_> = cluster
            .available(&ask.job.model)
            .filter(|w| fits(ask, cluster, w) && !ask.avoid.contains(&w.info.id))
            .collect();
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        Ok(assign(usable.get(turn % usable.len().max(1)).copied()))
    });
    caught(&round_robin, "the same question got two answers");
}

#[test]
fn a_scheduler_that_panics_or_fails_is_caught() {
    let unprepared = FnScheduler::new("unprepared", |_: &Ask, cluster: &ClusterView| {
        cluster
            .workers()
            .next()
            .map(|_| Placement::Wait)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "no workers"))
    });
    caught(&unprepared, "was answered with an error: no workers");
}

/// Decides by one policy, and explains the decision of another.
#[derive(Debug)]
struct Liar;

impl Scheduler for Liar {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        LeastLoaded::default().place(ask, cluster)
    }

    fn explain(&self, _: &Ask, _: &ClusterView) -> Explanation {
        Explanation { placement: Ok(Placement::Wait), steps: Vec::new(), candidates: Vec::new() }
    }
}

/// Marks another candidate as chosen than the one it decided for.
#[derive(Debug)]
struct Muddled;

impl Scheduler for Muddled {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        LeastLoaded::default().place(ask, cluster)
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        let mut explanation = LeastLoaded::default().explain(ask, cluster);
        for (candidate, verdict) in &mut explanation.candidates {
            if let Candidate::Worker(_) = candidate {
                *verdict = Verdict::Chosen;
            }
        }
        explanation
    }
}

#[test]
fn an_explanation_of_another_decision_is_caught() {
    caught(&Liar, "but the explanation is of");
    caught(&Muddled, "but the explanation calls");
}

/// Changes its admission decision with every second call.
#[derive(Debug, Default)]
struct Fickle(AtomicBool);

impl Scheduler for Fickle {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        LeastLoaded::default().place(ask, cluster)
    }

    fn info(&self) -> SchedulerInfo {
        let mut info = SchedulerInfo::of::<Self>();
        info.admits = self.0.fetch_xor(true, Ordering::SeqCst);
        info
    }
}

#[test]
fn an_info_that_changes_or_cannot_be_carried_out_is_caught() {
    caught(&Fickle::default(), "its info is not always the same");
    caught(&FnScheduler::new(" ", |_: &Ask, _: &ClusterView| Ok(Placement::Wait)), "has no name");
    let hasty = FnScheduler::new("hasty", |_: &Ask, _: &ClusterView| Ok(Placement::Wait));
    caught(&hasty.with_limit(Duration::ZERO), "a limit of 0 seconds");
}
