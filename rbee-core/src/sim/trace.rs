//! Jobs and when they arrive: as recorded, or made up from a seed.

use std::time::Duration;

use super::{JobSketch, SketchTask};
use crate::{EndedJob, JobRecord, JobStatus, Outcome, Task, WallTime};

mod synthetic;

/// A job that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When, counted from the beginning of the trace.
    pub at: Duration,
    /// What is asked.
    pub job: JobSketch,
    /// How long it runs on a worker that has nothing of its prompt computed.
    pub service: Duration,
    /// The length of its answer, in tokens.
    pub tokens: u32,
}

/// Prompt tokens that take as long as one token of the answer: prompts are computed in parallel.
const PREFILL_PER_TOKEN: u64 = 20;

impl Arrival {
    /// The part of the service time that goes into computing the prompt, by the numbers of tokens.
    pub fn prefill(&self) -> Duration {
        let prompt = u64::from(self.job.prompt_tokens);
        let all = prompt + u64::from(self.tokens) * PREFILL_PER_TOKEN;
        share(self.service, prompt, all)
    }
}

/// `part` of `all` of a time.
pub(super) fn share(time: Duration, part: u64, all: u64) -> Duration {
    let micros = time.as_micros() * u128::from(part) / u128::from(all.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Jobs with the times at which they arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The wall clock at its beginning, for policies that look at it.
    pub start: WallTime,
    /// The jobs, in any order.
    pub arrivals: Vec<Arrival>,
}

impl Trace {
    /// What arrived at a queen, from its records, and how many records were passed over: jobs that have not ended, or
    /// not properly, of which nobody knows how long they would have run.
    ///
    /// The service time of a job is the time from its first start to its end. The length of the prompt is as counted by
    /// the worker. What only the request says (prefixes, deadline, longest answer) is there where the request is kept
    /// (setting `keep_requests`); where it is not, a job without a single token of answer counts as one for vectors.
    pub fn from_records(records: &[JobRecord]) -> (Self, usize) {
        let completed = records.iter().filter_map(|record| {
            let (ended, prompt_tokens, tokens) = completion(record)?;
            Some((record, ended.completed_at - ended.started_at?, prompt_tokens, tokens))
        });
        let completed: Vec<_> = completed.collect();
        let start = completed.iter().map(|(record, ..)| record.submitted_at).min();
        let start = start.unwrap_or_default();
        let mut arrivals: Vec<_> = completed
            .into_iter()
            .map(|(record, service, prompt_tokens, tokens)| Arrival {
                at: record.submitted_at - start,
                job: sketch(record, prompt_tokens, tokens),
                service,
                tokens,
            })
            .collect();
        arrivals.sort_by_key(|arrival| arrival.at);
        let passed_over = records.len() - arrivals.len();
        (Self { start, arrivals }, passed_over)
    }
}

fn completion(record: &JobRecord) -> Option<(&EndedJob, u32, u32)> {
    match &record.status {
        JobStatus::Ended(ended @ EndedJob { outcome: Outcome::Complete { usage, .. }, .. }) => {
            Some((ended, usage.prompt_tokens, usage.completion_tokens))
        }
        _ => None,
    }
}

fn sketch(record: &JobRecord, prompt_tokens: u32, tokens: u32) -> JobSketch {
    let job = record.request.as_deref();
    let (task, max_tokens) = match job.map(|job| &job.task) {
        Some(Task::Generate { sampling, .. }) => (SketchTask::Generate, sampling.max_tokens),
        Some(Task::Embed { .. }) => (SketchTask::Embed, None),
        None if tokens == 0 => (SketchTask::Embed, None),
        None => (SketchTask::Generate, None),
    };
    JobSketch {
        model: record.model.clone(),
        task,
        priority: record.priority,
        tenant: record.tenant.clone(),
        prompt_tokens,
        max_tokens,
        deadline_ms: job
            .and_then(|job| job.deadline)
            .map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)),
        prefix: job.map(|job| job.prefix.to_vec()).unwrap_or_default(),
    }
}
