//! Jobs per second through the state machine alone, with 0, 1,000 and 1,000,000 other jobs waiting for a model whose
//! only slot is taken: what waits elsewhere must not make a job dearer.
//!
//! A job is submitted, recorded, placed by the built-in policy, started, ended and recorded again: five inputs. The
//! yardstick in the same run does the least that any queue must: it puts the job into an ordered map of that size
//! and takes it out again.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use rbee_core::{
    CorrelationId, Epoch, Finish, HiveId, HiveReport, Job, JobId, LeastLoaded, ModelRef, Now,
    Priority, Prompt, Sampling, Scheduler, Settings, Task, Usage, WorkerHealth, WorkerId,
    WorkerInfo, WorkerReport,
    engine::{AttemptEnd, AttemptResult, Effect, Engine, HiveFact, Input},
};

/// Jobs of one round.
const JOBS: usize = 20_000;
const ROUNDS: usize = 9;

fn model(name: &str) -> ModelRef {
    name.parse().expect("well-formed")
}

fn job(number: u128, model: &ModelRef) -> Arc<Job> {
    Arc::new(Job {
        // Spread over the key space, as random names are, but the same ones in every run.
        id: JobId::from_random_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        model: model.clone(),
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
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::new("benchmark").expect("well-formed"),
        idempotency: None,
    })
}

/// An engine, and everything around it that answers at once.
struct Shell {
    engine: Engine,
    policy: LeastLoaded,
    effects: Vec<Effect>,
    inputs: Vec<Input>,
    ended: usize,
    /// Runs of this model never end.
    busy: ModelRef,
}

impl Shell {
    fn new(waiting: usize) -> Self {
        let settings = Settings { queue_capacity: 10_000_000, ..Settings::default() };
        let (busy, free) = (model("busy"), model("free"));
        let mut shell = Self {
            engine: Engine::new(settings, Epoch(1), 1),
            policy: LeastLoaded::default(),
            effects: Vec::new(),
            inputs: Vec::new(),
            ended: 0,
            busy: busy.clone(),
        };
        let hive = HiveId::local();
        let workers = [(1, &busy, 1), (2, &free, 8)].map(|(id, model, slots)| {
            let mut info = WorkerInfo::new(model.clone(), "benchmark");
            (info.id, info.slots) = (WorkerId::from_random_bits(id), slots);
            WorkerReport { info, health: WorkerHealth::default() }
        });
        let names = workers.clone().map(|worker| worker.info.id);
        let report = HiveReport { workers: workers.into(), ..HiveReport::default() };
        for fact in [HiveFact::Added, HiveFact::Report(Box::new(report))] {
            let hive = hive.clone();
            shell.take(Input::Hive { hive, fact });
        }
        for worker in names {
            let result = Ok(());
            shell.take(Input::Connected { worker, result });
        }
        for number in 0..=waiting as u128 {
            let job = job(u128::MAX / 3 + number, &busy);
            shell.take(Input::Submit { job });
        }
        assert_eq!(shell.engine.counters().waiting, waiting);
        shell
    }

    fn take(&mut self, input: Input) {
        self.inputs.push(input);
        while let Some(input) = self.inputs.pop() {
            self.engine.on(Now::default(), input, &mut self.effects);
            for effect in self.effects.drain(..) {
                let answer = match effect {
                    Effect::Place { ticket, ask, .. } => {
                        let answer = self.policy.place(&ask, self.engine.view());
                        Input::Placed { ticket, answer }
                    }
                    Effect::Record { n: Some(n), .. } => Input::Recorded { n, result: Ok(()) },
                    Effect::Start { lease, job, .. } if job.model != self.busy => {
                        let result =
                            AttemptResult::Done { finish: Finish::Stop, usage: Usage::default() };
                        let end = AttemptEnd { result, produced: 1, resumable: true };
                        Input::AttemptEnded { lease, end }
                    }
                    Effect::Finish { .. } => {
                        self.ended += 1;
                        continue;
                    }
                    _ => continue,
                };
                self.inputs.push(answer);
            }
        }
    }
}

fn nanos_each(jobs: &[Arc<Job>], mut serve: impl FnMut(&Arc<Job>)) -> f64 {
    let began = Instant::now();
    jobs.iter().for_each(&mut serve);
    began.elapsed().as_nanos() as f64 / jobs.len() as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let free = model("free");
    let jobs: Vec<_> = (0..JOBS as u128).map(|number| job(number, &free)).collect();
    for waiting in [0, 1_000, 1_000_000] {
        let mut shell = Shell::new(waiting);
        let mut queue: BTreeMap<(u64, JobId), Arc<Job>> = (0..waiting as u64)
            .map(|number| {
                let job = job(u128::MAX / 3 + u128::from(number), &free);
                ((number + 1_000_000_000, job.id), job)
            })
            .collect();
        let (mut engine, mut map, mut order) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            shell.ended = 0;
            engine.push(nanos_each(&jobs, |job| shell.take(Input::Submit { job: job.clone() })));
            assert_eq!(shell.ended, JOBS, "every job ran");
            map.push(nanos_each(&jobs, |job| {
                order += 1;
                queue.insert((order, job.id), job.clone());
                black_box(queue.pop_first());
            }));
        }
        let (engine, map) = (median(engine), median(map));
        println!(
            "{waiting:>9} waiting elsewhere: {:>9.0} jobs/s, {:.2} µs a job; ordered map alone {:.2} µs; ratio {:.1}",
            1e9 / engine,
            engine / 1e3,
            map / 1e3,
            engine / map,
        );
    }
}
