//! Fleets in virtual time: the invariants hold whatever fails, and the same seed gives the same run.

use std::time::Duration;

use rbee_core::{
    LeastLoaded, Settings,
    sim::{Faults, Simulation},
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

/// A thousand machines, ten thousand workers, a hundred thousand jobs, moved by hand.
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
