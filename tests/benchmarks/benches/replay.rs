//! Jobs simulated per second: a day's jobs on 1,000 hives with 2,000 workers of 50 models, replayed through the
//! built-in policy in one thread; and the same jobs on 10 and 100 hives, to show the cost of the fleet's size.

use std::time::{Duration, Instant};

use rbee_core::{
    HiveId, LeastLoaded, ModelRef, Settings, TenantId,
    sim::{Fleet, FleetDevice, FleetHive, FleetWorker, Replay, Trace},
};

const GB: u64 = 1_000_000_000;
const JOBS: usize = 100_000;
const MODELS: usize = 50;
const ROUNDS: usize = 3;

fn model(number: usize) -> ModelRef {
    format!("model-{number}").parse().expect("well-formed")
}

/// Hives with a GPU that holds two workers of 10 GB and has space for one more.
fn fleet(hives: usize) -> Fleet {
    let hive = |number: usize| FleetHive {
        id: HiveId::new(format!("hive-{number}")).expect("well-formed"),
        labels: [("region".to_owned(), format!("region-{}", number % 4))].into(),
        online: true,
        draining: false,
        devices: vec![FleetDevice {
            kind: rbee_core::hive::DeviceKind::Cuda,
            name: "simulated".into(),
            memory_total: 40 * GB,
            memory_free: None,
        }],
        memory_budget: None,
        takes: std::collections::BTreeMap::new(),
        models: (0..MODELS).map(|number| (model(number), 8 * GB)).collect(),
        workers: (0..2)
            .map(|place| FleetWorker {
                id: None,
                model: model((2 * number + place) % MODELS),
                slots: 4,
                device: 0,
                memory_bytes: Some(10 * GB),
                busy: 0,
                embed: false,
                rerank: false,
                pinned: false,
                warm: Vec::new(),
            })
            .collect(),
    };
    Fleet { hives: (0..hives).map(hive).collect() }
}

fn main() {
    let models: Vec<_> = (0..MODELS).map(model).collect();
    let tenants: Vec<_> =
        (0..10).map(|n| TenantId::new(format!("tenant-{n}")).expect("well-formed")).collect();
    let day = Trace::day(1, JOBS, &models, &tenants);
    let talk = Trace::conversations(1, JOBS / 10, 10, Duration::from_secs(7_200), &models);
    for hives in [10, 100, 1_000] {
        for (what, trace) in [("a day", &day), ("conversations", &talk)] {
            let settings = Settings { queue_capacity: 1_000_000, ..Settings::default() };
            let replay = Replay { settings, ..Replay::new(fleet(hives), trace.clone()) };
            let mut rounds: Vec<_> = (0..ROUNDS)
                .map(|_| {
                    let began = Instant::now();
                    let report = replay.run(&LeastLoaded::default()).expect("it ends");
                    (began.elapsed(), report)
                })
                .collect();
            rounds.sort_by_key(|(took, _)| *took);
            let (took, report) = &rounds[ROUNDS / 2];
            println!(
                "{hives:>5} hives, {what}: {:>8.0} jobs/s; {} of {} jobs completed, {} inputs, {} spawns, {} evictions, \
                 waits p50 {} ms, p99 {} ms, {} s of virtual time in {took:.2?}",
                report.jobs as f64 / took.as_secs_f64(),
                report.completed,
                report.jobs,
                report.steps,
                report.spawns,
                report.evictions,
                report.waits.p50_ms,
                report.waits.p99_ms,
                report.elapsed_ms / 1_000,
            );
        }
    }
}
