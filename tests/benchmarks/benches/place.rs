//! The cost of placing a job, and of maintaining the view that decisions use, by the number of workers.
//!
//! `place/policy` is the built-in policy on the indexed view; its baseline `place/scan` scans a plain vector of the
//! same workers. The job's model has four workers, whatever the number of others.
//!
//! `spawn` is a decision about a model that no worker has, by the number of hives, each of which has two idle workers
//! of other models on its one GPU: in `spawn/on_disk` four hives have its files; in `spawn/elsewhere` those four are
//! busy, so all others are checked.
//!
//! `view/edit` takes or frees one slot in place. `view/edit_beside_a_clone` does so while a policy on another thread
//! still uses the previous state, including the clone and its drop.

use std::{collections::BTreeSet, hint::black_box, sync::Arc, time::Duration};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use rbee_core::{
    Ask, ClusterView, CorrelationId, HiveId, Job, JobId, LeastLoaded, ModelRef, Placement,
    Priority, Scheduler, WorkerId, WorkerInfo,
    cluster::{HiveView, WorkerView},
    hive::{Device, DeviceKind},
    models::ModelOnDisk,
    request::{Prompt, Sampling, Task},
    time::{Now, Time},
};

/// Workers of each model.
const REPLICAS: usize = 4;
/// Workers of each hive.
const PER_HIVE: usize = 8;

fn model(number: usize) -> ModelRef {
    let name = format!("hf:organization/model-{number}@main");
    name.parse().expect("a proper reference")
}

fn hive(number: usize) -> HiveId {
    HiveId::new(format!("hive-{number}")).expect("a proper name")
}

/// Workers with some of their slots taken.
fn workers(count: usize) -> Vec<Arc<WorkerView>> {
    (0..count)
        .map(|number| {
            let mut info = WorkerInfo::new(model(number / REPLICAS), "benchmark");
            // Spread over the key space, as random ids are, but the same ones in every run.
            let bits = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            info.id = WorkerId::from_random_bits(bits);
            info.hive = hive(number / PER_HIVE);
            info.slots = 8;
            let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(number as u64));
            view.leased = (number % 5) as u32;
            Arc::new(view)
        })
        .collect()
}

fn cluster(workers: &[Arc<WorkerView>]) -> ClusterView {
    let mut cluster = ClusterView::default();
    for number in 0..workers.len().div_ceil(PER_HIVE) {
        cluster.put_hive(HiveView {
            id: hive(number),
            online: true,
            draining: false,
            devices: Arc::default(),
            memory_budget: None,
            labels: Arc::default(),
            models: Arc::default(),
            engines: None,
            reserved: Default::default(),
        });
    }
    for worker in workers {
        cluster.put_worker(WorkerView::clone(worker));
    }
    cluster
}

fn ask(model: ModelRef) -> Ask {
    Ask {
        job: Arc::new(Job {
            id: JobId::from_random_bits(1),
            model,
            priority: Priority::Interactive,
            task: Task::Generate {
                prompt: Prompt::Text("hello".into()),
                sampling: Sampling::default(),
            },
            seed: 1,
            prefix: Arc::default(),
            timeout: Duration::from_secs(300),
            deadline: None,
            detached: false,
            stored: false,
            metadata: None,
            tenant: None,
            rank: 0,
            correlation_id: CorrelationId::new("benchmark").expect("a proper name"),
            idempotency: None,
            streamed: true,
        }),
        now: Now::default(),
        random: 0,
        waited: Duration::ZERO,
        attempts: 0,
        avoid: Arc::default(),
        must_match: None,
        refused: Arc::default(),
    }
}

/// The least loaded suitable worker, found by a scan of all.
fn scan(ask: &Ask, workers: &[Arc<WorkerView>], avoid: &BTreeSet<WorkerId>) -> Option<WorkerId> {
    workers
        .iter()
        .filter(|worker| {
            worker.info.model == ask.job.model
                && worker.free_slots() > 0
                && worker.info.capabilities.generate
                && !avoid.contains(&worker.info.id)
        })
        .min_by_key(|worker| (worker.leased * 1024 / worker.info.slots, worker.last_used))
        .map(|worker| worker.info.id)
}

