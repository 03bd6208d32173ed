//! What holds for every fleet and every trace: no job starves, shares are fair, and nothing is swapped or scaled back
//! and forth. Fleets and traces are random; each is replayed in virtual time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use rbee_core::{
    Ask, ClusterView, FnScheduler, HiveId, JobId, LeastLoaded, ModelRef, Placement, Priority,
    Scheduler, Settings, TenantId,
    hive::DeviceKind,
    request::Task,
    sim::{Arrival, Fleet, FleetDevice, FleetHive, FleetWorker, JobSketch, Replay, Trace},
    tenant::TenantLimits,
    time::Time,
};

const GIB: u64 = 1 << 30;
const DAY: Duration = Duration::from_secs(86_400);

fn model(n: usize) -> ModelRef {
    format!("m{n}").parse().unwrap()
}

fn tenant(n: usize) -> TenantId {
    TenantId::new(format!("t{n}")).unwrap()
}

/// A machine with one device, all models on its disk, and a worker of the first of these.
fn hive(n: usize, gib: u64, models: usize, worker: Option<(usize, u32)>) -> FleetHive {
    let worker = worker.map(|(of, slots)| FleetWorker {
        id: None,
        model: model(of),
        slots,
        device: 0,
        memory_bytes: Some(5 * GIB),
        busy: 0,
        embed: false,
        rerank: false,
        pinned: false,
        warm: Vec::new(),
    });
    FleetHive {
        id: HiveId::new(format!("hive-{n:04}")).unwrap(),
        labels: BTreeMap::new(),
        online: true,
        draining: false,
        devices: vec![FleetDevice {
            kind: DeviceKind::Cpu,
            name: "test".into(),
            memory_total: gib * GIB,
            memory_free: None,
        }],
        memory_budget: None,
        takes: BTreeMap::new(),
        models: (0..models).map(|n| (model(n), 4 * GIB)).collect(),
        workers: worker.into_iter().collect(),
    }
}

fn replay(hives: Vec<FleetHive>, arrivals: Vec<Arrival>) -> Replay {
    let mut replay = Replay::new(Fleet { hives }, Trace { arrivals, ..Trace::default() });
    // No job ends by a timeout, so starvation shows.
    replay.settings = Settings {
        queue_capacity: 100_000,
        interactive_wait: DAY,
        batch_wait: DAY,
        ..Settings::default()
    };
    replay
}

fn arrival(at_ms: u64, job: JobSketch, tokens: u32) -> Arrival {
    let job = JobSketch { prompt_tokens: 1, max_tokens: Some(tokens), ..job };
    let service = Duration::from_millis(20) * tokens;
    Arrival { at: Duration::from_millis(at_ms), job, service, tokens }
}

/// A job: its arrival, model and tenant, whether it is batch, and the length of its answer.
type Row = (u64, usize, usize, bool, u32);

fn rows(models: usize, span_ms: u64) -> impl Strategy<Value = Vec<Row>> {
    vec((0..span_ms, 0..models, 0..4_usize, any::<bool>(), 1..200_u32), 1..200)
}

fn arrivals(rows: &[Row]) -> Vec<Arrival> {
    let of = |(at, of, whose, batch, tokens): &Row| {
        let priority = if *batch { Priority::Batch } else { Priority::Interactive };
        let tenant = whose.checked_sub(1).map(tenant);
        arrival(*at, JobSketch { priority, tenant, ..JobSketch::new(model(*of)) }, *tokens)
    };
    rows.iter().map(of).collect()
}

/// The start of a job on a slot.
struct Start {
    job: JobId,
    tenant: TenantId,
    priority: Priority,
    tokens: u64,
    at: Time,
}

/// The starts of all jobs, in order.
type Starts = Arc<Mutex<Vec<Start>>>;

