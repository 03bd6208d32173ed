//! The cost of a decision by the kind of its policy, and by the number of workers.
//!
//! `policy/native` is the built-in policy; `policy/indexed` a script that decides the same with helpers that use the
//! view's indexes; `policy/rules` the same as rules in YAML; `policy/loop` a script that loops over every worker
//! itself, which may be as slow as a loop. The job's model has four workers, whatever the number of others.
//!
//! Before each group, the 99th percentile of single decisions is printed.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rbee_core::{
    Ask, ClusterView, CorrelationId, HiveId, Job, JobId, LeastLoaded, ModelRef, Placement,
    Priority, RhaiScheduler, Scheduler, WorkerId, WorkerInfo,
    cluster::{HiveView, WorkerView},
    request::{Prompt, Sampling, Task},
    time::{Now, Time},
};

/// Workers of each model.
const REPLICAS: usize = 4;
/// Workers of each hive.
const PER_HIVE: usize = 8;
/// Single decisions that the percentile is computed from.
const DECISIONS: usize = 5_000;
/// The time limit for all of them together.
const TIMEOUT: Duration = Duration::from_secs(3);

const INDEXED: &str = "fn schedule(job, workers, hives) {
    run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? builtin()
}";

const LOOP: &str = "fn schedule(job, workers, hives) {
    let best = ();
    for worker in workers {
        if worker.model == job.model && worker.free_slots > 0
            && (type_of(best) == \"()\" || worker.load < best.load) {
            best = worker;
        }
    }
    run_on(best) ?? builtin()
}";

const RULES: &str = "rules:
  - when: {model: \"*/model-*\", priority: interactive}
    then: {choose: least_loaded}
";

fn model(number: usize) -> ModelRef {
    let name = format!("hf:organization/model-{number}@main");
    name.parse().expect("a proper reference")
}

fn hive(number: usize) -> HiveId {
    HiveId::new(format!("hive-{number}")).expect("a proper name")
}

fn cluster(count: usize) -> ClusterView {
    let mut cluster = ClusterView::default();
    for number in 0..count.div_ceil(PER_HIVE) {
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
    for number in 0..count {
        let mut info = WorkerInfo::new(model(number / REPLICAS), "benchmark");
        // Spread over the key space, as random ids are, but the same ones in every run.
        let bits = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        info.id = WorkerId::from_random_bits(bits);
        info.hive = hive(number / PER_HIVE);
        info.slots = 8;
        let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(number as u64));
        view.leased = (number % 5) as u32;
        cluster.put_worker(view);
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

/// The 99th percentile of the times of decisions.
fn percentile(policy: &dyn Scheduler, ask: &Ask, cluster: &ClusterView) -> Duration {
    let begin = Instant::now();
    let mut took: Vec<Duration> = (0..DECISIONS)
        .take_while(|_| begin.elapsed() < TIMEOUT)
        .map(|_| {
            let start = Instant::now();
            let _ = black_box(policy.place(black_box(ask), black_box(cluster)));
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

fn benchmarks(criterion: &mut Criterion) {
    // The loop over 10,000 workers takes longer than the limit of a decision.
    let patient = |policy: RhaiScheduler| policy.with_limit(Duration::from_secs(10));
    let policies: [(&str, Box<dyn Scheduler>); 4] = [
        ("native", Box::new(LeastLoaded::default())),
        ("indexed", Box::new(patient(RhaiScheduler::new(INDEXED).expect("a good script")))),
        ("rules", Box::new(patient(RhaiScheduler::from_rules(RULES).expect("good rules")))),
        ("loop", Box::new(patient(RhaiScheduler::new(LOOP).expect("a good script")))),
    ];
    let mut group = criterion.benchmark_group("policy");
    for count in [8, 100, 1_000, 10_000] {
        let (cluster, ask) = (cluster(count), ask(model(count / REPLICAS / 2)));
        for (name, policy) in &policies {
            let placement = policy.place(&ask, &cluster);
            assert!(matches!(placement, Ok(Placement::Assign(_))), "{name}: {placement:?}");
            let p99 = percentile(&**policy, &ask, &cluster);
            println!("policy/{name}/{count}: p99 {p99:?}");
            group.bench_function(BenchmarkId::new(*name, count), |b| {
                b.iter(|| policy.place(black_box(&ask), black_box(&cluster)));
            });
        }
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
