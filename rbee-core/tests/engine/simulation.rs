//! Fleets in virtual time: the invariants hold under all faults, and the same seed gives the same run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use rbee_core::{
    LeastLoaded, Scheduler, Settings,
    sim::{Faults, ReplayedRun, Simulation, replay_run},
};

fn run(simulation: &Simulation) -> rbee_core::sim::SimReport {
    match simulation.run(&LeastLoaded::default()) {
        Ok(report) => report,
        Err(violation) => panic!("seed {}: {violation}", simulation.seed),
    }
}

#[test]
fn whatever_fails_every_accepted_job_ends_once_and_every_counter_returns_to_zero() {
    for seed in 1..=300 {
        let report = run(&Simulation {
            faults: Faults::many(),
            cold_models: seed as usize % 3,
            tenants: seed as usize % 4,
            seed,
            ..Simulation::default()
        });
        assert!(report.accepted > 100, "seed {seed}: {report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_step() {
    for seed in [3, 77] {
        let simulation =
            Simulation { faults: Faults::many(), cold_models: 2, seed, ..Simulation::default() };
        assert_eq!(run(&simulation), run(&simulation));
    }
    let other =
        Simulation { faults: Faults::many(), cold_models: 2, seed: 4, ..Simulation::default() };
    assert_ne!(run(&other).trace, run(&Simulation { seed: 5, ..other.clone() }).trace);
}

#[test]
fn without_faults_every_job_completes() {
    let report = run(&Simulation { cold_models: 2, tenants: 3, ..Simulation::default() });
    assert_eq!((report.accepted, report.completed, report.refused), (150, 150, 0));
    assert!(report.spawns >= 2, "cold models were started: {report:?}");
}

/// A thousand machines, ten thousand workers, a hundred thousand jobs, driven by hand.
#[test]
fn a_thousand_hives_serve_a_hundred_thousand_jobs_and_end_quiet() {
    let report = run(&Simulation {
        hives: 1_000,
        workers_per_hive: 10,
        models: 100,
        jobs: 100_000,
        arrivals: Duration::from_secs(20),
        faults: Faults { attempts: 20, exits: 50, outages: 20, ..Faults::default() },
        seed: 7,
        ..Simulation::default()
    });
    assert_eq!(report.accepted, 100_000);
    assert!(report.completed > 95_000, "{report:?}");
}

#[test]
fn a_full_queue_refuses_and_what_it_took_still_ends() {
    let report = run(&Simulation {
        hives: 1,
        workers_per_hive: 1,
        models: 1,
        slots: 1,
        jobs: 500,
        arrivals: Duration::from_secs(1),
        settings: Settings { queue_capacity: 50, ..Settings::default() },
        ..Simulation::default()
    });
    assert!(report.refused > 300 && report.peak_waiting <= 100, "{report:?}");
    assert_eq!(report.accepted + report.refused, 500);
}

/// Runs, records, and replays the recording; `again` answers the policy questions once more.
fn replayed(
    simulation: &Simulation,
    scheduler: &dyn Scheduler,
    again: Option<&dyn Scheduler>,
) -> ReplayedRun {
    let mut recorded = Vec::new();
    let seed = simulation.seed;
    let report = simulation.run_recorded(scheduler, &mut recorded);
    let report = report.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(report, simulation.run(scheduler).unwrap(), "the recording changes nothing");
    let replayed = replay_run(&recorded[..], again);
    let replayed = replayed.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(replayed.steps as u64, report.steps);
    assert!(replayed.effects > 1_000, "{replayed:?}");
    replayed
}

fn troubled(seed: u64, faults: Faults) -> Simulation {
    let (cold_models, tenants) = (seed as usize % 3, seed as usize % 4);
    Simulation { faults, cold_models, tenants, seed, ..Simulation::default() }
}

#[test]
fn a_recorded_run_replays_to_the_same_effects_to_the_byte_whatever_fails() {
    for seed in 1..=40 {
        let simulation = troubled(seed, Faults::many());
        let run = replayed(&simulation, &LeastLoaded::default(), None);
        assert_eq!(run.questions, 0, "no policy was asked again");
    }
}

/// The recording has the answers, so a replay does not need the script; asked again, the script answers the same.
#[cfg(feature = "rhai")]
#[test]
fn a_run_under_a_script_that_admits_and_ranks_replays_and_the_script_says_the_same_again() {
    let script = "
        fn admit(job, queue) {
            if job.priority == \"batch\" && queue.depth > 3 { return reject(\"busy\"); }
            accept(if job.tenant == \"tenant-1\" { -1 } else { queue.depth })
        }
        fn order(job) { if job.priority == \"batch\" { 5 } else { 0 } }
        fn schedule(job, workers, hives) {
            run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? builtin()
        }";
    let policy = rbee_core::RhaiScheduler::new(script).unwrap();
    let policy = policy.for_replay().unwrap();
    // No made-up answers: the script would not give them again.
    let faults = Faults { nonsense: 0, ..Faults::many() };
    let (mut refused, mut asked) = (0, 0);
    for seed in 1..=12 {
        let simulation = troubled(seed, faults);
        asked += replayed(&simulation, &*policy, Some(&*policy)).questions;
        refused += simulation.run(&*policy).unwrap().refused;
    }
    assert!(refused > 20 && asked > 12 * 300, "{refused} were refused, {asked} questions");
}

#[test]
fn a_scheduler_that_answers_something_else_than_in_the_recorded_run_is_found_out() {
    let mut recorded = Vec::new();
    let simulation = Simulation { cold_models: 1, ..Simulation::default() };
    simulation.run_recorded(&LeastLoaded::default(), &mut recorded).unwrap();
    let other = rbee_core::FnScheduler::new("other", |_: &_, _: &_| Ok(rbee_core::Placement::Wait));
    let error = replay_run(&recorded[..], Some(&other)).unwrap_err();
    assert!(error.message().contains("the policy answers something else\n"), "{error}");
}
