//! What the engine promises about order, fairness and swaps, and what a policy gains from warm prompts.

use std::{sync::Arc, time::Duration};

use rbee_core::{
    Ask, ClusterView, FnScheduler, LeastLoaded, Placement, Priority, Scheduler,
    cluster::WorkerView,
    sim::{Fleet, JobSketch, Replay, Trace},
};
use serde_json::json;

use super::traces::{GB, arrival, fleet, model, replay, run, tenant, workers};

/// The worker that has computed most of the prompt, among those below `percent` of their share of the load.
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
        // Of equals the first one, which is the least loaded.
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

/// Conversations, and also many questions about one document: a hot spot that affinity alone would send to one worker.
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
    let metrics = |name: &str, scheduler: &dyn Scheduler| {
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
    let (least_hits, least_worst, least_busy) = metrics("least loaded", &LeastLoaded::default());
    let (greedy_hits, greedy_worst, _) = metrics("affinity", &prefix_affinity(1_000_000));
    let (hits, worst, busy) = metrics("affinity, bounded at 125 %", &prefix_affinity(125));
    assert!(hits > least_hits + 0.2 && hits > greedy_hits - 0.1, "{hits} of {least_hits}");
    assert!(worst < 1.25 && least_worst < 1.25, "the worst worker has {worst} of the mean");
    assert!(greedy_worst > 2.0 * worst, "without the bound: {greedy_worst}");
    assert!(busy < least_busy * 9 / 10, "{busy} against {least_busy}");
}

#[test]
fn a_prompt_that_is_partly_computed_spares_that_part_of_its_prefill() {
    // 200 prompt tokens take as long as 10 tokens of the answer: half of the time is prefill.
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
        // After this many interactive jobs a batch job runs: the last of 20 waits for 20 rounds.
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
        // Of every `crowd + 1` slots that become free, one goes to `few`, and there are four slots.
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
    // The first model is loaded; from then on every job needs another one, with one swap each.
    assert_eq!((report.spawns, report.evictions), (39, 39));
    // Stopping takes 0.2 s, and loading 8 GB at 1 GB/s takes 8 s.
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
