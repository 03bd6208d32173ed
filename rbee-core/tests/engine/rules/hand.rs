//! An engine whose inputs are given by hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, Finish, HiveId, Job, JobId, LeastLoaded, ModelRef, Outcome, Placement,
    Scheduler, Settings, Usage, WorkerId, WorkerInfo, WorkerSpec,
    engine::{
        Advice, AttemptEnd, AttemptResult, Command, CommandOutput, Decider, Effect, Engine,
        HiveFact, Input, Question, Submission,
    },
    id::{Epoch, LeaseId, Ticket},
    time::{Now, Time, WallTime},
};

use super::parts;

pub(crate) struct Hand {
    pub engine: Engine,
    pub now: Time,
    /// How far the wall clock is ahead of `now`, in milliseconds.
    pub wall_ahead: i64,
    /// The effects of the last input, including records and their answers.
    pub effects: Vec<Effect>,
    /// True if the built-in policy answers questions at once.
    pub answers: bool,
    /// True if records are answered at once.
    pub records: bool,
    /// True if suspected workers report at once that they are healthy.
    pub probes_succeed: bool,
    /// Questions asked since this was last cleared.
    pub asked: Vec<(Ticket, JobId)>,
    /// Admission questions; they are answered by hand.
    pub admissions: Vec<(Ticket, JobId)>,
    pub submissions: u64,
    /// The first attempt on each worker.
    pub first_leases: BTreeMap<WorkerId, LeaseId>,
}

