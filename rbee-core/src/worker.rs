//! The [`Worker`] trait: one loaded model.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{AnswerFormat, ThinkingSwitch},
    error::{Error, ErrorKind, Result},
    event::Output,
    id::{HiveId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    task::{Prompt, Sampling, Task},
};

#[cfg(feature = "test-util")]
mod echo;

#[cfg(feature = "test-util")]
pub use echo::{EchoBuilder, EchoFault, EchoGate, EchoRun, EchoWorker};

/// The capabilities of a worker. Other fields may be added, so create it from its default, which has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// True if it continues text.
    pub generate: bool,
    /// True if it makes vectors.
    pub embed: bool,
    /// True if it scores documents by their relevance to a query.
    #[serde(default)]
    pub rerank: bool,
    /// True if it can continue from tokens that another worker generated, and draws the same random numbers at the same
    /// position: a stream continued here is the same stream.
    pub resume: bool,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: Option<u32>,
    /// True if a run without output has an [`Output::Heartbeat`] in its stream after every step of the computation that
    /// ends later than half a second after the last output. The step itself sends it: if the computation hangs, the
    /// heartbeats stop.
    #[serde(default)]
    pub heartbeats: bool,
    /// True if it sends [log probabilities](crate::request::Sampling::logprobs).
    #[serde(default)]
    pub logprobs: bool,
    /// True if it honors [`logit_bias`](crate::request::Sampling::logit_bias).
    #[serde(default)]
    pub logit_bias: bool,
    /// True if it honors [`presence_penalty`](crate::request::Sampling::presence_penalty) and
    /// [`frequency_penalty`](crate::request::Sampling::frequency_penalty).
    #[serde(default)]
    pub penalties: bool,
    /// True if it honors [`min_tokens`](crate::request::Sampling::min_tokens).
    #[serde(default)]
    pub min_tokens: bool,
    /// True if it enforces a [`Grammar`](crate::request::Grammar), and calls of tools that are required.
    #[serde(default)]
    pub grammar: bool,
    /// True if it writes what goes between two texts ([`Prompt::Infill`]).
    #[serde(default)]
    pub infill: bool,
    /// The syntax of tool calls and reasoning in its answers. Without that of tool calls it gets no jobs with tools.
    #[serde(default)]
    pub answer: AnswerFormat,
    /// That of reasoning if a request turns thinking on or off; `None` if its model has no such switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<ThinkingSwitch>,
}

impl Capabilities {
    /// Returns true if a worker with these capabilities can do the task as it is: no part of it would be ignored.
    pub fn can(&self, task: &Task) -> bool {
        match task {
            Task::Generate { prompt, sampling } => {
                self.generate && self.unsupported_param(prompt, sampling).is_none()
            }
            Task::Embed { .. } => self.embed,
            Task::Rerank { .. } => self.rerank,
        }
    }

    /// The syntax of the answer to this prompt.
    pub fn answer_to(&self, prompt: &Prompt) -> AnswerFormat {
        let thinking = match prompt {
            Prompt::Chat(chat) => chat.thinking,
            Prompt::Text(_) | Prompt::Raw(_) | Prompt::Infill { .. } => None,
        };
        match (self.thinking, thinking) {
            (Some(switch), Some(true)) => AnswerFormat { reasoning: switch.on, ..self.answer },
            (Some(switch), Some(false)) => AnswerFormat { reasoning: switch.off, ..self.answer },
            (_, None) | (None, _) => self.answer,
        }
    }

    /// The syntax of the answer to this task.
    pub(crate) fn answer_of(&self, task: &Task) -> AnswerFormat {
        match task {
            Task::Generate { prompt, sampling } => {
                let can_call = matches!(prompt, Prompt::Chat(chat) if chat.can_call());
                let calls_alone = can_call && sampling.grammar.is_some();
                AnswerFormat { calls_alone, ..self.answer_to(prompt) }
            }
            Task::Embed { .. } | Task::Rerank { .. } => self.answer,
        }
    }