/// The built-in policy, which notes the jobs that it gives slots.
fn noting() -> (impl Scheduler, Starts) {
    let starts = Starts::default();
    let (policy, noted) = (LeastLoaded::default(), Arc::clone(&starts));
    let scheduler = FnScheduler::new("noting", move |ask: &Ask, cluster: &ClusterView| {
        let placement = policy.place(ask, cluster)?;
        if let (Placement::Assign(_), Some(tenant), Task::Generate { sampling, .. }) =
            (&placement, &ask.job.tenant, &ask.job.task)
        {
            let tokens = 1 + u64::from(sampling.max_tokens.unwrap_or_default());
            let mut noted = noted.lock().unwrap();
            // If a job is asked about again, another job had taken the slot meanwhile.
            noted.retain(|start: &Start| start.job != ask.job.id);
            let (tenant, priority) = (tenant.clone(), ask.job.priority);
            noted.push(Start { job: ask.job.id, tenant, priority, tokens, at: ask.now.at });
        }
        Ok(placement)
    });
    (scheduler, starts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_is_done_and_models_are_swapped_no_faster_than_they_may(
        machines in vec((6..20_u64, 0..4_usize, 1..5_u32), 1..4),
        rows in rows(4, 600_000),
        min_loaded in 0..120_u64,
        interactive_per_batch in 1..20_u32,
        seed: u64,
    ) {
        let hives = machines.iter().enumerate();
        let hives = hives.map(|(n, (gib, of, slots))| hive(n, *gib, 4, Some((*of, *slots))));
        let mut replay = replay(hives.collect(), arrivals(&rows));
        replay.seed = seed;
        replay.settings.interactive_per_batch = interactive_per_batch;
        replay.settings.min_loaded = Duration::from_secs(min_loaded);
        let report = replay.run(&LeastLoaded::default()).unwrap();
        prop_assert_eq!(report.completed, rows.len(), "{:?} {:?}", report.rejected, report.failed);
        // All devices hold at most `held` workers at once, and each stays for at least `min_loaded`.
        if min_loaded > 0 {
            let held: u64 = machines.iter().map(|(gib, ..)| gib / 4).sum();
            let most = held * (report.elapsed_ms / (min_loaded * 1_000) + 1);
            prop_assert!(report.evictions as u64 <= most, "{} of {most}", report.evictions);
        }
        // Whatever the order of the models, a worker is running or loading at any time.
        let work: u64 = rows.iter().map(|row| u64::from(row.4) * 20).sum();
        let swap = min_loaded * 1_000 + 30_000;
        let most = 600_000 + work + (report.spawns as u64 + 1) * swap;
        prop_assert!(report.elapsed_ms <= most, "{} of {most} ms", report.elapsed_ms);
    }

    #[test]
    fn batch_gets_its_turn_under_any_load_of_interactive_jobs(
        slots in 1..5_u32,
        interactive_per_batch in 1..20_u32,
        batch in 1..20_u64,
        tokens in vec(1..100_u32, 1_500),
        every_ms in 1..50_u64,
    ) {
        let mut jobs: Vec<_> = (0_u64..).zip(&tokens).map(|(n, tokens)| {
            arrival(n * every_ms, JobSketch::new(model(0)), *tokens)
        }).collect();
        jobs.extend((0..batch).map(|n| {
            let job = JobSketch { priority: Priority::Batch, ..JobSketch::new(model(0)) };
            arrival(100 + n, job, 50)
        }));
        let mut replay = replay(vec![hive(0, 6, 1, Some((0, slots)))], jobs);
        replay.settings.interactive_per_batch = interactive_per_batch;
        let report = replay.run(&LeastLoaded::default()).unwrap();
        prop_assert_eq!(report.completed as u64, 1_500 + batch);
        // The last batch job waits for one round for each one before it, at the length of the longest jobs.
        let rounds = batch * u64::from(interactive_per_batch + 1);
        let most = (rounds.div_ceil(u64::from(slots)) + 1) * 100 * 20;
        let waited = report.waits_by_priority[&Priority::Batch];
        prop_assert!(waited.max_ms <= most, "{waited:?}, at most {most}");
    }

    #[test]
    fn tenants_with_a_backlog_have_tokens_by_their_weights(
        slots in 1..5_u32,
        tenants in vec((1..6_u32, vec(8..256_u32, 20..120)), 2..6),
    ) {
        // The jobs of all tenants arrive at the start, in turns.
        let longest = tenants.iter().map(|(_, jobs)| jobs.len()).max().unwrap();
        let jobs = (0..longest).flat_map(|place| {
            tenants.iter().enumerate().filter_map(move |(n, (_, jobs))| {
                let job = JobSketch { tenant: Some(tenant(n)), ..JobSketch::new(model(0)) };
                Some(arrival(0, job, *jobs.get(place)?))
            })
        });
        let mut replay = replay(vec![hive(0, 6, 1, Some((0, slots)))], jobs.collect());
        replay.tenants = tenants.iter().enumerate().map(|(n, (weight, _))| {
            (tenant(n), TenantLimits { weight: *weight, ..TenantLimits::default() })
        }).collect();
        let (scheduler, starts) = noting();
        let report = replay.run(&scheduler).unwrap();
        prop_assert_eq!(report.completed, tenants.iter().map(|(_, jobs)| jobs.len()).sum::<usize>());
        let mut had = vec![(0_u64, 0_usize); tenants.len()];
        for start in starts.lock().unwrap().iter() {
            let n = (0..tenants.len()).find(|n| tenant(*n) == start.tenant).unwrap();
            had[n] = (had[n].0 + start.tokens, had[n].1 + 1);
            if had[n].1 == tenants[n].1.len() {
                break; // No backlog is left.
            }
            for (a, b) in (0..tenants.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let share = |n: usize| had[n].0 as f64 / f64::from(tenants[n].0);
                // A running job is charged by the average until it has ended: one job for each slot, and one more.
                let job = |n: usize| 256.0 / f64::from(tenants[n].0);
                let most = f64::from(slots + 1) * (job(a) + job(b));
                prop_assert!((share(a) - share(b)).abs() <= most, "{a} {b} {had:?} {most}");
            }
        }
    }

    #[test]
    fn a_batch_tenant_that_comes_later_shares_by_weight_beside_any_load_of_interactive_jobs(
        slots in 1..4_u32,
        weights in (1..5_u32, 1..5_u32),
        people in vec(8..64_u32, 1_500),
        early in vec(8..128_u32, 20..60),
        late in vec(8..128_u32, 20..60),
        comes_after_s in 1..120_u64,
    ) {
        let of = |n, priority, tokens: &[u32], at_ms: u64| {
            let job = JobSketch { priority, tenant: Some(tenant(n)), ..JobSketch::new(model(0)) };
            tokens.iter().map(|tokens| arrival(at_ms, job.clone(), *tokens)).collect::<Vec<_>>()
        };
        let mut jobs = of(0, Priority::Interactive, &people, 0);
        jobs.extend(of(1, Priority::Batch, &early, 0));
        jobs.extend(of(2, Priority::Batch, &late, comes_after_s * 1_000));
        let mut replay = replay(vec![hive(0, 6, 1, Some((0, slots)))], jobs);
        replay.tenants = [(1, weights.0), (2, weights.1)].into_iter().map(|(n, weight)| {
            (tenant(n), TenantLimits { weight, ..TenantLimits::default() })
        }).collect();
        let (scheduler, starts) = noting();
        let report = replay.run(&scheduler).unwrap();
        prop_assert_eq!(report.completed, people.len() + early.len() + late.len());
        let comes = Time::default() + Duration::from_secs(comes_after_s);
        let (mut had, mut jobs) = ([0_u64; 2], [0; 2]);
        for start in starts.lock().unwrap().iter().filter(|start| start.priority == Priority::Batch) {
            let n = usize::from(start.tenant == tenant(2));
            jobs[n] += 1;
            if start.at >= comes {
                had[n] += start.tokens;
            }
            if jobs[0] == early.len() || jobs[1] == late.len() {
                break; // No backlog is left.
            }
            let share = |n: usize, weight: u32| had[n] as f64 / f64::from(weight);
            let job = |weight: u32| 128.0 / f64::from(weight);
            let most = f64::from(slots + 2) * (job(weights.0) + job(weights.1));
            let apart = (share(0, weights.0) - share(1, weights.1)).abs();
            prop_assert!(apart <= most, "{had:?} {weights:?} {most}");
        }
    }

    #[test]
    fn replicas_come_and_go_no_faster_than_the_pause(
        machines in 1..3_usize,
        bursts in vec((0..3_600_u64, 10..60_u64), 20..60),
        pause in 300..900_u64,
        timeout in 1..10_u64,
    ) {
        let hives = (0..machines).map(|n| hive(n, 16, 1, (n == 0).then_some((0, 2)))).collect();
        let jobs = bursts.iter().flat_map(|(at, jobs)| {
            (0..*jobs).map(move |n| arrival(at * 1_000 + n, JobSketch::new(model(0)), 200))
        });
        let mut replay = replay(hives, jobs.collect());
        replay.settings.scale_up_after = Duration::from_secs(timeout);
        replay.settings.scale_back_after = Duration::from_secs(pause);
        let report = replay.run(&LeastLoaded::default()).unwrap();
        prop_assert_eq!(report.completed as u64, bursts.iter().map(|burst| burst.1).sum::<u64>());
        prop_assert_eq!((report.evictions, report.expired), (0, 0), "it makes no room");
        prop_assert_eq!((report.spawns, report.stops), (report.scale_ups, report.scale_backs));
        // A machine holds three workers. Each one added was idle for one pause, and is absent for another.
        let most = 3 * machines as u64 * (report.elapsed_ms / (2 * pause * 1_000) + 1);
        prop_assert!(report.scale_ups as u64 <= most, "{} of {most}", report.scale_ups);
    }
}
