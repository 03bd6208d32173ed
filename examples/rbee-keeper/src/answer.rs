//! One answer of a model, streamed by OpenAI's chat completions.

use std::time::{Duration, Instant};

use http::Method;
use rbee_transport_http::wire::{JOB_ID, queen};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Client,
    client::{Events, failure_in},
    failure::Failure,
};

/// How long the queen may take to end a job that is not wanted any more.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";

/// A turn of a conversation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

impl Message {
    pub(crate) fn new(role: &'static str, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// How the answer is made.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub(crate) struct Sampling {
    /// The longest answer, in tokens.
    #[arg(long, value_name = "TOKENS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,

    /// 0 (always the likeliest token) to 2.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,

    /// Only the likeliest tokens that together have this probability.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f32>,

    /// The same seed gives the same answer.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,

    /// A text that ends the answer; may be given up to four times.
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

/// The body of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Chat<'a> {
    pub(crate) model: &'a str,
    pub(crate) messages: &'a [Message],
    #[serde(flatten)]
    pub(crate) sampling: &'a Sampling,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Chat<'a> {
    pub(crate) fn new(model: &'a str, messages: &'a [Message], sampling: &'a Sampling) -> Self {
        let stream_options = StreamOptions { include_usage: true };
        Self { model, messages, sampling, stream: true, stream_options }
    }
}

/// What arrives.
#[derive(Debug)]
pub(crate) enum Part {
    /// A piece of the answer; may be empty. Beside it, the object that it came in, as it came.
    Text(String, Box<RawValue>),
    /// Nothing follows.
    End,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

/// Tokens counted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Answer {
    client: Client,
    events: Events,
    asked: Instant,
    first: Option<Instant>,
    ended: bool,
    pub(crate) job: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<String>,
}

impl Answer {
    /// Asks. The head of the answer arrives once the job is accepted.
    pub(crate) async fn ask(client: &Client, chat: &Chat<'_>) -> Result<Self, Failure> {
        let asked = Instant::now();
        let events = client.post_for_events(queen::CHAT, chat).await?;
        Ok(Self {
            client: client.clone(),
            job: events.header(JOB_ID),
            events,
            asked,
            first: None,
            ended: false,
            usage: None,
            finish: None,
        })
    }

    /// The next part. Dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Part, Failure> {
        if self.ended {
            return Ok(Part::End);
        }
        let Some(event) = self.events.next().await? else {
            return Err(self.events.cut());
        };
        if &event.data[..] == DONE {
            self.ended = true;
            return Ok(Part::End);
        }
        let whole: Value = self.events.read(&event)?;
        if let Some(failure) = failure_in(&whole, None) {
            self.ended = true;
            let id = self.events.correlation_id().to_owned();
            return Err(failure.with_correlation_id(Some(id)));
        }
        let chunk: Chunk = self.events.read(&event)?;
        self.usage = chunk.usage.or(self.usage);
        let mut text = String::new();
        // There is one choice, since `n` is not asked for.
        for choice in chunk.choices {
            text += choice.delta.content.as_deref().unwrap_or_default();
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        if !text.is_empty() {
            self.first.get_or_insert_with(Instant::now);
        }
        Ok(Part::Text(text, self.events.read(&event)?))
    }

    /// Ends the job. It ends too where the queen cannot be told, since nobody reads it any more.
    pub(crate) async fn cancel(self) {
        if let (Some(job), false) = (&self.job, self.ended) {
            let path = queen::JOB.replace("{id}", job);
            let told = self.client.order(Method::DELETE, &path, &());
            // It has ended meanwhile, or the queen is gone; both are as wished.
            let _ = tokio::time::timeout(CANCEL_PATIENCE, told).await;
        }
    }

    /// From the question to the first text.
    pub(crate) fn to_first(&self) -> Option<Duration> {
        Some(self.first? - self.asked)
    }

    /// Tokens per second from the first text on.
    pub(crate) fn speed(&self) -> Option<f64> {
        let (first, usage) = (self.first?, self.usage?);
        let spent = first.elapsed().as_secs_f64();
        (usage.completion_tokens > 1 && spent > 0.0)
            .then(|| f64::from(usage.completion_tokens - 1) / spent)
    }
}
