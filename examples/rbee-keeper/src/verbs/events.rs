//! `rbee jobs events`: follows a job.

use std::time::Duration;

use clap::Args;
use rbee_core::JobId;
use rbee_transport_http::wire::{
    ErrorInfo,
    queen::{self, Metrics, Started, job_event},
    sse::Event,
    worker::End,
};
use serde_json::value::RawValue;

use super::jobs;
use crate::{
    Keeper, client,
    failure::{Exit, Failure},
};

/// The waits before each attempt to reconnect after a connection broke. After the last one the command fails.
const PAUSES_MS: [u64; 6] = [200, 500, 1_000, 2_000, 4_000, 8_000];

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The job's id, or the beginning of it
    id: String,

    /// Only events after the one with this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,

    /// Print only the text of the answer
    #[arg(long)]
    text: bool,
}

impl Events {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        super::interruptible(self.follow(keeper)).await
    }

    async fn follow(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let job = jobs::find(keeper, &self.id).await?;
        let mut last = self.after;
        let mut pauses = PAUSES_MS.iter();
        // If the first connection fails, it is not retried: no event was seen yet that must be continued.
        let mut goes_on = false;
        loop {
            let failure = match self.stretch(keeper, job, &mut last, &mut pauses).await {
                Ok(exit) => return Ok(exit),
                Err(failure) if failure.is_broken_connection() => failure,
                Err(failure) => return Err(failure),
            };
            goes_on |= last.is_some() || failure.retry_after().is_some();
            if !goes_on {
                return Err(failure);
            }
            let place = last.map_or_else(String::new, |last| format!(" after event {last}"));
            let Some(pause) = pauses.next() else {
                let after = last.map_or_else(String::new, |last| format!(" --after {last}"));
                return Err(failure.with_hint(format!("`rbee jobs events {job}{after}` continues")));
            };
            keeper.screen.note(&format!("{}; going on{place}", failure.message()));
            // The queen may report that a restart takes longer.
            let pause =
                Duration::from_millis(*pause).max(failure.retry_after().unwrap_or_default());
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows until the end of the job or of the connection.
    async fn stretch(
        &self,
        keeper: &Keeper,
        job: JobId,
        last: &mut Option<u64>,
        pauses: &mut std::slice::Iter<'static, u64>,
    ) -> Result<Exit, Failure> {
        let path = queen::JOB_EVENTS.replace("{id}", &job.to_string());
        let Some(mut events) = keeper.client.events(&path, &(), *last).await? else {
            return Ok(Exit::Ok);
        };
        while let Some(event) = events.next().await? {
            let is_end = matches!(&*event.name, job_event::END | job_event::ERROR);
            if let Some(id) = event.id.as_deref().and_then(|id| id.parse().ok()) {
                // The end of a job may have a smaller number than a token that was read before a crash of the queen.
                if !is_end && last.is_some_and(|last| id <= last) {
                    // It was shown already.
                    continue;
                }
                *last = Some(id);
                // There is progress; the next break has all attempts again.
                *pauses = PAUSES_MS.iter();
            }
            self.show(keeper, &events, &event)?;
            match &*event.name {
                job_event::END => {
                    self.end_of_text(keeper)?;
                    return Ok(Exit::Ok);
                }
                job_event::ERROR => {
                    self.end_of_text(keeper)?;
                    let error: ErrorInfo = events.read(&event)?;
                    return Err(Failure::answered(&error.code, None, error.message)
                        .with_param(error.details.param)
                        .with_correlation_id(error.correlation_id));
                }
                _ => {}
            }
        }
        Err(events.cut())
    }

    fn show(&self, keeper: &Keeper, events: &client::Events, event: &Event) -> Result<(), Failure> {
        let screen = &keeper.screen;
        if screen.is_json() {
            return screen.event(
                event.id.as_deref(),
                &event.name,
                &events.read::<Box<RawValue>>(event)?,
            );
        }
        if self.text {
            if &*event.name == job_event::TOKEN {
                screen.chunk(&events.read::<OwnedToken>(event)?.text)?;
            }
            return Ok(());
        }
        let detail = match &*event.name {
            job_event::STARTED => {
                let started: Started = events.read(event)?;
                let worker = started.worker.map_or_else(
                    || "on a worker that is no longer known".into(),
                    |worker| format!("on worker {worker}"),
                );
                format!("{worker}, after {} ms in the queue", started.queue_ms)
            }
            job_event::TOKEN => format!("{:?}", events.read::<OwnedToken>(event)?.text),
            job_event::METRICS => {
                let metrics: Metrics = events.read(event)?;
                let Metrics { prompt_tokens, prefill_ms, cached_tokens } = metrics;
                let cached = match cached_tokens {
                    Some(tokens) if tokens > 0 => format!(" ({tokens} cached)"),
                    _ => String::new(),
                };
                format!("{prompt_tokens} prompt tokens{cached} in {prefill_ms:.1} ms")
            }
            job_event::VECTORS => {
                let vectors: Vec<Vec<f32>> = events.read(event)?;
                let size = vectors.first().map_or(0, Vec::len);
                format!("{} of {size} numbers", vectors.len())
            }
            job_event::END => {
                let end: End = events.read(event)?;
                let usage = end.usage;
                format!(
                    "{}, {} prompt tokens, {} answer tokens",
                    end.finish.as_str(),
                    usage.prompt_tokens,
                    usage.completion_tokens
                )
            }
            job_event::ERROR => events.read::<ErrorInfo>(event)?.code,
            _ => String::new(),
        };
        let id = event.id.as_deref().unwrap_or("-");
        screen.chunk(&format!("{id:>5}  {:<8} {detail}\n", &*event.name))
    }

    fn end_of_text(&self, keeper: &Keeper) -> Result<(), Failure> {
        if self.text && !keeper.screen.is_json() { keeper.screen.out("\n") } else { Ok(()) }
    }
}

/// A token that does not borrow from its event.
#[derive(serde::Deserialize)]
struct OwnedToken {
    text: String,
}
