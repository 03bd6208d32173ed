//! The contract of [`Scheduler`], checked on seeded random clusters.
//!
//! ```
//! use rbee_core::{LeastLoaded, conformance};
//!
//! conformance::scheduler::check(&LeastLoaded::default());
//! ```

mod scene;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use scene::{Load, Scene};

use crate::{
    cluster::{ClusterView, WorkerView},
    id::{HiveId, WorkerId},
    scheduler::{Ask, Candidate, Placement, Scheduler, Verdict},
    task::Task,
    worker_spec::WorkerSpec,
};

/// The number of random clusters in [`check`].
const SCENES: u64 = 400;
/// The number of workers in the large cluster.
const MANY: usize = 10_000;
/// The longest time of a decision about them, also without compiler optimization and on a busy machine.
const LONGEST: Duration = Duration::from_secs(1);
/// The most candidates in an explanation.
const MOST_CANDIDATES: usize = 1024;

/// Calls the scheduler for some hundreds of clusters, an empty one and one of 10,000 workers.
///
/// Its answers must be valid for the engine, must be the same for the same question, and must take at most a second.
/// The same applies to the explanations, which must contain the same decisions. The scheduler's info must always be the
/// same. A message names a random cluster by its seed: [`check_seed`] checks only that one.
///
/// # Panics
/// If the scheduler breaks the contract; the message says how.
pub fn check(scheduler: &dyn Scheduler) {
    check_info(scheduler);
    check_empty(scheduler);
    for seed in 0..SCENES {
        check_seed(scheduler, seed);
    }
    check_order_of_questions(scheduler);
    check_many(scheduler);
}

/// Calls the scheduler for the random cluster of this seed.
///
/// # Panics
/// As [`check`].
pub fn check_seed(scheduler: &dyn Scheduler, seed: u64) {
    let scene = Scene::random(seed);
    let placement = answer(scheduler, &scene, &format!("seed {seed}"));
    let rebuilt = scheduler.place(&scene.ask, &scene.cluster_put_together_backwards());
    assert_eq!(
        rebuilt.ok().as_ref(),
        Some(&placement),
        "seed {seed}: the same cluster, put together in another order, got another answer"
    );
}

/// The queen reads it once, when the scheduler becomes active.
fn check_info(scheduler: &dyn Scheduler) {
    let info = scheduler.info();
    let again = scheduler.info();
    assert!(info == again, "its info is not always the same: {info:?}, then {again:?}");
    assert!(!info.name.trim().is_empty(), "its info has no name: {info:?}");
    assert!(info.threads > 0, "its info asks for 0 threads; allowed are 1 and more: {info:?}");
    let has_time = info.limit.is_none_or(|limit| !limit.is_zero());
    assert!(has_time, "its info has a limit of 0 seconds: {info:?}");
}

fn check_empty(scheduler: &dyn Scheduler) {
    for seed in 0..20 {
        let scene = Scene { cluster: ClusterView::default(), ..Scene::random(seed) };
        answer(scheduler, &scene, &format!("an empty cluster, seed {seed}"));
    }
}

/// Earlier questions must not matter.
fn check_order_of_questions(scheduler: &dyn Scheduler) {
    let scenes: Vec<Scene> = (0..40).map(Scene::random).collect();
    let ask = |scene: &Scene| scheduler.place(&scene.ask, &scene.cluster).ok();
    let forwards: Vec<_> = scenes.iter().map(ask).collect();
    let mut backwards: Vec<_> = scenes.iter().rev().map(ask).collect();
    backwards.reverse();
    assert!(
        forwards == backwards,
        "the same question got another answer after other questions: the scheduler remembers"
    );
}

fn check_many(scheduler: &dyn Scheduler) {
    for (seed, load) in [(1, Load::Free), (2, Load::Busy), (3, Load::OtherModels)] {
        let name = format!("{MANY} workers ({load:?})");
        let scene = Scene::large(seed, MANY, load);
        let took = (0..3)
            .map(|_| {
                let start = Instant::now();
                let _ = scheduler.place(&scene.ask, &scene.cluster);
                start.elapsed()
            })
            .min()
            .unwrap_or_default();
        assert!(took <= LONGEST, "{name}: a decision took {took:?}; allowed is {LONGEST:?}");
        answer(scheduler, &scene, &name);
    }
}

/// Calls the scheduler, and checks the answer and the explanation.
fn answer(scheduler: &dyn Scheduler, scene: &Scene, name: &str) -> Placement {
    let (ask, cluster) = (&scene.ask, &scene.cluster);
    let placement = scheduler.place(ask, cluster).unwrap_or_else(|error| {
        panic!("{name}: a valid question was answered with an error: {error}")
    });
    match &placement {
        Placement::Assign(worker) => check_assign(ask, cluster, *worker, name),
        Placement::Spawn { hive, spec, evict } => {
            check_spawn(ask, cluster, hive, spec, name);
            check_evict(cluster, hive, evict, name);
        }
        Placement::Wait | Placement::Reject(_) => {}
    }
    let again = scheduler.place(ask, &cluster.clone());
    assert!(
        again.as_ref() == Ok(&placement),
        "{name}: the same question got two answers, {placement:?} and {again:?}"
    );
    check_explanation(scheduler, scene, &placement, name);
    placement
}