    /// The first parameter that such a worker would ignore.
    fn unsupported_param(&self, prompt: &Prompt, sampling: &Sampling) -> Option<&'static str> {
        let has_tools = matches!(prompt, Prompt::Chat(chat) if chat.has_tools());
        let has_required_calls = matches!(prompt, Prompt::Chat(chat) if chat.requires_call());
        let is_infill = matches!(prompt, Prompt::Infill { .. });
        let params = [
            ("suffix", self.infill || !is_infill),
            ("tools", self.answer.tools.is_some() || !has_tools),
            ("tool_choice", self.grammar || !has_required_calls),
            ("response_format", self.grammar || sampling.grammar.is_none()),
            ("logprobs", self.logprobs || sampling.logprobs.is_none()),
            ("logit_bias", self.logit_bias || sampling.logit_bias.is_empty()),
            ("presence_penalty", self.penalties || sampling.presence_penalty == 0.0),
            ("frequency_penalty", self.penalties || sampling.frequency_penalty == 0.0),
            ("min_tokens", self.min_tokens || sampling.min_tokens == 0),
        ];
        params.into_iter().find(|(_, fits)| !fits).map(|(name, _)| name)
    }
}

/// The identity of a worker: fixed for its lifetime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name.
    pub id: WorkerId,
    /// The hive it belongs to.
    pub hive: HiveId,
    /// Its loaded model.
    pub model: ModelRef,
    /// The engine, for example `candle`.
    pub backend: Arc<str>,
    /// The devices of its hive that it runs on, by index.
    pub devices: Vec<u32>,
    /// Its address; `None` for a worker inside this process.
    pub url: Option<Arc<str>>,
    /// The most concurrent runs; at least 1.
    pub slots: u32,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Everything that the exact numbers depend on: engine, build, instruction set or device, data types. A stream is
    /// continued only on a worker with equal numerics, because only there it is the same stream.
    pub numerics: Arc<str>,
    /// The revision of the hive's state at which the worker appeared: an older report says nothing about it.
    pub since: u64,
}

impl WorkerInfo {
    /// A worker of this process that generates text with one slot; change the fields that differ.
    ///
    /// ```
    /// use rbee_core::WorkerInfo;
    ///
    /// let mut info = WorkerInfo::new("my-model".parse()?, "my-engine");
    /// info.slots = 4;
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    pub fn new(model: ModelRef, backend: impl Into<Arc<str>>) -> Self {
        Self::named(WorkerId::random(), model, backend)
    }

    /// The error for a task that this worker [cannot do](Capabilities::can).
    pub fn incapable(&self, task: &Task) -> Error {
        let (model, id, backend) = (&self.model, self.id, &self.backend);
        let unsupported = |message: String| Error::new(ErrorKind::Unsupported, message);
        let what = match task {
            Task::Generate { prompt, sampling } => {
                if self.capabilities.generate
                    && let Some(param) = self.capabilities.unsupported_param(prompt, sampling)
                {
                    let why = match param {
                        "tools" => {
                            "takes no tools: the model has no chat template, or its engine is not configured for tools"
                        }
                        _ => "does not know the parameter",
                    };
                    let message = format!(
                        "{param} is not supported by model {model}: worker {id} ({backend}) has it loaded and {why}"
                    );
                    return unsupported(message)
                        .with_client_message(format!("{param} is not supported by this model"))
                        .with_param(param);
                }
                "generate text"
            }
            Task::Embed { .. } => "make vectors",
            Task::Rerank { .. } => "rerank documents",
        };
        unsupported(format!(
            "model {model} cannot {what}: worker {id} ({backend}) has it loaded and cannot"
        ))
        .with_client_message(format!("the model cannot {what}"))
    }

