//! Traces: jobs with their arrival times, recorded or generated from a seed.

use std::time::Duration;

use super::JobSketch;
use crate::time::WallTime;

mod recorded;
mod synthetic;

pub use recorded::{Recorded, Recording};

/// A job that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The time since the start of the trace.
    pub at: Duration,
    /// The job.
    pub job: JobSketch,
    /// Its run time on a worker with nothing of its prompt in the cache.
    pub service: Duration,
    /// The length of its answer, in tokens.
    pub tokens: u32,
}

/// Prompt tokens that take as long as one token of the answer: prompts are computed in parallel.
const PREFILL_PER_TOKEN: u64 = 20;

impl Arrival {
    /// The part of the run time for the prompt, in proportion to the numbers of tokens.
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

/// Jobs with their arrival times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The wall clock at its start, for policies that use it.
    pub start: WallTime,
    /// The jobs, in any order.
    pub arrivals: Vec<Arrival>,
}