/// The reason why the worker must not get the job; `None` if it may.
fn unfit(ask: &Ask, cluster: &ClusterView, worker: &WorkerView) -> Option<&'static str> {
    let info = &worker.info;
    let capable = match ask.job.task {
        Task::Generate { .. } => info.capabilities.generate,
        Task::Embed { .. } => info.capabilities.embed,
        Task::Rerank { .. } => info.capabilities.rerank,
    };
    let offline = cluster.hive(&info.hive).is_some_and(|hive| !hive.online);
    let wanted = ask.must_match.as_deref();
    [
        (info.model != ask.job.model, "it has another model"),
        (worker.free_slots() == 0, "it has no free slot"),
        (!capable, "it cannot do the task"),
        (offline, "its hive is offline"),
        (wanted.is_some_and(|wanted| *info.numerics != *wanted), "its numerics do not match"),
    ]
    .into_iter()
    .find_map(|(unfit, why)| unfit.then_some(why))
}

fn check_assign(ask: &Ask, cluster: &ClusterView, id: WorkerId, name: &str) {
    let Some(worker) = cluster.worker(id) else {
        panic!("{name}: the job was given to worker {id}, which does not exist");
    };
    if let Some(why) = unfit(ask, cluster, worker) {
        panic!("{name}: the job was given to worker {id}, but {why}: {worker:?}");
    }
    let better = |other: &&Arc<WorkerView>| {
        !ask.avoid.contains(&other.info.id) && unfit(ask, cluster, other).is_none()
    };
    if ask.avoid.contains(&id)
        && let Some(other) = cluster.with_model(&ask.job.model).find(better)
    {
        let other = other.info.id;
        panic!("{name}: the job has failed on worker {id} and got it again; {other} is free");
    }
}

fn check_spawn(ask: &Ask, cluster: &ClusterView, id: &HiveId, spec: &WorkerSpec, name: &str) {
    let Some(hive) = cluster.hive(id) else {
        panic!("{name}: the decision starts a worker on hive {id}, which does not exist");
    };
    assert!(hive.online, "{name}: the decision starts a worker on hive {id}, which is offline");
    assert!(
        !ask.refused.contains_key(id),
        "{name}: the decision starts a worker on hive {id}, which has refused to"
    );
    let (model, wanted) = (&spec.model, &ask.job.model);
    assert!(
        model == wanted,
        "{name}: the decision starts a worker with model {model}; the job needs {wanted}"
    );
    assert!(
        spec.slots > 0,
        "{name}: the decision starts a worker with no slots; allowed is at least 1"
    );
    let devices: BTreeSet<u32> = spec.devices.iter().copied().collect();
    let known = |index: &u32| hive.devices.iter().any(|device| device.index == *index);
    assert!(
        devices.len() == spec.devices.len() && devices.iter().all(known),
        "{name}: the decision starts a worker on devices {:?} of hive {id}; it has {:?}",
        spec.devices,
        hive.devices
    );
}

fn check_evict(cluster: &ClusterView, hive: &HiveId, evict: &[WorkerId], name: &str) {
    let mut seen = BTreeSet::new();
    for id in evict {
        assert!(seen.insert(id), "{name}: the decision stops worker {id} twice");
        let Some(worker) = cluster.worker(*id) else {
            panic!("{name}: the decision stops worker {id}, which does not exist");
        };
        let home = &worker.info.hive;
        assert!(
            home == hive,
            "{name}: the decision stops worker {id} of hive {home} for a worker on hive {hive}"
        );
        assert!(
            worker.is_evictable(),
            "{name}: the decision stops worker {id}, which is busy, pinned or not ready: {worker:?}"
        );
    }
}

fn check_explanation(scheduler: &dyn Scheduler, scene: &Scene, placement: &Placement, name: &str) {
    let explanation = scheduler.explain(&scene.ask, &scene.cluster);
    let explained = &explanation.placement;
    assert!(
        explained.as_ref() == Ok(placement),
        "{name}: the decision is {placement:?}, but the explanation is of {explained:?}"
    );
    let candidates = &explanation.candidates;
    let count = candidates.len();
    assert!(
        count <= MOST_CANDIDATES,
        "{name}: the explanation lists {count} candidates; allowed are {MOST_CANDIDATES}"
    );
    let distinct: BTreeSet<&Candidate> =
        candidates.iter().map(|(candidate, _)| candidate).collect();
    assert!(distinct.len() == count, "{name}: the explanation lists a candidate twice");
    if candidates.is_empty() {
        return;
    }
    let expected = match placement {
        Placement::Assign(worker) => Some(Candidate::Worker(*worker)),
        Placement::Spawn { hive, .. } => Some(Candidate::Hive(hive.clone())),
        Placement::Wait | Placement::Reject(_) => None,
    };
    let chosen: Vec<&Candidate> = candidates
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Chosen)
        .map(|(candidate, _)| candidate)
        .collect();
    assert!(
        chosen.iter().copied().eq(expected.as_ref()),
        "{name}: the decision is {placement:?}, but the explanation calls {chosen:?} chosen"
    );
}