    /// The same for a worker whose id is known.
    pub(crate) fn named(id: WorkerId, model: ModelRef, backend: impl Into<Arc<str>>) -> Self {
        let backend = backend.into();
        Self {
            id,
            hive: HiveId::local(),
            model,
            numerics: backend.clone(),
            backend,
            devices: Vec::new(),
            url: None,
            slots: 1,
            capabilities: Capabilities { generate: true, ..Capabilities::default() },
            since: 0,
        }
    }
}

/// The health of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHealth {
    /// Current runs.
    pub busy: u32,
    /// Keys of the prompt prefixes that it has computed and kept in memory (the queen computes the keys:
    /// [`Job::prefix`]).
    pub warm: Vec<u64>,
    /// Its memory on its devices, in bytes, if known.
    pub vram_bytes: Option<u64>,
}

/// The part of a job that is already done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Tokens generated so far. Their number is the position at which the sampling continues.
    pub tokens: Vec<u32>,
    /// The number of text bytes that readers have received: the rest was held back, and must be sent again.
    pub text_bytes: usize,
}

impl Resume {
    /// True if there is nothing to continue.
    pub fn is_empty(&self) -> bool {
        // Text without tokens is the answer of a worker that reports no ids: it cannot be continued, but it is there.
        self.tokens.is_empty() && self.text_bytes == 0
    }
}

/// The input of a worker for one attempt at a job.
#[derive(Clone, Debug)]
pub struct Run {
    /// The job.
    pub job: Arc<Job>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The output of earlier attempts.
    pub resume: Resume,
}

/// The stream that a worker returns: outputs, the last of them an [`Output::End`], or an error at any point.
pub type OutputStream = BoxStream<'static, Result<Output>>;