fn bench_place(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let workers = workers(count);
    let cluster = cluster(&workers);
    let ask = ask(model(count / REPLICAS / 2));
    let policy = LeastLoaded::default();
    let found = scan(&ask, &workers, &ask.avoid).expect("a free worker");
    assert_eq!(
        policy.place(&ask, &cluster),
        Ok(Placement::Assign(found)),
        "both must find the same worker"
    );
    group.bench_function(BenchmarkId::new("policy", count), |b| {
        b.iter(|| policy.place(black_box(&ask), black_box(&cluster)));
    });
    group.bench_function(BenchmarkId::new("scan", count), |b| {
        b.iter(|| scan(black_box(&ask), black_box(&workers), &ask.avoid));
    });
}

/// Hives with a GPU of 24 GiB shared by two workers, and a model that four of them have on their disk.
fn full(hives: usize, are_holders_busy: bool) -> (ClusterView, ModelRef) {
    const GIB: u64 = 1 << 30;
    let wanted = model(usize::MAX);
    let mut cluster = ClusterView::default();
    for number in 0..hives {
        let has_files = number % (hives / 4) == 0;
        let gpu = Device {
            index: 1,
            kind: DeviceKind::Cuda,
            name: "benchmark".into(),
            memory_total: 24 * GIB,
            memory_free: 4 * GIB,
        };
        let files = ModelOnDisk::new(wanted.clone(), 5 * GIB);
        cluster.put_hive(HiveView {
            id: hive(number),
            online: true,
            draining: false,
            devices: Arc::from([gpu]),
            memory_budget: None,
            labels: Arc::default(),
            models: Arc::new(has_files.then(|| (wanted.clone(), files)).into_iter().collect()),
            engines: None,
            reserved: Default::default(),
        });
        for place in [2 * number, 2 * number + 1] {
            let mut info = WorkerInfo::new(model(place), "benchmark");
            info.id = WorkerId::from_random_bits(place as u128);
            info.hive = hive(number);
            info.devices = vec![1];
            let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(place as u64));
            view.memory_bytes = 10 * GIB;
            view.leased = u32::from(has_files && are_holders_busy);
            cluster.put_worker(view);
        }
    }
    (cluster, wanted)
}

fn bench_spawn(group: &mut BenchmarkGroup<'_, WallTime>, hives: usize) {
    for (name, are_holders_busy) in [("on_disk", false), ("elsewhere", true)] {
        let (cluster, wanted) = full(hives, are_holders_busy);
        let (ask, policy) = (ask(wanted), LeastLoaded::default());
        let placement = policy.place(&ask, &cluster);
        assert!(matches!(placement, Ok(Placement::Spawn { .. })), "{name}: {placement:?}");
        group.bench_function(BenchmarkId::new(name, hives), |b| {
            b.iter(|| policy.place(black_box(&ask), black_box(&cluster)));
        });
    }
}

fn bench_view(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let workers = workers(count);
    let mut cluster = cluster(&workers);
    let mut turn = 0;
    // A different worker each time, far from the last one.
    let mut next = || {
        turn = (turn + 7919) % count;
        workers[turn].info.id
    };
    group.bench_function(BenchmarkId::new("edit", count), |b| {
        b.iter(|| cluster.edit_worker(next(), |worker| worker.leased ^= 1));
    });
    group.bench_function(BenchmarkId::new("edit_beside_a_clone", count), |b| {
        b.iter(|| {
            let before = cluster.clone();
            cluster.edit_worker(next(), |worker| worker.leased ^= 1);
            before
        });
    });
}

fn benchmarks(criterion: &mut Criterion) {
    let counts = [100, 1_000, 10_000, 100_000];
    let mut group = criterion.benchmark_group("place");
    for count in counts {
        bench_place(&mut group, count);
    }
    group.finish();
    let mut group = criterion.benchmark_group("spawn");
    for hives in [8, 100, 1_000, 10_000] {
        bench_spawn(&mut group, hives);
    }
    group.finish();
    let mut group = criterion.benchmark_group("view");
    for count in counts {
        bench_view(&mut group, count);
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = benchmarks
}
criterion_main!(all);