impl Hand {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            engine: Engine::new(settings, Epoch(1), 7),
            now: Time::default(),
            wall_ahead: 0,
            effects: Vec::new(),
            answers: true,
            records: true,
            probes_succeed: true,
            asked: Vec::new(),
            admissions: Vec::new(),
            submissions: 0,
            first_leases: BTreeMap::new(),
        }
    }

    /// One hive, `hive-0`, with these workers, which may be evicted at once.
    pub(crate) fn with(workers: &[WorkerInfo]) -> Self {
        let mut hand = Self::new(Settings { min_loaded: Duration::ZERO, ..Settings::default() });
        hand.hive(0, parts::added());
        hand.report(0, 1, workers);
        hand.connect(workers);
        hand
    }

    pub(crate) fn connect(&mut self, workers: &[WorkerInfo]) {
        for info in workers {
            self.feed(Input::Connected { worker: info.id, result: Ok(()) });
        }
    }

    /// `hive-n` reports: models 0 and 1 on its disk, and these workers.
    pub(crate) fn report(&mut self, n: usize, rev: u64, workers: &[WorkerInfo]) {
        let models = [parts::model(0), parts::model(1)];
        let report = parts::report(rev, models, workers.iter().cloned());
        self.hive(n, HiveFact::Report(Box::new(report)));
    }

    pub(crate) fn hive(&mut self, n: usize, fact: HiveFact) {
        let hive = parts::hive(n);
        self.feed(Input::Hive { hive, fact });
    }

    pub(crate) fn feed(&mut self, input: Input) {
        self.effects.clear();
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            for input in std::mem::take(&mut inputs) {
                let wall = (self.now.as_micros() / 1000).saturating_add_signed(self.wall_ahead);
                let wall = WallTime::from_millis(wall);
                let mut out = Vec::new();
                self.engine.on(Now { at: self.now, wall }, input, &mut out);
                for effect in out {
                    match &effect {
                        Effect::Consult { ticket, question: Question::Place(_), ask } => {
                            self.asked.push((*ticket, ask.job.id));
                            if self.answers {
                                let question = Question::Place(Decider::BuiltIn);
                                let built_in = LeastLoaded::default();
                                let advice = question.put_to(&built_in, ask, self.engine.view());
                                inputs.push(Input::Advised { ticket: *ticket, advice });
                            }
                        }
                        Effect::ChooseHive { ticket, ask, request } if self.answers => {
                            let candidates = request.candidates(self.engine.view());
                            let answer = candidates
                                .and_then(|seen| LeastLoaded::default().place(ask, &seen));
                            inputs.push(Input::HiveChosen { ticket: *ticket, answer });
                        }
                        Effect::Consult { ticket, question: Question::Admit, ask } => {
                            self.admissions.push((*ticket, ask.job.id));
                        }
                        Effect::Probe { worker, within } => {
                            let is_suspected = *within < Settings::default().probe_timeout;
                            if is_suspected && self.probes_succeed {
                                let result = Ok(Default::default());
                                inputs.push(Input::Probed { worker: *worker, result });
                            }
                        }
                        Effect::Start { lease, worker, .. } => {
                            self.first_leases.entry(*worker).or_insert(*lease);
                        }
                        Effect::Record { n: Some(n), .. } if self.records => {
                            inputs.push(Input::Recorded { n: *n, result: Ok(()) });
                        }
                        _ => {}
                    }
                    self.effects.push(effect);
                }
            }
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.feed(Input::Tick);
    }

    pub(crate) fn submit(&mut self, job: Job) {
        self.submissions += 1;
        self.feed(Input::Submit(Submission::new(self.submissions, Arc::new(job))));
    }

    /// Submits job `n` for model `model`.
    pub(crate) fn job(&mut self, n: u128, model: usize) {
        self.submit(parts::job(n, parts::model(model)));
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, placement: Placement) {
        self.feed(Input::Advised { ticket, advice: Advice::Placement(placement) });
    }

    pub(crate) fn end(&mut self, lease: LeaseId, result: AttemptResult, produced: u32) {
        let end = AttemptEnd { result, produced, resumable: true };
        self.feed(Input::AttemptEnded { lease, end });
    }

    pub(crate) fn done(&mut self, lease: LeaseId) {
        let (finish, usage) = (Finish::Stop, Usage::default());
        self.end(lease, AttemptResult::Done { finish, usage, stop_text: None }, 1);
    }

    pub(crate) fn fail(&mut self, lease: LeaseId, kind: ErrorKind) {
        self.end(lease, AttemptResult::Failed(error(kind)), 0);
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<(), Error> {
        self.order(1, command);
        self.output(1).expect("a command is answered").map(drop)
    }

    /// Gives a command this number; it may be answered later.
    pub(crate) fn order(&mut self, n: u64, command: Command) {
        self.feed(Input::Command { n, command });
    }

    /// The answer to the command of this number, from the last input.
    pub(crate) fn output(&self, n: u64) -> Option<Result<CommandOutput, Error>> {
        self.find(|effect| match effect {
            Effect::Answer { n: command, result } if *command == n => Some(result.clone()),
            _ => None,
        })
    }

    pub(crate) fn find<T>(&self, of: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        self.effects.iter().find_map(of)
    }

    pub(crate) fn all<T>(&self, of: impl Fn(&Effect) -> Option<T>) -> Vec<T> {
        self.effects.iter().filter_map(of).collect()
    }

    /// The attempts that the last input started.
    pub(crate) fn starts(&self) -> Vec<(LeaseId, JobId, WorkerId)> {
        self.all(|effect| match effect {
            Effect::Start { lease, job, worker, .. } => Some((*lease, job.id, *worker)),
            _ => None,
        })
    }

    pub(crate) fn start(&self) -> (LeaseId, JobId, WorkerId) {
        match self.starts()[..] {
            [start] => start,
            ref starts => panic!("expected one start, found {starts:?}: {:?}", self.effects),
        }
    }

    pub(crate) fn spawns(&self) -> Vec<(WorkerId, HiveId, WorkerSpec)> {
        self.all(|effect| match effect {
            Effect::Spawn { worker, hive, spec } => Some((*worker, hive.clone(), spec.clone())),
            _ => None,
        })
    }

    pub(crate) fn stops(&self) -> Vec<WorkerId> {
        self.all(|effect| match effect {
            Effect::Stop { worker, .. } => Some(*worker),
            _ => None,
        })
    }

    pub(crate) fn finishes(&self) -> Vec<(JobId, Outcome)> {
        self.all(|effect| match effect {
            Effect::Finish { job, outcome } => Some((*job, outcome.clone())),
            _ => None,
        })
    }

    /// The kind of error of the only job that ended.
    pub(crate) fn failure(&self) -> ErrorKind {
        match &self.finishes()[..] {
            [(_, Outcome::Failed(error))] => error.kind(),
            other => panic!("expected one failed job, found {other:?}"),
        }
    }

    pub(crate) fn probes(&self) -> usize {
        self.all(|effect| matches!(effect, Effect::Probe { .. }).then_some(())).len()
    }

    /// The time until the engine's next timer.
    pub(crate) fn next(&self) -> Duration {
        self.engine.next_wake().expect("an alarm") - self.now
    }

    pub(crate) fn spawned(&mut self, worker: WorkerId, info: WorkerInfo) {
        let result = Ok(Arc::new(info));
        self.feed(Input::Spawned { worker, result });
    }
}

pub(crate) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "made up")
}

/// Worker `n` of `hive-0`.
pub(crate) fn worker(n: u128, model: usize, slots: u32) -> WorkerInfo {
    parts::info(parts::worker(n), parts::hive(0), parts::model(model), slots)
}

pub(crate) fn spawn(model: ModelRef, slots: u32, evict: Vec<WorkerId>) -> Placement {
    Placement::Spawn { hive: parts::hive(0), spec: parts::spec(model, slots), evict }
}
