//! Traces from the records of a queen.

use std::{collections::BTreeMap, time::Duration};

use super::{Arrival, Trace};
use crate::{
    error::ErrorKind,
    event::Outcome,
    job::{EndedJob, JobStatus},
    model_ref::ModelRef,
    registry::{JobOutline, JobRecord},
    sim::{JobSketch, SketchTask},
    time::WallTime,
};

/// A trace made from records, and what it leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The jobs.
    pub trace: Trace,
    /// Jobs in the trace that never ran, or not to their end: the run time is unknown, so they get the median of their
    /// model.
    pub estimated: usize,
    /// Jobs in the trace without an [outline](JobOutline): they have neither prefixes nor a deadline.
    pub without_outline: usize,
    /// Records that are not in the trace, by reason: the code of the error, `CANCELLED` if cancelled before they ran,
    /// or `NOT_ENDED`.
    pub left_out: BTreeMap<String, usize>,
}

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// Everything.
    Whole,
    /// It used its slot until it was given up.
    Cut,
    /// Nothing; it ended with this error.
    Unknown(ErrorKind),
}

/// Records that are added one by one, in any order, to make a [`Trace`].
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The arrival time of each job, and its order among those of the same time.
    jobs: Vec<((WallTime, u64), Run, Arrival)>,
    without_outline: usize,
    left_out: BTreeMap<String, usize>,
}

impl Recording {
    /// Adds a record.
    pub fn add(&mut self, record: &JobRecord) {
        let JobStatus::Ended(ended) = &record.status else { return self.leave_out("NOT_ENDED") };
        let ran = ended.started_at.map(|started| ended.completed_at - started);
        let tokens = record.tokens_generated;
        let (run, service, prompt_tokens, tokens) = match (&ended.outcome, ran) {
            (Outcome::Complete { usage, .. }, Some(ran)) => {
                (Run::Whole, ran, usage.prompt_tokens, usage.completion_tokens)
            }
            (Outcome::Cancelled, Some(ran)) => (Run::Cut, ran, 0, tokens),
            (Outcome::Failed(error), Some(ran)) if error.kind() == ErrorKind::JobTimeout => {
                (Run::Cut, ran, 0, tokens)
            }
            // It was served too late for its deadline, or not at all.
            (Outcome::Failed(error), ran)
                if ran.is_none() || error.kind() == ErrorKind::DeadlineExceeded =>
            {
                (Run::Unknown(error.kind()), Duration::ZERO, 0, 0)
            }
            _ => return self.leave_out(code(ended)),
        };
        let is_embedding = matches!(run, Run::Whole) && tokens == 0;
        let job = JobSketch { prompt_tokens, ..self.sketch(record, is_embedding) };
        let arrival = Arrival { at: Duration::ZERO, job, service, tokens };
        self.jobs.push(((record.submitted_at, record.order), run, arrival));
    }

    /// The number of jobs so far.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }

    fn sketch(&mut self, record: &JobRecord, is_embedding: bool) -> JobSketch {
        let of_request = || record.request.as_deref().map(|job| JobOutline::of(job, 0));
        let outline = record.outline.clone().or_else(of_request).unwrap_or_else(|| {
            self.without_outline += 1;
            JobOutline { embed: is_embedding, ..JobOutline::default() }
        });
        JobSketch {
            task: match (outline.embed, outline.rerank) {
                (true, _) => SketchTask::Embed,
                (false, true) => SketchTask::Rerank,
                (false, false) => SketchTask::Generate,
            },
            priority: record.priority,
            tenant: record.tenant.clone(),
            max_tokens: outline.max_tokens,
            deadline_ms: outline.deadline_ms,
            prefix: outline.prefix.to_vec(),
            ..JobSketch::new(record.model.clone())
        }
    }

