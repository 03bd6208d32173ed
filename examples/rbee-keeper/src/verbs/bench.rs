//! `rbee bench`: measures how fast a model answers.

use std::time::{Duration, Instant};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::{
    Keeper,
    answer::{Answer, Message, Part, Question, Sampling},
    failure::{Exit, Failure},
    model_name::ModelArg,
    screen::{Bars, Facts},
};

const PROMPT: &str = "Tell me about a flower.";

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,

    /// Requests at once
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: u32,

    /// Requests in total
    #[arg(long, short = 'n', default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,

    /// The longest answer, in tokens
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    max_tokens: u32,

    /// What to ask
    #[arg(long, default_value = PROMPT)]
    prompt: String,
}

/// The results. Times are milliseconds, speeds are per second.
#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    concurrency: u32,
    requests: u32,
    failed: u32,
    seconds: f64,
    requests_per_second: f64,
    completion_tokens: u64,
    /// Of all answers together, from the first request to the last answer.
    tokens_per_second: f64,
    /// The median rate of one answer, from its first token to its last.
    decode_tokens_per_second: Option<f64>,
    first_token_ms: Option<Spread>,
    whole_answer_ms: Option<Spread>,
}

/// The distribution of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    /// The distribution of these times, or `None` if there are none.
    fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // The nearest rank: the smallest time that this share of the times does not exceed.
        let rank =
            |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)];
        Some(Self { p50: rank(50), p90: rank(90), p99: rank(99), max: sorted[last] })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p90, p99, max } = self;
        write!(f, "p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}

/// The measurements of one answer.
struct One {
    first: Option<Duration>,
    whole: Duration,
    tokens: u32,
    speed: Option<f64>,
}

/// The middle one of these values; `None` if there is none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

impl Bench {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let (screen, model) = (&keeper.screen, &*keeper.model(&self.model)?);
        // The first answer loads the model and shows whether the model exists. It is not counted.
        let warm = async {
            let mut bars = Bars::new(screen);
            bars.show("a first answer, to warm up", Default::default());
            self.one(keeper, model).await
        };
        if let Err(failure) = super::interruptible(warm).await {
            return Err(keeper.with_names(failure, model).await);
        }
        let measured = super::interruptible(self.measure(keeper, model)).await?;
        if screen.is_json() {
            screen.document(&measured)?;
        } else {
            let or_none =
                |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.to_string());
            let mut facts = Facts::default();
            facts.add("model", &measured.model);
            let asked = format!(
                "{} ({} at once, {} failed)",
                measured.requests, measured.concurrency, measured.failed
            );
            facts.add("requests", &asked);
            facts.add("first token", &or_none(measured.first_token_ms));
            facts.add("whole answer", &or_none(measured.whole_answer_ms));
            facts.add("tokens/s", &format!("{:.1} (all requests)", measured.tokens_per_second));
            let decode = measured.decode_tokens_per_second;
            let decode = decode.map_or_else(String::new, |rate| format!("{rate:.1} (one answer)"));
            facts.add("decode tokens/s", &decode);
            facts.add("requests/s", &format!("{:.2}", measured.requests_per_second));
            facts.add("took", &format!("{:.2} s", measured.seconds));
            screen.facts(&facts)?;
        }
        Ok(if measured.failed > 0 { Exit::Failed } else { Exit::Ok })
    }

    async fn measure(&self, keeper: &Keeper, model: &str) -> Result<Measured, Failure> {
        let begin = Instant::now();
        let mut bars = Bars::new(&keeper.screen);
        let mut answers = Vec::new();
        let (mut failed, mut reason) = (0, None);
        let at_once = self.concurrency as usize;
        let mut asked = stream::iter(0..self.requests)
            .map(|_| self.one(keeper, model))
            .buffer_unordered(at_once);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(failure) => {
                    failed += 1;
                    reason = Some(failure);
                }
            }
            let progress = rbee_transport_http::wire::ProgressBody {
                done: answers.len() as u64 + u64::from(failed),
                total: Some(self.requests.into()),
            };
            bars.show("asking", progress);
        }
        drop(bars);
        match reason {
            Some(reason) if answers.is_empty() => return Err(reason),
            Some(reason) => {
                keeper.screen.warn(&format!("{failed} requests failed, one of them: {reason}"))
            }
            None => {}
        }
        let seconds = begin.elapsed().as_secs_f64();
        let tokens: u64 = answers.iter().map(|answer| u64::from(answer.tokens)).sum();
        Ok(Measured {
            model: model.to_owned(),
            concurrency: self.concurrency,
            requests: self.requests,
            failed,
            seconds,
            requests_per_second: answers.len() as f64 / seconds,
            completion_tokens: tokens,
            tokens_per_second: tokens as f64 / seconds,
            decode_tokens_per_second: median(answers.iter().filter_map(|answer| answer.speed)),
            first_token_ms: Spread::of(answers.iter().filter_map(|answer| answer.first)),
            whole_answer_ms: Spread::of(answers.iter().map(|answer| answer.whole)),
        })
    }

    async fn one(&self, keeper: &Keeper, model: &str) -> Result<One, Failure> {
        let sampling = Sampling { max_tokens: Some(self.max_tokens), ..Sampling::default() };
        let messages = [Message::new("user", self.prompt.as_str())];
        let begin = Instant::now();
        let question = Question::chat(model, &messages, &sampling);
        let mut answer = Answer::ask(&keeper.client, &question).await?;
        while let Part::Text(..) = answer.next().await? {}
        let tokens = answer.usage.unwrap_or_default().completion_tokens;
        Ok(One { first: answer.to_first(), whole: begin.elapsed(), tokens, speed: answer.speed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = (1..=100).map(Duration::from_millis);
        let expected = Spread { p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 };
        assert_eq!(Spread::of(times), Some(expected));
        let one = Spread { p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 };
        assert_eq!(Spread::of([Duration::from_millis(7)].into_iter()), Some(one));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
