//! One answer of a model, streamed with OpenAI's chat completions or completions.

mod rate;

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
use rate::DecodeRate;

/// The timeout for cancelling a job.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";

/// A message of a conversation.
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

/// Options for generating the answer.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub(crate) struct Sampling {
    /// The longest answer, in tokens; by default what fits into the model's context, and 256 for the continuation of a
    /// text.
    #[arg(long, value_name = "TOKENS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,

    /// From 0 (always the most likely token) to 2; 1 by default.
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,

    /// Use only the most likely tokens that together have this probability, up to 1; 1, all of them, by default.
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f32>,

    /// The same seed gives the same answer; by default each request has another one.
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,

    /// A text that ends the answer; up to four can be given.
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

/// The body of a request: a conversation, or a text to continue.
#[derive(Debug, Serialize)]
pub(crate) struct Question<'a> {
    model: &'a str,
    #[serde(flatten)]
    input: Input<'a>,
    #[serde(flatten)]
    sampling: &'a Sampling,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Input<'a> {
    Messages(&'a [Message]),
    Prompt(&'a str),
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Question<'a> {
    /// A conversation that the model answers.
    pub(crate) fn chat(model: &'a str, messages: &'a [Message], sampling: &'a Sampling) -> Self {
        Self::new(model, Input::Messages(messages), sampling)
    }

    /// A text that the model continues.
    pub(crate) fn continuation(model: &'a str, text: &'a str, sampling: &'a Sampling) -> Self {
        Self::new(model, Input::Prompt(text), sampling)
    }

    fn new(model: &'a str, input: Input<'a>, sampling: &'a Sampling) -> Self {
        let stream_options = StreamOptions { include_usage: true };
        Self { model, input, sampling, stream: true, stream_options }
    }

    /// The model, as it is requested.
    pub(crate) fn model(&self) -> &str {
        self.model
    }

    fn path(&self) -> &'static str {
        match self.input {
            Input::Messages(_) => queen::CHAT,
            Input::Prompt(_) => queen::COMPLETIONS,
        }
    }
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Part {
    /// A chunk of the answer, which may be empty, and the object that contained it, unchanged.
    Text(String, Box<RawValue>),
    /// The end of the answer.
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
    /// The text of a completion, which has no `delta`.
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

/// The number of tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
    prompt_tokens_details: Option<PromptTokensDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PromptTokensDetails {
    #[serde(default)]
    cached_tokens: u32,
}

impl Usage {
    /// Tokens of the prompt that the worker had cached, for a message.
    pub(crate) fn cached(self) -> String {
        let cached = self.prompt_tokens_details.unwrap_or_default().cached_tokens;
        if cached == 0 { String::new() } else { format!(" ({cached} cached)") }
    }
}

/// An answer that is being streamed.
#[derive(Debug)]
pub(crate) struct Answer {
    client: Client,
    events: Events,
    asked: Instant,
    rate: DecodeRate,
    ended: bool,
    pub(crate) job: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<String>,
}

impl Answer {
    /// Sends the question. Returns once the job is accepted.
    pub(crate) async fn ask(client: &Client, question: &Question<'_>) -> Result<Self, Failure> {
        let asked = Instant::now();
        let events = client.post_for_events(question.path(), question).await?;
        Ok(Self {
            client: client.clone(),
            job: events.header(JOB_ID),
            events,
            asked,
            rate: DecodeRate::default(),
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
        // There is one choice, because the request does not set `n`.
        let mut is_last = false;
        for choice in chunk.choices {
            is_last |= choice.finish_reason.is_some();
            text += choice.delta.content.or(choice.text).as_deref().unwrap_or_default();
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        // The token that ends an answer has no text; an answer without any text has no rate.
        if !text.is_empty() || (is_last && self.rate.first().is_some()) {
            self.rate.arrived(self.events.received());
        }
        Ok(Part::Text(text, self.events.read(&event)?))
    }

    /// Cancels the job. If the queen cannot be reached, the job ends anyway, because nobody reads it any more.
    pub(crate) async fn cancel(self) {
        if let (Some(job), false) = (&self.job, self.ended) {
            let path = queen::JOB.replace("{id}", job);
            let told = self.client.order(Method::DELETE, &path, &());
            // The job has ended already, or the queen is gone. Both are fine.
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, told).await;
        }
    }

    /// The time from the question to the first text.
    pub(crate) fn to_first(&self) -> Option<Duration> {
        Some(self.rate.first()?.saturating_duration_since(self.asked))
    }

    /// Tokens per second from the first token to the last; `None` if it cannot be measured.
    pub(crate) fn speed(&self) -> Option<f64> {
        self.rate.per_second(self.usage?.completion_tokens)
    }
}