    /// The trace. Jobs whose run is unknown get the median service time, prompt and answer of the completed jobs of
    /// their model, or of all models if their model has none.
    pub fn finish(mut self) -> Recorded {
        let typical = Typical::of(&self.jobs);
        self.jobs.sort_by_key(|(came, ..)| *came);
        let start = self.jobs.first().map(|((at, _), ..)| *at).unwrap_or_default();
        let mut found = Recorded::default();
        for ((at, _), run, mut arrival) in std::mem::take(&mut self.jobs) {
            arrival.at = at - start;
            if let Run::Unknown(kind) = run {
                let Some(usual) = typical.job(&arrival.job.model) else {
                    self.leave_out(kind.code());
                    continue;
                };
                found.estimated += 1;
                arrival.service = usual.service;
                arrival.tokens = usual.tokens.min(arrival.job.max_tokens.unwrap_or(u32::MAX));
                arrival.job.prompt_tokens = usual.prompt_tokens;
            }
            found.trace.arrivals.push(arrival);
        }
        found.trace.start = start;
        found.without_outline = self.without_outline;
        found.left_out = self.left_out;
        found
    }
}

fn code(ended: &EndedJob) -> &'static str {
    match &ended.outcome {
        Outcome::Failed(error) => error.kind().code(),
        Outcome::Cancelled => ErrorKind::Cancelled.code(),
        // It completed without a recorded start: its run is unknown.
        Outcome::Complete { .. } => "NOT_STARTED",
    }
}

#[derive(Clone, Copy, Debug)]
struct Usual {
    service: Duration,
    prompt_tokens: u32,
    tokens: u32,
}

impl Usual {
    /// The median of each value; they need not be of the same job.
    fn of(mut jobs: Vec<&Arrival>) -> Option<Self> {
        let middle = jobs.len() / 2;
        let mut median = |key: &dyn Fn(&Arrival) -> u64| {
            jobs.sort_unstable_by_key(|arrival| key(arrival));
            jobs.get(middle)
                .map(|arrival| (arrival.service, arrival.job.prompt_tokens, arrival.tokens))
        };
        Some(Self {
            service: median(&|one| u64::try_from(one.service.as_micros()).unwrap_or(u64::MAX))?.0,
            prompt_tokens: median(&|one| one.job.prompt_tokens.into())?.1,
            tokens: median(&|one| one.tokens.into())?.2,
        })
    }
}

/// The usual values of jobs.
struct Typical {
    of_model: BTreeMap<ModelRef, Usual>,
    of_all: Option<Usual>,
}

impl Typical {
    fn of(jobs: &[((WallTime, u64), Run, Arrival)]) -> Self {
        let mut by_model: BTreeMap<&ModelRef, Vec<&Arrival>> = BTreeMap::new();
        for (_, run, arrival) in jobs {
            if matches!(run, Run::Whole) {
                by_model.entry(&arrival.job.model).or_default().push(arrival);
            }
        }
        let of_all = Usual::of(by_model.values().flatten().copied().collect());
        let of_model = by_model.into_iter();
        let of_model = of_model.filter_map(|(model, jobs)| Some((model.clone(), Usual::of(jobs)?)));
        Self { of_model: of_model.collect(), of_all }
    }

    fn job(&self, model: &ModelRef) -> Option<Usual> {
        self.of_model.get(model).copied().or(self.of_all)
    }
}

impl Trace {
    /// The trace of the jobs that arrived at a queue, from its records.
    ///
    /// The service time of a job is the time from its first start to its end, and its prompt is as long as the worker
    /// counted. Jobs that were cancelled or timed out while they ran take a slot for as long as they ran. Jobs that
    /// waited in vain, for a worker or for their deadline, or that failed before they started, are included, with the
    /// median of their model: without them a queue that was too long would look short. The trace names what it leaves
    /// out.
    ///
    /// ```
    /// use rbee_core::sim::Trace;
    ///
    /// let recorded = Trace::from_records(&[]);
    /// assert!(recorded.trace.arrivals.is_empty() && recorded.left_out.is_empty());
    /// ```
    pub fn from_records<'a>(records: impl IntoIterator<Item = &'a JobRecord>) -> Recorded {
        let mut recording = Recording::default();
        records.into_iter().for_each(|record| recording.add(record));
        recording.finish()
    }
}
