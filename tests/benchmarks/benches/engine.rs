//! Jobs through the state machine alone, with 0, 1,000 and 1,000,000 other jobs waiting: waiting jobs must not make a
//! job more expensive.
//!
//! - *a job*: for a model with free slots, while the others wait for another model. It is submitted, recorded, placed
//!   by the built-in policy, started, ended and recorded again: five inputs.
//! - *an enqueue*: at the end of the queue that the others wait in.
//! - *a decision*: the only slot of that queue's model becomes free; its job ends and is recorded, and the next one is
//!   chosen, placed and started.
//!
//! The baseline in the same run does the least that any queue must: it puts a job into an ordered map of that size and
//! takes the first one out.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use rbee_core::{
    CorrelationId, Finish, HiveId, Job, JobId, LeastLoaded, ModelRef, Priority, Settings, Usage,
    WorkerId, WorkerInfo,
    engine::{AttemptEnd, AttemptResult, Effect, Engine, HiveFact, Input, Submission},
    hive::{HiveInfo, HiveReport, WorkerReport},
    id::{Epoch, LeaseId},
    request::{Prompt, Sampling, Task},
    time::{Now, Time},
    worker::WorkerHealth,
};

/// Jobs of one round.
const JOBS: usize = 20_000;
const ROUNDS: usize = 9;

fn model(name: &str) -> ModelRef {
    name.parse().expect("well-formed")
}

fn job(number: u128, model: &ModelRef) -> Arc<Job> {
    Arc::new(Job {
        // Spread over the key space, as random ids are, but the same ones in every run.
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
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::new("benchmark").expect("well-formed"),
        idempotency: None,
        streamed: true,
    })
}

/// An engine, and everything around it, which answers at once.
struct Shell {
    engine: Engine,
    policy: LeastLoaded,
    effects: Vec<Effect>,
    inputs: Vec<Input>,
    ended: usize,
    /// The model whose jobs end only when the benchmark ends them.
    busy: ModelRef,
    /// The running job of that model.
    running: Option<LeaseId>,
    micros: u64,
    submissions: u64,
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
            running: None,
            micros: 0,
            submissions: 0,
        };
        let hive = HiveId::local();
        let workers = [(1, &busy, 1), (2, &free, 8)].map(|(id, model, slots)| {
            let mut info = WorkerInfo::new(model.clone(), "benchmark");
            (info.id, info.slots) = (WorkerId::from_random_bits(id), slots);
            WorkerReport { info, health: WorkerHealth::default() }
        });
        let names = workers.clone().map(|worker| worker.info.id);
        let mut report = HiveReport::default();
        report.workers = workers.into();
        for fact in [
            HiveFact::Added(Box::new(HiveInfo::http(hive.clone(), "machine", 0))),
            HiveFact::Report(Box::new(report)),
        ] {
            let hive = hive.clone();
            shell.take(Input::Hive { hive, fact });
        }
        for worker in names {
            let result = Ok(());
            shell.take(Input::Connected { worker, result });
        }
        for number in 0..=waiting as u128 {
            shell.enqueue(u128::MAX / 3 + number);
        }
        assert_eq!(shell.engine.counters().waiting, waiting);
        shell
    }

    /// One more job that waits for the busy model.
    fn enqueue(&mut self, number: u128) {
        let job = job(number, &self.busy);
        self.submit(job);
    }

    /// Ends the job of the busy model; the next one starts.
    fn decide(&mut self) {
        let lease = self.running.take().expect("one runs");
        self.take(done(lease));
        assert!(self.running.is_some(), "the next one runs");
    }

    fn submit(&mut self, job: Arc<Job>) {
        self.submissions += 1;
        self.take(Input::Submit(Submission::new(self.submissions, job)));
    }

    fn take(&mut self, input: Input) {
        self.inputs.push(input);
        while let Some(input) = self.inputs.pop() {
            self.micros += 1;
            let now = Now { at: Time::from_micros(self.micros), ..Now::default() };
            self.engine.on(now, input, &mut self.effects);
            for effect in self.effects.drain(..) {
                let answer = match effect {
                    Effect::Consult { ticket, question, ask } => {
                        let advice = question.put_to(&self.policy, &ask, self.engine.view());
                        Input::Advised { ticket, advice }
                    }
                    Effect::Record { n: Some(n), .. } => Input::Recorded { n, result: Ok(()) },
                    Effect::Start { lease, job, .. } if job.model == self.busy => {
                        self.running = Some(lease);
                        continue;
                    }
                    Effect::Start { lease, .. } => done(lease),
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

fn done(lease: LeaseId) -> Input {
    let result =
        AttemptResult::Done { finish: Finish::Stop, usage: Usage::default(), stop_text: None };
    Input::AttemptEnded { lease, end: AttemptEnd { result, produced: 1, resumable: true } }
}

fn micros_each<T>(over: &[T], mut serve: impl FnMut(&T)) -> f64 {
    let began = Instant::now();
    over.iter().for_each(&mut serve);
    began.elapsed().as_nanos() as f64 / over.len() as f64 / 1e3
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let free = model("free");
    let jobs: Vec<_> = (0..JOBS as u128).map(|number| job(number, &free)).collect();
    println!("µs, median of {ROUNDS} rounds of {JOBS}");
    println!("  waiting   a job   an enqueue   a decision   ordered map   a job/map");
    for waiting in [0, 1_000, 1_000_000] {
        let mut shell = Shell::new(waiting);
        let mut queue: BTreeMap<(u64, JobId), Arc<Job>> = (0..waiting as u64)
            .map(|number| {
                let job = job(u128::MAX / 3 + u128::from(number), &free);
                ((number, job.id), job)
            })
            .collect();
        let mut times: [Vec<f64>; 4] = Default::default();
        let (mut order, mut number) = (waiting as u64, u128::MAX / 3 + 10_000_000);
        for _ in 0..ROUNDS {
            shell.ended = 0;
            times[0].push(micros_each(&jobs, |job| shell.submit(job.clone())));
            assert_eq!(shell.ended, JOBS, "every job ran");
            times[1].push(micros_each(&jobs, |_| {
                number += 1;
                shell.enqueue(number);
            }));
            times[2].push(micros_each(&jobs, |_| shell.decide()));
            assert_eq!(shell.engine.counters().waiting, waiting);
            times[3].push(micros_each(&jobs, |job| {
                order += 1;
                queue.insert((order, job.id), job.clone());
                black_box(queue.pop_first());
            }));
        }
        let [job, enqueue, decision, map] = times.map(median);
        println!(
            "{waiting:>9} {job:>7.2} {enqueue:>12.2} {decision:>12.2} {map:>13.2} {:>11.1}",
            job / map
        );
    }
}
