//! A fleet in virtual time: the real [`Engine`](crate::engine::Engine) and a real policy, in one thread, with a
//! simulated clock. The same seed gives the same run, to the last step.
//!
//! A [`Replay`] runs a [`Trace`], which is recorded or generated jobs, through a policy on a described [`Fleet`]. It
//! reports how long the jobs waited and what the workers did, so that policies can be compared. Here a thousand
//! machines, a busy day and two policies:
//!
//! ```
//! use rbee_core::{
//!     Ask, ClusterView, FnScheduler, LeastLoaded, ModelRef, Placement, Result,
//!     sim::{Fleet, Replay, ReplayReport, Trace},
//! };
//! use serde_json::json;
//!
//! // Every machine has two of eight models in memory, and all eight on its disk.
//! let models: Vec<ModelRef> =
//!     (0..8).map(|n| format!("model-{n}").parse()).collect::<Result<_>>()?;
//! let on_disk: serde_json::Map<_, _> =
//!     models.iter().map(|model| (model.to_string(), json!(8_000_000_000_u64))).collect();
//! let hives: Vec<_> = (0..1_000_usize)
//!     .map(|n| {
//!         let worker = |place| {
//!             let model = &models[(2 * n + place) % models.len()];
//!             json!({ "model": model, "slots": 4, "memory_bytes": 10_000_000_000_u64 })
//!         };
//!         json!({
//!             "id": format!("hive-{n}"),
//!             "devices": [{ "kind": "cuda", "memory_total": 24_000_000_000_u64 }],
//!             "models": on_disk,
//!             "workers": [worker(0), worker(1)],
//!         })
//!     })
//!     .collect();
//! let fleet: Fleet = serde_json::from_value(json!({ "hives": hives }))?;
//!
//! // A day with its rush hours and bursts; seed 1 is always the same day.
//! let day = Trace::day(1, 2_000, &models, &[]);
//! let replay = Replay::new(fleet, day);
//!
//! // The built-in policy, and one that always takes the first free worker.
//! let first = FnScheduler::new("first", |ask: &Ask, cluster: &ClusterView| {
//!     let worker = cluster.with_model(&ask.job.model).find(|worker| worker.free_slots() > 0);
//!     Ok(worker.map_or(Placement::Wait, |worker| Placement::Assign(worker.info.id)))
//! });
//! let spread = replay.run(&LeastLoaded::default())?;
//! let piled = replay.run(&first)?;
//! let busiest = |report: &ReplayReport| report.workers.values().map(|load| load.jobs).max();
//! assert_eq!((spread.completed, piled.completed), (2_000, 2_000));
//! assert!(busiest(&piled) > busiest(&spread), "one piles up, the other spreads");
//!
//! // The same seed gives the same run, to the last decision.
//! assert_eq!(replay.run(&first)?, piled);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A fleet is made from a policy's view of a cluster ([`Fleet::of`], [`Fleet::view`]), or written in JSON or YAML. A
//! trace is made from records ([`Trace::from_records`]), from a seed ([`Trace::day`], [`Trace::conversations`]), or by
//! hand. The assumptions of a replay are listed at [`Replay`].
//!
//! A [`Simulation`] looks for faults of the engine. Its machines answer after times drawn from a seed, and fail at a
//! set rate. Every step is checked: a slot granted twice, a second terminal event or a job that never ends is a
//! [violation](Simulation::run).

use std::time::Duration;

use crate::{scheduler::Scheduler, settings::Settings};

mod fleet;
pub(crate) mod recorded_run;
mod replay;
mod sketch;
mod stage;
mod trace;
mod world;
#[cfg(feature = "rules")]
mod yaml;

pub use fleet::{Fleet, FleetDevice, FleetHive, FleetWorker};
pub use recorded_run::{ReplayedRun, replay_run};
pub use replay::{Replay, ReplayReport, Waits, WorkerLoad};
pub use sketch::{JobSketch, SketchTask};
pub use trace::{Arrival, Recorded, Recording, Trace};

/// The fault rates, in cases per thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Attempts that fail, in one of several ways.
    pub attempts: u32,
    /// Starts of workers that fail.
    pub spawns: u32,
    /// Jobs that are cancelled.
    pub cancels: u32,
    /// Workers that exit some time during the run.
    pub exits: u32,
    /// Hives that are unreachable for a while.
    pub outages: u32,
    /// Records that the store refuses.
    pub records: u32,
    /// Answers of the policy that come late.
    pub late_answers: u32,
    /// Invalid answers of the policy.
    pub nonsense: u32,
}

impl Faults {
    /// All kinds of faults, each now and then.
    pub const fn many() -> Self {
        Self {
            attempts: 150,
            spawns: 200,
            cancels: 100,
            exits: 500,
            outages: 300,
            records: 20,
            late_answers: 50,
            nonsense: 20,
        }
    }
}

/// The setup of a simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Machines.
    pub hives: usize,
    /// Workers that run on each from the start.
    pub workers_per_hive: usize,
    /// Slots of each worker.
    pub slots: u32,
    /// Models, assigned to the workers in turn.
    pub models: usize,
    /// Models that no worker has at the start; a policy that starts workers starts them.
    pub cold_models: usize,
    /// Tenants that the jobs are divided among; 0 for none.
    pub tenants: usize,
    /// Jobs.
    pub jobs: usize,
    /// The time over which they arrive.
    pub arrivals: Duration,
    /// The run time of a job: at least and at most.
    pub service: (Duration, Duration),
    /// The fault rates.
    pub faults: Faults,
    /// The engine's settings.
    pub settings: Settings,
    /// The seed of all randomness.
    pub seed: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            hives: 3,
            workers_per_hive: 2,
            slots: 4,
            models: 3,
            cold_models: 0,
            tenants: 0,
            jobs: 150,
            arrivals: Duration::from_secs(3),
            service: (Duration::from_millis(20), Duration::from_millis(420)),
            faults: Faults::default(),
            settings: Settings { queue_capacity: 1_000_000, ..Settings::default() },
            seed: 1,
        }
    }
}

/// The result of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimReport {
    /// Jobs that were accepted; each of them has ended exactly once.
    pub accepted: usize,
    /// Jobs that completed.
    pub completed: usize,
    /// Jobs that were refused at admission.
    pub refused: usize,
    /// Inputs that the engine took.
    pub steps: u64,
    /// The most jobs that waited at one time.
    pub peak_waiting: usize,
    /// Workers started by the policy.
    pub spawns: usize,
    /// Virtual time from the first arrival to the last end.
    pub elapsed: Duration,
    /// A hash over everything the engine decided, in order: equal for equal runs.
    pub trace: u64,
}

impl Simulation {
    /// Runs until every job has ended and nothing is left to do.
    ///
    /// # Errors
    /// A sentence that names the broken invariant.
    pub fn run(&self, scheduler: &dyn Scheduler) -> Result<SimReport, String> {
        world::World::new(self, scheduler, None).run()
    }

    /// The same, and records the run: [`replay_run`] reads it.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_recorded(
        &self,
        scheduler: &dyn Scheduler,
        out: &mut dyn std::io::Write,
    ) -> Result<SimReport, String> {
        world::World::new(self, scheduler, Some(out)).run()
    }
}