/// One loaded model.
///
/// Test implementations with [`conformance::worker`](crate::conformance::worker) (feature `conformance`).
///
/// ```
/// use std::sync::Arc;
/// use rbee_core::{async_trait, worker::WorkerHealth, Finish, Output, OutputStream, Result, Run, Usage, Worker, WorkerInfo};
///
/// /// Says one word.
/// #[derive(Debug)]
/// struct Parrot(Arc<WorkerInfo>);
///
/// #[async_trait]
/// impl Worker for Parrot {
///     fn info(&self) -> &Arc<WorkerInfo> {
///         &self.0
///     }
///     async fn execute(&self, _run: Run) -> Result<OutputStream> {
///         let usage = Usage { prompt_tokens: 1, completion_tokens: 1, ..Usage::default() };
///         Ok(Box::pin(futures_util::stream::iter([
///             Ok(Output::Token { id: None, text: "hello".into(), logprobs: None }),
///             Ok(Output::End { finish: Finish::Stop, usage, stop_text: None }),
///         ])))
///     }
///     async fn health(&self) -> Result<WorkerHealth> {
///         Ok(WorkerHealth::default())
///     }
/// }
/// ```
#[async_trait]
pub trait Worker: fmt::Debug + Send + Sync + 'static {
    /// Its identity.
    fn info(&self) -> &Arc<WorkerInfo>;

    /// Begins a run. Dropping the future or the stream cancels it, within 200 ms or between two tokens.
    ///
    /// The queen drains the stream as fast as it produces; a worker need not buffer more than a few outputs.
    ///
    /// # Errors
    /// An error here means that nothing was produced. [`ErrorKind::WorkerBusy`] if all
    /// slots are taken, [`ErrorKind::ContextExceeded`] if the prompt is too long,
    /// [`ErrorKind::Unsupported`] for a run beyond its capabilities. With the parameter
    /// `messages` it means that the model has no chat template, and that bare text can be sent instead.
    async fn execute(&self, run: Run) -> Result<OutputStream>;

    /// Its health. Must answer during runs.
    async fn health(&self) -> Result<WorkerHealth>;

    /// The number of tokens of the prompt of this task, as the model reads it: a conversation with its template. A
    /// prompt that is longer than the context is counted too. Takes no slot, and must answer during runs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a parameter, the default, if the engine cannot count them. Otherwise as
    /// [`execute`](Self::execute) refuses the prompt.
    async fn count_tokens(&self, _task: Arc<Task>) -> Result<u32> {
        let message = format!("worker {} cannot count the tokens of a prompt", self.info().id);
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// A shared worker is a worker.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<W: Worker + ?Sized> Worker for Arc<W> {
    fn info(&self) -> &Arc<WorkerInfo> {
        (**self).info()
    }
    async fn execute(&self, run: Run) -> Result<OutputStream> {
        (**self).execute(run).await
    }
    async fn health(&self) -> Result<WorkerHealth> {
        (**self).health().await
    }
    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        (**self).count_tokens(task).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::ReasoningFormat::{Think, Thinking},
        chat::{Chat, Message, Role},
    };

    #[test]
    fn the_syntax_of_an_answer_follows_the_switch_for_thinking() {
        let capabilities = |thinking| Capabilities {
            answer: AnswerFormat { reasoning: Some(Thinking), ..AnswerFormat::default() },
            thinking,
            ..Capabilities::default()
        };
        let switch = ThinkingSwitch { on: Some(Thinking), off: Some(Think) };
        let with_switch = capabilities(Some(switch));
        let reasoning = |worker: &Capabilities, thinking| {
            let chat = Chat { thinking, ..vec![Message::new(Role::User, "Hi")].into() };
            worker.answer_to(&Prompt::Chat(chat)).reasoning
        };
        let all = [None, Some(true), Some(false)];
        let found = all.map(|thinking| reasoning(&with_switch, thinking));
        assert_eq!(found, [Some(Thinking), Some(Thinking), Some(Think)]);
        let found = all.map(|thinking| reasoning(&capabilities(None), thinking));
        assert_eq!(found, [Some(Thinking); 3]);
    }

    #[test]
    fn a_worker_that_would_ignore_a_parameter_cannot_do_the_task() {
        type Case = (&'static str, fn(&mut Sampling), fn(&mut Capabilities));
        let cases: [Case; 5] = [
            ("logprobs", |s| s.logprobs = Some(0), |c| c.logprobs = true),
            ("logit_bias", |s| s.logit_bias = [(1, 1.0)].into(), |c| c.logit_bias = true),
            ("presence_penalty", |s| s.presence_penalty = -0.5, |c| c.penalties = true),
            ("frequency_penalty", |s| s.frequency_penalty = 0.5, |c| c.penalties = true),
            ("min_tokens", |s| s.min_tokens = 1, |c| c.min_tokens = true),
        ];
        // What a worker of an older version says of itself.
        let old = r#"{"generate":true,"embed":false,"resume":true,"context_tokens":512}"#;
        let old: Capabilities = serde_json::from_str(old).unwrap();
        let task = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            Task::Generate { prompt: Prompt::Text("Hi".into()), sampling }
        };
        assert!(old.can(&task(|_| {})) && !old.can(&Task::embed(["x"])));
        assert!(!old.can(&Task::rerank("q", ["x"])));
        let mut worker = WorkerInfo::new("bee".parse().unwrap(), "engine");
        worker.capabilities = old.clone();
        for (param, uses, has) in cases {
            assert!(!old.can(&task(uses)), "{param}");
            let error = worker.incapable(&task(uses));
            assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some(param)));
            assert!(error.message().starts_with(param), "{error}");
            let mut able = old.clone();
            has(&mut able);
            assert!(able.can(&task(uses)), "{param}");
            able.generate = false;
            assert!(!able.can(&task(uses)), "{param}");
        }
        let error = worker.incapable(&Task::embed(["x"]));
        assert!(error.message().starts_with("model bee cannot make vectors"), "{error}");
        let error = worker.incapable(&Task::rerank("q", ["x"]));
        assert!(error.message().starts_with("model bee cannot rerank documents"), "{error}");
    }
}
