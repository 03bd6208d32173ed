//! Traces generated from a seed: a day with bursts, and conversations.

use super::*;
use crate::{
    id::TenantId,
    model_ref::ModelRef,
    prefix::{START, hash},
    priority::Priority,
    rng::Rng,
};

const HOUR: Duration = Duration::from_secs(3600);
/// How many of each hundred jobs arrive in each hour of a day, from midnight on.
const HOURS: [u64; 24] = [1, 1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 8, 6, 7, 8, 8, 7, 6, 5, 4, 3, 3, 2, 2];
/// Bursts of a day.
const BURSTS: u64 = 8;
const BURST: Duration = Duration::from_secs(600);
/// The time for one token of an answer.
const TOKEN: Duration = Duration::from_millis(20);
/// How long people think before they reply: at least and at most, in milliseconds.
const THINKING: (u64, u64) = (20_000, 60_000);

impl Trace {
    /// A day from midnight to midnight: quiet at night, busy in the morning and in the afternoon, with a fifth of the
    /// jobs in short bursts, each of one tenant for one model. A quarter of the jobs is batch. The first models and the
    /// first tenants have more jobs than the last ones. Without models there are no jobs; without tenants the jobs have
    /// no tenant.
    pub fn day(seed: u64, jobs: usize, models: &[ModelRef], tenants: &[TenantId]) -> Self {
        let mut rng = Rng::new(seed);
        let bursts: Vec<_> = (0..BURSTS)
            .map(|_| {
                let at = hour(&mut rng);
                (at, favored(&mut rng, models), favored(&mut rng, tenants))
            })
            .collect();
        let mut arrivals = Vec::new();
        for _ in 0..if models.is_empty() { 0 } else { jobs } {
            let (at, model, tenant, priority) = if rng.below(5) == 0 {
                let (at, model, tenant) = &bursts[rng.below(BURSTS) as usize];
                let at = *at + rng.millis(0, BURST.as_millis() as u64);
                (at, model.clone(), tenant.clone(), Priority::Interactive)
            } else {
                let batch = rng.below(4) == 0;
                let priority = if batch { Priority::Batch } else { Priority::Interactive };
                let at = hour(&mut rng);
                (at, favored(&mut rng, models), favored(&mut rng, tenants), priority)
            };
            let Some(model) = model else { continue };
            // Most are short and a few are long, as in real use.
            let tokens = (8 << rng.below(6)) + rng.below(8) as u32;
            let prompt = (32 << rng.below(6)) + rng.below(32) as u32;
            let mut job = JobSketch::new(model);
            (job.tenant, job.priority, job.prompt_tokens) = (tenant, priority, prompt);
            arrivals.push(arrival(at, job, tokens));
        }
        Self::sorted(arrivals)
    }

    /// People who chat with models: each conversation starts within the span, and the next turn arrives after the last
    /// answer and a time to think. The prompt of a turn is the whole conversation so far, so its prefixes are those of
    /// the previous turn and two more. Conversations share nothing.
    pub fn conversations(
        seed: u64,
        conversations: usize,
        turns: u32,
        span: Duration,
        models: &[ModelRef],
    ) -> Self {
        let mut rng = Rng::new(seed);
        let mut arrivals = Vec::new();
        for number in 0..conversations {
            let Some(model) = favored(&mut rng, models) else { break };
            let mut at = rng.millis(0, span.as_millis() as u64);
            let mut key = hash(hash(START, &seed.to_le_bytes()), &number.to_le_bytes());
            let mut prefix = Vec::new();
            let mut prompt_tokens = 0;
            for turn in 0..turns {
                // The message of the person, and before it the model's last answer.
                for _ in 0..if turn == 0 { 1 } else { 2 } {
                    key = hash(key, &turn.to_le_bytes());
                    prefix.push(key);
                }
                prompt_tokens += 100 + rng.below(400) as u32;
                let tokens = 20 + rng.below(100) as u32;
                let mut job = JobSketch::new(model.clone());
                (job.prompt_tokens, job.prefix) = (prompt_tokens, prefix.clone());
                let arrival = arrival(at, job, tokens);
                at += arrival.service + rng.millis(THINKING.0, THINKING.1);
                prompt_tokens += tokens;
                arrivals.push(arrival);
            }
        }
        Self::sorted(arrivals)
    }

    fn sorted(mut arrivals: Vec<Arrival>) -> Self {
        arrivals.sort_by_key(|arrival| arrival.at);
        Self { start: WallTime::default(), arrivals }
    }
}

/// A random time of the day.
fn hour(rng: &mut Rng) -> Duration {
    let mut left = rng.below(HOURS.iter().sum());
    let mut hour = 0;
    while left >= HOURS[hour] {
        left -= HOURS[hour];
        hour += 1;
    }
    HOUR * hour as u32 + rng.millis(0, HOUR.as_millis() as u64)
}

/// A random element, the first ones more often: the smaller index of two draws is used.
fn favored<T: Clone>(rng: &mut Rng, of: &[T]) -> Option<T> {
    let (one, two) = (rng.below(of.len() as u64), rng.below(of.len() as u64));
    of.get(one.min(two) as usize).cloned()
}

fn arrival(at: Duration, mut job: JobSketch, tokens: u32) -> Arrival {
    job.max_tokens = Some(tokens);
    let prefill = TOKEN * job.prompt_tokens / PREFILL_PER_TOKEN as u32;
    Arrival { at, job, service: TOKEN * tokens + prefill, tokens }
}
